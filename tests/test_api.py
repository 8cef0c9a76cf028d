"""The library as a Python user has it: ``import movieplotgpt as mp``."""

from __future__ import annotations

import doctest
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import movieplotgpt as mp
from movieplotgpt.config import build_settings
from movieplotgpt.generation.settings import SamplingConfig, SamplingKeywords
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.training.events import Evaluated, Finished, Started, StepDone
from movieplotgpt.training.run import RunFolder

TABLE: dict[str, Any] = {"title_column": "Title", "text_column": "Plot"}
QUICK: dict[str, Any] = {
    "model.size": "tiny",
    "training.tokens_per_step": 256,
    "model.context_length": 64,
    "training.compile": "off",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, plots_csv: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a table of invented films."""
    shutil.copy(plots_csv, tmp_path / "films.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal, also where whoever started the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "PlotGenerator"])
def test_the_examples_in_docstrings_run(name: str, tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    save_checkpoint(Path("model"), tiny_checkpoint(context_length=256))
    mp.prepare("films.csv", "data", title_column="Title", text_column="Plot", progress=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = doctest.DocTestFinder(recurse=False).find(getattr(mp, name), name, globs={name: getattr(mp, name)})
    assert sum(len(test.examples) for test in tests) >= 2
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_a_table_becomes_a_model_in_one_call() -> None:
    run = mp.train("films.csv", **TABLE, settings=QUICK, steps=4, out="run", progress=False)
    assert run.folder == Path("run") and run.settings.training.steps == 4 and run.finished is None
    assert any("characters of text" in note for note in run.notes)
    events = [*run]
    assert isinstance(events[0], Started) and sum(isinstance(event, StepDone) for event in events) == 4
    assert run.finished == events[-1] and isinstance(events[-1], Finished) and events[-1].reason == "complete"
    assert run.finish() == events[-1] and [*run] == []
    assert run.checkpoint.info["training"]["step"] == 4
    assert run.generator.plot("The Last Tram", max_tokens=5, seed=1).tokens == 5
    assert {path.name for path in Path("run").iterdir()} >= {"last", "best", "data", "metrics.jsonl", "samples.md"}


def test_a_text_that_was_prepared_is_not_prepared_again() -> None:
    mp.prepare("films.csv", "data", **TABLE, progress=False)
    asked: dict[str, Any] = {"data": "data", "settings": QUICK, "steps": 2, "progress": False}
    assert mp.train("films.csv", **TABLE, **asked, out="run").finish().step == 2
    assert not Path("run/data").exists()
    with pytest.raises(mp.ConfigError, match=r"data does not hold films\.csv prepared with these settings"):
        mp.train("films.csv", text_column="Plot", **asked, out="other")


def test_the_model_may_be_asked_for_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    generator = mp.train("films.csv", **TABLE, settings=QUICK, steps=3, progress=False).generator
    assert generator.checkpoint.folder and generator.checkpoint.folder.parent == Path("runs/films")
    assert capsys.readouterr() == ("", "")
    mp.train("films.csv", **TABLE, settings=QUICK, steps=3, out="other").finish()
    out, err = capsys.readouterr()
    assert out == "" and "complete after 3 steps" in err


def test_a_run_that_is_left_is_saved_and_resumed() -> None:
    asked: dict[str, Any] = {"settings": QUICK, "steps": 6, "out": "run", "progress": False}
    with mp.train("films.csv", **TABLE, **asked) as run:
        next(event for event in run if isinstance(event, StepDone))
    assert run.finished and (run.finished.reason, run.finished.step) == ("interrupted", 2)
    resumed = mp.train("films.csv", **TABLE, **asked, resume=True)
    started = next(resumed)
    assert isinstance(started, Started) and started.step == 2
    assert resumed.finish().step == 6
    whole = mp.train("films.csv", **TABLE, **{**asked, "out": "whole"})
    whole.finish()
    weights = [Path(name, "last", "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1]
    with pytest.raises(mp.ConfigError, match=r"optimizer\.learning_rate=0\.5 is not what the run in run began with"):
        mp.train(
            "films.csv", **TABLE, settings={"optimizer.learning_rate": 0.5}, out="run", resume=True, progress=False
        )


def test_a_run_that_is_given_up_leaves_its_folder_to_others() -> None:
    run = mp.train("films.csv", **TABLE, settings=QUICK, steps=6, out="run", progress=False)
    next(run)
    with pytest.raises(mp.TrainingError, match=r"another process .* is training"), RunFolder(Path("run")).taken():
        pass
    del run
    with RunFolder(Path("run")).taken():
        pass


def test_what_fails_leaves_the_folder_to_others() -> None:
    with pytest.raises(mp.DataError, match="Story"):
        mp.train("films.csv", text_column="Story", out="run", progress=False)
    with RunFolder(Path("run")).taken():
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="signals of POSIX")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_saves() -> None:
    run = mp.train("films.csv", **TABLE, settings=QUICK, steps=10_000, out="run", progress=False)
    before = signal.getsignal(signal.SIGINT)
    for event in run:
        if isinstance(event, StepDone):
            break
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    finished = run.finish()
    assert finished.reason == "interrupted" and 1 < finished.step < 10_000
    assert run.checkpoint.info["training"]["step"] == finished.step
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="signals of POSIX")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_a_loop_over_events_saves() -> None:
    run = mp.train("films.csv", **TABLE, settings=QUICK, steps=10_000, out="run", progress=False)
    steps = 0
    for event in run:
        if isinstance(event, StepDone):
            steps += 1
            if steps == 2:
                threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert run.finished and run.finished.reason == "interrupted" and run.finished.step < 10_000
    assert run.generator.plot("Ada", max_tokens=3, seed=1).tokens == 3


def test_a_training_that_fails_is_named_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: object) -> float:
        raise mp.TrainingError("the score is damaged")

    monkeypatch.setattr("movieplotgpt.recipe.training_run.validation_scorer", lambda corpus: broken)
    run = mp.train("films.csv", **TABLE, settings=QUICK, steps=2, out="run", progress=False)
    with pytest.raises(mp.TrainingError, match=r"^the score is damaged$"), run:
        for _ in run:
            pass
    with pytest.raises(mp.TrainingError, match=r"the training in run failed \(the score is damaged\); resume it"):
        run.generator  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"metrics": ["title"]}, "metrics: 'title' is unknown; choose from likelihood, compressors, titles"),
        ({"metrics": "titles"}, "metrics: 't' is unknown"),
        ({"split": "tset"}, "split: 'tset' is unknown; choose from train, validation, test"),
        ({"device": "cdua"}, "device: 'cdua' is unknown"),
        ({"precision": "int32"}, "precision: 'int32' is unknown"),
    ],
)
def test_unknown_choices_of_an_evaluation_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(mp.ConfigError, match=said):
        mp.evaluate("plots-bpe", "data", **arguments)


def test_none_turns_a_setting_off() -> None:
    settings = {**QUICK, "training.gradient_clip": None}
    run = mp.train("films.csv", **TABLE, settings=settings, steps=2, out="run", progress=False)
    assert run.settings.training.gradient_clip is None


def test_a_model_is_fine_tuned_and_measured() -> None:
    first = mp.train("films.csv", **TABLE, settings=QUICK, steps=3, out="first", progress=False)
    first.finish()
    second = mp.train(
        "films.csv", **TABLE, settings={"training.compile": "off"}, steps=2, from_="first", out="second", progress=False
    )
    assert second.checkpoint.tokenizer.to_json() == first.checkpoint.tokenizer.to_json()
    assert second.checkpoint.info["trained_before"][0]["step"] == 3
    evaluation = mp.evaluate(second.folder, second.folder / "data", metrics=[], out="scores.json", progress=False)
    assert evaluation.model == "second" and evaluation.likelihood.bits_per_character > 1
    written = json.loads(Path("scores.json").read_text(encoding="utf-8"))
    assert written["likelihood"]["bits_per_character"] == evaluation.likelihood.bits_per_character
    scored = [event for event in second if isinstance(event, Evaluated)]
    assert scored == [], "its events are over"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"minutes": 1, "steps": 2}, "minutes=1 and steps=2 exclude each other; give one of minutes, steps and epochs"),
        ({"from_": "m", "size": "tiny"}, "from_=m keeps that model's size; leave size=tiny out"),
        (
            {"from_": "m", "resume": True},
            "resume=True continues the run's own weights; leave from_=m out, or resume=True",
        ),
        (
            {"source": "films.csv"},
            "films.csv is the text to train on; leave source=films.csv out, or name a TOML instead of the text",
        ),
        ({"settings": {"optimizer.learning_rte": 1}}, "learning_rate"),
    ],
)
def test_contradictions_are_refused_in_the_words_of_python(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(mp.ConfigError) as caught:
        mp.train("films.csv", **TABLE, **arguments, progress=False)
    assert said in str(caught.value) and "--" not in str(caught.value)
    assert not Path("runs").exists()


def test_a_settings_file_needs_a_text() -> None:
    Path("run.toml").write_text('[corpus]\nkind = "plain"\n', encoding="utf-8")
    with pytest.raises(mp.ConfigError, match=r"run\.toml holds settings; name the text to prepare with source=FILE"):
        mp.prepare("run.toml", "data")
    with pytest.raises(mp.ConfigError, match="nothing to train on is named; name a text with source=FILE"):
        mp.train("run.toml", steps=1, progress=False)
    with pytest.raises(mp.ConfigError, match=r"text_column='Plot' is for a table; run\.toml names the columns itself"):
        mp.train("run.toml", source="films.csv", text_column="Plot", steps=1, progress=False)


def test_keywords_are_the_settings_of_the_sampler() -> None:
    assert SamplingKeywords.__annotations__.keys() == SamplingConfig.model_fields.keys()
    build_settings(SamplingConfig, {}, where="sampling")


SCRIPT = """
import movieplotgpt as mp

run = mp.train("films.csv", text_column="Plot", minuts=5)
plot = mp.PlotGenerator.load("plots-bpe").plot("Mars", temprature=0.8)
mp.evaluate("plots-bpe", "data", spilt="test")
mp.prepare("films.csv", "data", text_colum="Plot")
size: int = mp.PlotGenerator.load("plots-bpe").plot("Mars", temperature=0.8).text
run.generator.plot("Mars", hints={"Decade": "1970s"}, n=1, stop=["x"])
"""


@pytest.mark.slow
def test_a_misspelt_keyword_fails_in_mypy() -> None:
    Path("script.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "script.py"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=600)
    lines = [line.partition(": error: ")[::2] for line in checked.stdout.splitlines() if ": error: " in line]
    assert [(where, what.partition('"')[2].partition('"')[0]) for where, what in lines] == [
        ("script.py:4", "minuts"),
        ("script.py:5", "temprature"),
        ("script.py:6", "spilt"),
        ("script.py:7", "text_colum"),
        ("script.py:8", "str"),
    ], checked.stdout

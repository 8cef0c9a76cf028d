"""A study is a grid of runs: what it plans, and that what is done stays done."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.cli import main
from movieplotgpt.errors import ConfigError, TrainingError
from movieplotgpt.model.sizes import training_flops_per_token
from movieplotgpt.recipe.process import command
from movieplotgpt.sharing.runners import Runner
from movieplotgpt.study.grid import Cell, Study
from movieplotgpt.study.results import load_results
from movieplotgpt.study.running import _Commands, steps_for
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunFolder

StudyOf = Callable[..., Path]
FLOPS = 3e10
SHADOW = """import os, sys
open(os.environ["EXECUTED"], "a").write("json")
raise SystemExit("a file of the working folder was run")
"""
PLAIN = ('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1e9]")


def test_choices_are_made_by_the_validation_split(study_of: StudyOf, tmp_path: Path) -> None:
    assert Study.read(study_of(*PLAIN), tmp_path).settings.split == "validation"


def test_no_module_of_the_working_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may hold a json.py of anybody's."""
    for name in ("json", "torch", "movieplotgpt"):
        (tmp_path / f"{name}.py").write_text(SHADOW, encoding="utf-8")
    monkeypatch.setenv("EXECUTED", str(tmp_path / "executed"))
    source = str(Path(__file__).resolve().parents[2] / "src")
    monkeypatch.setenv("PYTHONPATH", source)
    monkeypatch.chdir(tmp_path)
    done = subprocess.run([sys.executable, "-c", "import json"], capture_output=True, check=False)
    assert done.returncode != 0 and Path("executed").exists(), "without -P they would be"
    Path("executed").unlink()
    with pytest.raises(TrainingError, match="nowhere"):
        _Commands().run(tmp_path / "log", command("evaluate", {"model": "plots-bpe", "data": "nowhere"}), {})
    program = "import json, sys, os, subprocess\n"
    program += "subprocess.run([sys.executable, '-c', 'import json'], check=True)\n"
    program += "print(json.dumps({'ids': [], 'written': [7], 'ended': False}))"
    Path("program.py").write_text(program, encoding="utf-8")
    assert Runner("a program", "json", Path("program.py")).write(tmp_path, [1], 1).tokens == [7]
    assert not Path("executed").exists()


@pytest.fixture
def study_of(tmp_path: Path, films_toml: Path, monkeypatch: pytest.MonkeyPatch) -> StudyOf:
    """``study_of('sizes = ["tiny"]', ...)``: a study's TOML with these lines in its grid."""
    monkeypatch.chdir(tmp_path)

    def made(*grid: str, shared: str = "") -> Path:
        path = tmp_path / "study.toml"
        fast = '"training.tokens_per_step=256", "model.context_length=64", "training.compile=off", "training.evaluations=2"'
        path.write_text(
            f'config = "{films_toml.name}"\nset = [{fast}]\n{shared}\n[[grid]]\n' + "\n".join(grid), encoding="utf-8"
        )
        return path

    return made


def test_a_grid_is_every_combination_once(study_of: StudyOf, tmp_path: Path) -> None:
    path = study_of(
        'sizes = ["tiny", "mini"]',
        'tokenizers = ["char", "bpe-300"]',
        "seeds = [1, 2]",
        "flops = [1e9]",
        "[[grid]]",
        'sizes = ["tiny"]',
        'tokenizers = ["char"]',
        "flops = [1e9]",
    )
    cells = Study.read(path, tmp_path / "out").cells
    assert len(cells) == 8 == len({cell.name for cell in cells})
    assert Cell("mini", "bpe-300", "flops", 1e9, 2) in cells
    assert {cell.name for cell in cells} >= {"tiny-char-1e+09-flops-1", "mini-bpe-300-1e+09-flops-2"}


def test_any_setting_may_vary(study_of: StudyOf, tmp_path: Path) -> None:
    vary = 'vary = { "optimizer.learning_rate" = [0.01, 2e-3], "training.dropout" = [0, 0.5], "schedule.shape" = ["linear"] }'
    study = Study.read(study_of(*PLAIN, vary.replace(', "schedule.shape" = ["linear"]', "")), tmp_path / "out")
    configs = [study.run_config(cell) for cell in study.cells]
    assert [(one.optimizer.learning_rate, one.training.dropout) for one in configs] == [
        *((0.01, 0), (0.01, 0.5), (0.002, 0), (0.002, 0.5))
    ]
    assert study.cells[1].name == "tiny-char-1e+09-flops-1-optimizer.learning_rate=0.01-training.dropout=0.5"
    with pytest.raises(ConfigError, match=r"schedule\.shape"):
        Study.read(study_of(*PLAIN, vary), tmp_path / "out")


def test_equal_flops_are_equal(study_of: StudyOf, plots_csv: Path, tmp_path: Path) -> None:
    path = study_of('sizes = ["tiny", "mini"]', 'tokenizers = ["char", "bpe-300"]', "flops = [1e12]")
    study = Study.read(path, tmp_path / "out")
    study.prepare(plots_csv)
    for cell in study.cells:
        corpus, config = PreparedCorpus.load(study.data(cell)), study.run_config(cell)
        assert corpus.tokenizer.kind == config.tokenizer.kind == cell.tokenizer.partition("-")[0]
        network = config.model.model_config_for(corpus.tokenizer.vocab_size)
        cost = steps_for(config, corpus, 1e12) * config.training.tokens_per_step * training_flops_per_token(network)
        assert cost == pytest.approx(1e12, rel=0.01)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (('sizes = ["tiny"]', 'tokenizers = ["char"]'), "one of flops, epochs and minutes, not none"),
        (('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1]", "epochs = [1]"), "not flops and epochs"),
        (('sizes = ["tiny"]', 'tokenizers = ["bpe"]', "flops = [1]"), "bpe-4096, not 'bpe'"),
        (('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [-1]"), "greater than 0"),
        (('sizes = ["huge"]', 'tokenizers = ["char"]', "flops = [1]"), "'huge'"),
        (('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1]", "nose = 1"), "unknown setting grid.0.nose"),
        ((*PLAIN, 'vary = { "training.steps" = [1] }'), "training.steps is not varied: sizes"),
        ((*PLAIN, 'vary = { "cleaning.ascii" = [true] }'), "cleaning.ascii is not varied: .* the text is one"),
        ((*PLAIN, 'vary = { "training.dropout" = [] }'), "training.dropout varies over no value"),
    ],
)
def test_what_does_not_fit_is_said(study_of: StudyOf, tmp_path: Path, grid: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Study.read(study_of(*grid), tmp_path / "out")


def test_without_a_text_it_is_asked_for(study_of: StudyOf, tmp_path: Path) -> None:
    study = Study.read(study_of('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1e9]"), tmp_path / "out")
    with pytest.raises(ConfigError, match="source=FILE"):
        study.prepare(None)


def test_text_that_was_prepared_otherwise_is_not_taken_for_this(
    study_of: StudyOf, plots_csv: Path, tmp_path: Path
) -> None:
    grid = ('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1e9, 1.0000001e9]")
    study = Study.read(study_of(*grid), tmp_path / "out")
    assert len({cell.name for cell in study.cells}) == 2, "amounts that differ in their last digits are two runs"
    study.prepare(plots_csv)
    study.prepare(None)
    config = study.config.read_text(encoding="utf-8")
    study.config.write_text(config + "\n[split]\ntest = 0.3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="char was prepared with another split; give the text with source=FILE"):
        Study.read(study_of(*grid), tmp_path / "out").prepare(None)


@pytest.mark.slow
def test_a_study_that_is_killed_trains_only_what_is_missing(
    study_of: StudyOf, plots_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ('sizes = ["tiny", "mini", "small"]', 'tokenizers = ["char", "bpe-300"]', f"flops = [{FLOPS}]")
    path = study_of(*grid, shared="memorisation = true")
    command = ["compare", str(path), "--source", str(plots_csv), "--out", "out"]
    started = subprocess.Popen([sys.executable, "-m", "movieplotgpt", *command], start_new_session=True)
    kept = Path("out/evaluations")
    deadline = time.monotonic() + 300
    while len(list(kept.glob("*.json"))) < 2 and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    before = {one.name: one.stat().st_mtime_ns for one in kept.glob("*.json")}
    assert 2 <= len(before) < 6
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert f"{len(before)} of 6 runs are done already" in err and "6 of 6" in err
    after = {one.name: one.stat().st_mtime_ns for one in kept.glob("*.json")}
    assert len(after) == 6 and before.items() <= after.items()
    results = load_results(Path("out/study.json"))
    assert len(results.rows) == 6
    for row in results.rows:
        assert row.flops == pytest.approx(FLOPS, rel=0.35)  # whole steps
        assert row.minutes > 0 and row.epochs > 0 and row.curve
    assert [law.tokenizer for law in results.laws] == ["char", "bpe-300"]
    assert all(law.sizes == {} and law.text is None for law in results.laws)  # at an equal cost there is none
    assert out.startswith("# out\n") and "- at 3e+10 flops take " in out
    assert len(list(Path("out/figures").glob("*.svg"))) == len(list(Path("out/figures").glob("*.png"))) == 4
    assert all(row.read_bits and row.by_heart is not None for row in results.rows)
    assert "| bits per character of text it has read | of that verbatim |" in out
    lines = Path("out/study.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 7 and lines[0].startswith("size,tokenizer,budget")
    assert main(command) == 0
    assert "6 of 6 runs are done already" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_that_is_ended_ends_its_trainings_and_goes_on(study_of: StudyOf, plots_csv: Path) -> None:
    path = study_of('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1e12]")
    command = [sys.executable, "-m", "movieplotgpt", "compare", str(path), "--source", str(plots_csv), "--out", "out"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (lines := list(Path("out/runs").glob("*/metrics.jsonl"))) or not lines[0].stat().st_size:
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    run = lines[0].parent
    started.send_signal(signal.SIGTERM)
    assert "interrupted" in started.communicate(timeout=120)[1] and started.returncode == 130
    assert (run / "last" / "training").exists()  # the training saved itself
    with RunFolder(run).taken(), RunFolder(Path("out")).taken():
        pass  # and both have ended


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_its_words(
    study_of: StudyOf, plots_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_of('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1e9]")
    path.write_text(path.read_text(encoding="utf-8").replace("context_length=64", "context_length=100000"), "utf-8")
    assert main(["compare", str(path), "--source", str(plots_csv), "--out", "out"]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("movieplotgpt: tiny-char-1e+09-flops-1 failed: the training text has ") and ".log" in err


@pytest.mark.slow
def test_a_run_that_fails_keeps_no_other_from_being_told(
    study_of: StudyOf, plots_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_of('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1e9]", "seeds = [1, 2]")
    study = Study.read(path, Path("out"))
    study.prepare(plots_csv)
    bad = study.run(study.cells[0]).last / "training"
    bad.mkdir(parents=True)  # a run to go on with, but nothing in it
    assert main(["compare", str(path), "--out", "out"]) == 1
    out, err = capsys.readouterr()
    assert f"{study.cells[0].name} failed" in err and "continues with what is missing" in err
    assert (
        "- at 1e+09 flops tiny with char, the only one" in out and len(load_results(Path("out/study.json")).rows) == 1
    )


@pytest.mark.slow
def test_what_varies_is_trained_and_told(
    study_of: StudyOf, plots_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_of(*PLAIN, 'vary = { "optimizer.learning_rate" = [0.0001, 0.02] }')
    assert main(["compare", str(path), "--source", str(plots_csv), "--out", "out"]) == 0
    slow, fast = load_results(Path("out/study.json")).rows
    assert slow.changes == ("optimizer.learning_rate=0.0001",) and slow.bits_per_character > fast.bits_per_character
    out, err = capsys.readouterr()
    assert "take tiny with char, optimizer.learning_rate=0.02: " in out
    longer, expected = [line.partition(": movieplotgpt ")[2] for line in err.splitlines()[-2:]]
    assert "optimizer.learning_rate=0.02 --size tiny --minutes 30" in longer
    assert main([*shlex.split(longer.replace("--minutes 30", "--steps 2")), "--out", "longer"]) == 0
    asked = json.loads(Path("longer/last/movieplotgpt.json").read_text(encoding="utf-8"))
    assert asked["settings"]["optimizer"]["learning_rate"] == 0.02
    capsys.readouterr()
    assert main(shlex.split(expected)) == 0
    assert "has no law for char (it tried char, optimizer" in capsys.readouterr().out


@pytest.mark.slow
def test_another_setting_is_another_run(study_of: StudyOf, plots_csv: Path, tmp_path: Path) -> None:
    grid = ('sizes = ["tiny"]', 'tokenizers = ["char"]', "flops = [1e9]")
    study = Study.read(study_of(*grid), tmp_path / "out")
    study.prepare(plots_csv)
    (cell,) = study.cells
    key = study.key(cell)
    assert key.startswith(f"{cell.name}-") and key == Study.read(study_of(*grid), tmp_path / "out").key(cell)
    assert key != Study.read(study_of(*grid, shared='split = "test"'), tmp_path / "out").key(cell)
    text = plots_csv.read_text(encoding="utf-8")
    plots_csv.write_text(text.replace("lighthouse", "windmill"), encoding="utf-8")
    study.prepare(plots_csv)
    assert key != study.key(cell)

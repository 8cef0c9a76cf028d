"""``movieplotgpt train``: from a TOML or a text to a model that the other commands take; nothing on disk is lost."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.cli import main
from movieplotgpt.errors import StorageError
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunFolder

Run = Callable[..., tuple[int, str, str]]
WITH_DECADES = """
[corpus.hints]
Decade = { kind = "decade", column = "Release Year" }

[format]
hints = ["Decade"]

[model]
size = "tiny"

[training]
minutes = 30
tokens_per_step = 384
evaluations = 2
"""
TINY = [
    *("model.n_layer=1", "model.n_embd=16", "model.n_head=1", "model.head_dim=16", "model.n_ff=32"),
    *("model.context_length=192", "training.compile=off", "training.precision=float32"),
]
FAST = ["training.compile=off", "training.precision=float32"]  # where the dimensions are another model's


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Training takes the signals over; pytest needs them back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def run(
    tmp_path: Path,
    films_toml_in: Callable[..., Path],
    plots_csv: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """``run(command, ...)`` in a folder with films.toml and plots.csv: exit code, stdout, stderr."""
    films_toml_in(tmp_path, WITH_DECADES)
    assert plots_csv.parent == tmp_path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("movieplotgpt.training.sizing.training_speed", lambda *_: 5e10)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def train(run: Run) -> Run:
    """``train(...)`` from films.toml and plots.csv into runs/films, with tiny dimensions."""

    def call(*arguments: str, source: str = "plots.csv", out: str = "runs/films") -> tuple[int, str, str]:
        return run("train", "films.toml", *TINY, "--source", source, "--out", out, *arguments)

    return call


def files(folder: str | Path) -> dict[str, bytes]:
    """Every file below ``folder``, and what it holds."""
    paths = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def weights(folder: str) -> bytes:
    return Path(folder, "model.safetensors").read_bytes()


def test_trained_model_works_in_other_commands(run: Run, train: Run) -> None:
    code, out, err = train("--steps", "4")
    assert (code, out) == (0, "")
    for said in (
        "preparing plots.csv into runs/films/data",
        "device cpu: ",
        "precision float32: as asked",
        "compile off: as asked",
        "384 tokens a step",
        "step 2: validation ",
        "step 4: validation ",
        "complete after 4 steps",
        'done; try: movieplotgpt generate --model runs/films --title "..."',
    ):
        assert said in err
    folder = Path("runs/films")
    assert {path.name for path in folder.iterdir()} >= {"best", "last", "data", "metrics.jsonl", "samples.md"}
    assert (folder / "last" / "training").is_dir() and not (folder / "best" / "training").exists()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if line["event"] == "step"] == [0, 1, 2, 3]
    evaluated = [line for line in lines if line["event"] == "evaluated"]
    assert [line["step"] for line in evaluated] == [2, 4]
    assert all(f"validation {line['bits_per_character']:.4f} bits per character" in err for line in evaluated)
    samples = (folder / "samples.md").read_text(encoding="utf-8")
    assert "## step 4\n\nThe plot summary of the movie named '" in samples
    code, text, _ = run("generate", "--model", "runs/films", "--title", "Ada", "--decade", "1970s", "--max-tokens", "9")
    assert code == 0 and text
    code, text, err = run("evaluate", "runs/films", "--data", "runs/films/data", "--metrics", "titles", "--json")
    assert (code, err) == (0, ""), "it knows the corpus for its own"
    assert json.loads(text)["likelihood"]["bits_per_character"] > 0
    code, text, _ = run("info", "runs/films", "--json")
    assert code == 0 and json.loads(text)["training"]["step"] == 4


def test_the_loss_figure_is_drawn_or_said_to_be_missing(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    train("--steps", "2", out="with")
    assert Path("with/loss.svg").read_bytes().startswith(b"<?xml")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = train("--steps", "2", out="without")
    assert code == 0 and not Path("without/loss.svg").exists()
    assert "no loss figure: this needs matplotlib, which is not installed; pip install 'movieplotgpt[plots]'" in err


def test_what_was_prepared_before_gives_the_same_model(run: Run, train: Run) -> None:
    assert run("prepare", "films.toml", "--source", "plots.csv", "--out", "data")[0] == 0
    before = files("data")
    code, out, err = run("train", "films.toml", *TINY, "--data", "data", "--steps", "3", "--out", "runs/a")
    assert (code, out) == (0, "") and "preparing" not in err
    assert files("data") == before
    assert not Path("runs/a/data").exists()
    train("--steps", "3", out="runs/b")
    assert weights("runs/a/last") == weights("runs/b/last")


def test_a_source_is_prepared_once(train: Run) -> None:
    train("--steps", "2")
    stamp = Path("runs/films/data/manifest.json").stat().st_mtime_ns
    for part in ("last", "best"):
        Path("runs/films", part).rename(part)
    assert "preparing" not in train("--steps", "2")[2]
    assert Path("runs/films/data/manifest.json").stat().st_mtime_ns == stamp
    for part in ("last", "best"):
        Path("runs/films", part).rename(f"second {part}")
    assert "preparing" in train("--steps", "2", "split.seed=5")[2], "other settings are another corpus"


def test_the_run_is_named_after_its_config_or_text(run: Run, text_of: Callable[[int], str]) -> None:
    texts = ["my.book.v1.txt", "my.book.v2.txt", ".hidden.txt", "letters/one.txt"]
    for name in texts:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text_of(9_000), encoding="utf-8")
    assert run("train", "films.toml", "--source", "plots.csv", "--steps", "1", *TINY)[0] == 0
    for text in (*texts[:3], "letters"):
        assert run("train", text, "--steps", "1", *TINY)[0] == 0
    assert {path.parent.as_posix() for path in Path().rglob("last")} == {
        *("runs/films", "runs/my.book.v1", "runs/my.book.v2", "runs/hidden", "runs/letters")
    }


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_a_text_whose_name_is_not_utf8_trains(run: Run, text_of: Callable[[int], str]) -> None:
    source = os.fsdecode(b"caf\xe9.txt")
    Path(source).write_text(text_of(9_000), encoding="utf-8")
    code, _, err = run("train", source, "--steps", "1", *TINY)
    assert code == 0, err
    assert [path.name for path in Path("runs").iterdir()] == ["caf\ufffd"]
    assert run("train", source, "--steps", "1", *TINY, "--resume")[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_trains(run: Run, text_of: Callable[[int], str]) -> None:
    os.mkfifo("pipe")
    text = text_of(9_000)
    Path("poems.txt").write_text(text, encoding="utf-8")
    writer = subprocess.Popen(["dd", "if=poems.txt", "of=pipe", "bs=1M", "status=none"])
    code, _, err = run("train", "pipe", "--steps", "1", *TINY)
    assert (code, writer.wait()) == (0, 0), err
    assert f"{len(text):,} characters of text" in err


def test_the_folder_one_is_in_gives_the_run_its_name(
    run: Run, text_of: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("poems").mkdir()
    monkeypatch.chdir("poems")
    Path("one.txt").write_text(text_of(9_000), encoding="utf-8")
    assert run("train", ".", "--steps", "1", *TINY)[0] == 0
    assert [path.name for path in Path("runs").iterdir()] == ["poems"]
    code, _, err = run("train", ".", "--steps", "1", *TINY, "--resume")
    assert code == 0 and "is not the text" not in err


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--steps", "2"], {"steps": 2, "minutes": None, "epochs": None}),
        (["training.steps=2"], {"steps": 2, "minutes": None, "epochs": None}),
        (["--epochs", "0.01"], {"steps": None, "minutes": None, "epochs": 0.01}),
        (["training.seed=7", "--steps", "2"], {"seed": 7, "steps": 2}),
        (["--steps", "2", "training.evaluations=1", "optimizer.kind=adamw"], {"evaluations": 1}),
    ],
)
def test_lengths_and_overrides_take_the_place_of_the_files(train: Run, flags: list[str], kept: dict[str, Any]) -> None:
    assert train(*flags)[0] == 0
    settings = load_checkpoint("runs/films/last").info["settings"]
    assert {name: settings["training"][name] for name in kept} == kept
    assert settings["model"]["n_embd"] == 16
    assert settings["optimizer"]["kind"] == ("adamw" if "optimizer.kind=adamw" in flags else "muon")


def test_a_size_by_name_is_the_network_s(train: Run) -> None:
    cut = ["model.n_layer=none", "model.n_embd=none", "model.n_head=none", "model.head_dim=none", "model.n_ff=none"]
    assert train("--size", "tiny", "--steps", "1", "training.tokens_per_step=192", *cut)[0] == 0
    config = load_checkpoint("runs/films/last").model.config
    assert (config.n_layer, config.n_embd, config.n_head) == (4, 128, 1)


def test_a_text_alone_is_enough(run: Run, text_of: Callable[[int], str]) -> None:
    Path("mytext.txt").write_text(text_of(20_000), encoding="utf-8")
    code, out, err = run("train", "mytext.txt", "--epochs", "13", *TINY)
    assert (code, out) == (0, "")
    assert "characters of text: single characters" in err
    assert "5 timed steps promise 0.05 TFLOP/s: the network given (" in err
    assert "about 13 passes over the text fit the budget: a text this small will be memorised after about 12" in err
    settings = load_checkpoint("runs/mytext/last").info["settings"]
    assert (settings["model"]["size"], settings["training"]["dropout"]) == ("tiny", 0.2), "what was chosen is kept"
    code, text, _ = run("generate", "--model", "runs/mytext", "--input", "Ada finds", "--max-tokens", "9")
    assert code == 0 and text.startswith("Ada finds")
    assert run("evaluate", "runs/mytext", "--data", "runs/mytext/data", "--metrics", "titles")[0] == 0


def test_the_minutes_choose_what_a_text_is_trained_with(
    run: Run, text_of: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mytext.txt").write_text(text_of(9_000), encoding="utf-8")
    from movieplotgpt.recipe import settings as recipe
    from movieplotgpt.training import quickstart

    asked: list[float] = []
    suggest = quickstart.suggest

    def noting(*arguments: Any, minutes: float, **options: Any) -> quickstart.Suggestion:
        asked.append(minutes)
        return suggest(*arguments, minutes=minutes, **options)

    monkeypatch.setattr(recipe, "suggest", noting)
    code, _, err = run("train", "mytext.txt", "--minutes", "0.01", *TINY)
    assert code == 0 and asked == [0.01]
    assert "0.01 minutes are " in err
    settings = load_checkpoint("runs/mytext/last").info["settings"]["training"]
    assert (settings["minutes"], settings["steps"]) == (0.01, None)


def test_two_runs_do_not_share_a_folder(train: Run) -> None:
    with RunFolder(Path("runs/films")).taken():
        code, out, err = train("--steps", "2")
        assert (code, out) == (1, "")
        assert re.fullmatch(
            rf"movieplotgpt: another process \(process {os.getpid()} on .+, since .+\) is training in runs/films; wait for it "
            r"to end, or name another folder with --out FOLDER\n",
            err,
        )
        assert sorted(files("runs/films")) == [".in-use.json", ".in-use.lock"]
    assert not Path("runs/films").exists()
    with RunFolder(Path("runs/films")).taken():
        assert train("--steps", "2", out="runs/other")[0] == 0
    assert train("--steps", "2")[0] == 0


def test_a_student_learns_from_its_teachers(run: Run, train: Run) -> None:
    fixed = ["--steps", "4", "training.evaluations=1"]
    for seed in (1, 2):
        train(*fixed, f"training.seed={seed}", out=f"teacher{seed}")
    train(*fixed, out="alone")
    code, _, err = train(*fixed, "--teacher", "teacher1", "--teacher", "teacher2", out="student")
    assert code == 0, err
    settings = load_checkpoint("student/last").info["settings"]["distillation"]
    assert settings == {"teachers": ["teacher1", "teacher2"], "weight": 0.5, "temperature": 1.0}
    assert weights("student/last") != weights("alone/last")
    run("train", "films.toml", "--resume", "--out", "student")


def test_a_teacher_of_another_tokenizer_is_refused(train: Run) -> None:
    train("--steps", "1", "tokenizer={kind='char'}", out="chars")
    code, _, err = train("--steps", "1", "--teacher", "chars", out="student")
    assert code == 1
    assert "the teacher chars has another tokenizer than the prepared text" in err


def test_a_teacher_must_read_as_much_as_the_student(train: Run) -> None:
    train("--steps", "1", out="short")
    code, _, err = train("--steps", "1", "--teacher", "short", "model.context_length=256", out="student")
    assert code == 1
    assert "the teacher short reads 192 tokens at once and the student 256; set model.context_length=192" in err


def test_weights_go_on_with_text_of_their_own_tokenizer(run: Run, train: Run) -> None:
    train("--steps", "1", "tokenizer={kind='char'}", out="chars")
    train("--steps", "1", out="bytes")
    code, _, err = run(
        "train", "films.toml", "--data", "bytes/data", "--from", "chars", "--steps", "1", "--out", "tuned", *FAST
    )
    assert code == 1
    assert "bytes/data was prepared with another tokenizer than that of the model to start from" in err


def test_a_text_of_turkish_and_japanese_is_not_folded(run: Run) -> None:
    text = "Işıkçı kız ağaçta öğle uykusunda. 灯台守の娘は海を見る。\n" * 200
    Path("mytext.txt").write_text(text, encoding="utf-8")
    assert run("train", "mytext.txt", "--steps", "1", *TINY)[0] == 0
    code, out, err = run("generate", "--model", "runs/mytext", "--input", "灯台守 ışık", "--max-tokens", "3")
    assert code == 0 and out.startswith("灯台守 ışık") and "changed" not in err
    corpus = PreparedCorpus.load(Path("runs/mytext/data"))
    assert "灯台守の娘は海を見る。" in corpus.tokenizer.decode(corpus.split("train").body(0))


def test_a_table_needs_its_columns_named(run: Run) -> None:
    code, out, err = run("train", "plots.csv", "--steps", "2", *TINY)
    columns = "Release Year, Title, Origin/Ethnicity, Director, Cast, Genre, Wiki Page, Plot"
    remedy = "--text-column Plot (and the one with titles, if there is one: --title-column NAME)"
    sentence = f"plots.csv is a table with the columns {columns}; name the one with the text: {remedy}"
    assert (code, out, err) == (1, "", f"movieplotgpt: {sentence}\n")
    code, out, err = run(
        "train", "plots.csv", "--steps", "2", "--title-column", "Title", "--text-column", "Plot", *TINY
    )
    assert (code, out) == (0, "")
    told = json.loads(run("generate", "--model", "runs/plots", "--title", "Ada", "--max-tokens", "3", "--json")[1])
    assert told["plots"][0]["prompt"] == "Title: Ada\n"
    assert run("train", "plots.csv", "--steps", "2", "--text-column", "Plot", "--out", "untitled", *TINY)[0] == 0
    assert "without titles" in run("generate", "--model", "untitled", "--title", "Ada")[2]


def test_fine_tuning_keeps_tokenizer_format_and_dimensions(
    run: Run, text_of: Callable[[int], str], tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    save_checkpoint(Path("begin"), tiny_checkpoint(context_length=256, hints=("Decade",)))
    old = load_checkpoint("begin")
    before = files("begin")
    Path("mytext.txt").write_text(text_of(9_000), encoding="utf-8")
    columns = ["--title-column", "Title", "--text-column", "Plot"]
    for out, arguments in {
        "toml": ["films.toml", "--source", "plots.csv"],
        "table": ["plots.csv", *columns],
        "text": ["mytext.txt"],
    }.items():
        code, printed, _ = run("train", *arguments, "--from", "begin", "--steps", "2", "--out", out, *FAST)
        assert (code, printed) == (0, "")
        new = load_checkpoint(out)
        assert new.tokenizer.to_json() == old.tokenizer.to_json()
        assert new.model.config == old.model.config
        assert new.format.header == old.format.header
        assert weights(f"{out}/last") != before["model.safetensors"]
    assert load_checkpoint("toml").format.hints == ("Decade",) and load_checkpoint("table").format.hints == ()
    assert files("begin") == before


def test_fine_tuning_begins_with_the_weights_named(run: Run, train: Run) -> None:
    train("--steps", "6", out="first")
    train(
        "--from",
        "first/last",
        "--steps",
        "1",
        "optimizer.learning_rate=1e-9",
        "optimizer.adamw_learning_rate=1e-9",
        out="second",
    )
    old, new = (load_checkpoint(f"{name}/last").model.state_dict() for name in ("first", "second"))
    assert all((new[name] - value).abs().max() < 1e-6 for name, value in old.items())


def test_a_second_start_is_refused_and_the_run_stays_as_it_is(
    run: Run, train: Run, text_of: Callable[[int], str]
) -> None:
    train("--steps", "2")
    before = files("runs/films")
    sentence = (
        "movieplotgpt: runs/films holds a run; continue it with --resume, or name another folder with --out FOLDER\n"
    )
    assert train("--steps", "2") == (1, "", sentence)
    assert train("--steps", "2", "split.seed=5") == (1, "", sentence)
    Path("other.txt").write_text(text_of(9_000), encoding="utf-8")
    assert run("train", "other.txt", "--steps", "2", "--out", "runs/films", *TINY) == (1, "", sentence)
    assert files("runs/films") == before, "also the data of the run"


def test_ctrl_c_saves_and_resume_is_exact(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = ["--steps", "8", "training.dropout=0.1", "training.evaluations=4"]
    assert train(*fixed, out="whole")[0] == 0
    from movieplotgpt.evaluation.likelihood import validation_scorer as scorer

    def interrupting(corpus: PreparedCorpus) -> Callable[..., float]:
        score, calls = scorer(corpus), iter(range(99))

        def scored(model: Any) -> float:
            if next(calls) == 1:  # the second time: within step 4
                signal.raise_signal(signal.SIGINT)
            return score(model)

        return scored

    monkeypatch.setattr("movieplotgpt.recipe.training_run.validation_scorer", interrupting)
    code, out, err = train(*fixed, out="cut")
    assert (code, out) == (130, "")
    assert "stopping after this step, then saving; Ctrl-C again stops at once\n" in err
    assert "saved in cut; continue with --resume\n" in err
    assert weights("cut/last") != weights("whole/last")
    monkeypatch.setattr("movieplotgpt.recipe.training_run.validation_scorer", scorer)
    code, out, err = train(*fixed, "--resume", out="cut")
    assert (code, out) == (0, "") and "complete after 8 steps" in err and "preparing" not in err
    assert weights("cut/last") == weights("whole/last")
    assert weights("cut/best") == weights("whole/best")
    steps = [json.loads(line) for line in Path("cut/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in steps if line["event"] == "step"] == list(range(8))


def test_a_second_ctrl_c_stops_at_once(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupting(_: PreparedCorpus) -> Callable[..., float]:
        def scored(_: Any) -> float:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

        return scored

    monkeypatch.setattr("movieplotgpt.recipe.training_run.validation_scorer", interrupting)
    code, _, err = train("--steps", "4")
    assert code == 130
    assert err.endswith("movieplotgpt: interrupted\n")
    assert load_checkpoint("runs/films/last").info["training"]["step"] == 2, "saved before it was scored"


def test_resume_takes_only_its_own_settings(train: Run, run: Run) -> None:
    fixed = ["--steps", "4"]
    train(*fixed)
    before = weights("runs/films/last")
    assert run("train", "films.toml", *fixed, "--out", "runs/films", "--resume")[0] == 0, "nothing is left to do"
    assert weights("runs/films/last") == before
    code, out, err = train("--steps", "9", "--resume")
    assert (code, out) == (1, "")
    assert err == (
        "movieplotgpt: training.steps=9 is not what the run in runs/films began with; leave it out to resume the run, or "
        "train in another folder, perhaps from the weights of this one\n"
    )


def test_resume_with_a_changed_settings_file_is_refused(train: Run, run: Run) -> None:
    train("--steps", "2")
    before = files("runs/films")
    toml = Path("films.toml")
    text = toml.read_text("utf-8")
    toml.write_text(text.replace("evaluations = 2", "evaluations = 3\ndropout = 0.5"), encoding="utf-8")
    sentence = (
        "movieplotgpt: films.toml is not what the run in runs/films began with: training.evaluations was 2 and is 3, and 1 more; "
        "undo that to resume the run, or train in another folder, perhaps from the weights of this one\n"
    )
    assert train("--resume") == (1, "", sentence)
    toml.write_text(text.replace("evaluations = 2", ""), encoding="utf-8")
    assert "training.evaluations was 2 and is not set; undo that" in train("--resume")[2]
    assert files("runs/films") == before
    toml.write_text(f"# another comment\n{text}", encoding="utf-8")
    assert train("--resume")[0] == 0
    toml.unlink()
    code, _, err = run("train", "films.toml", "--out", "runs/films", "--resume")
    assert code == 0 and "films.toml no longer exists; the settings of the run in runs/films are used" in err


def test_a_run_that_keeps_no_settings_file_reports_what_differs(train: Run) -> None:
    train("--steps", "2")
    Path("runs/films/begun.json").unlink()
    toml = Path("films.toml")
    toml.write_text(toml.read_text("utf-8").replace("evaluations = 2", "evaluations = 3"), encoding="utf-8")
    code, _, err = train("--resume")
    assert code == 0
    assert "films.toml is not what is trained: training.evaluations was 2 and is 3; the run's setting is used" in err
    for damage in ("[]", "{", "null", "[" * 100_000):
        Path("runs/films/begun.json").write_text(damage, encoding="utf-8")
        code, _, err = train("--resume")
        assert code == 1 and err.count("\n") == 1 and "runs/films/begun.json is damaged" in err


def test_resume_takes_the_columns_it_began_with(run: Run) -> None:
    begun = ["train", "plots.csv", "--text-column", "Plot", "--title-column", "Title", "--steps", "2", *TINY]
    assert run(*begun)[0] == 0
    assert run(*begun, "--resume")[0] == 0
    assert run("train", "plots.csv", "--resume")[0] == 0
    for flags, said in (
        (["--title-column", "Genre"], 'format.header="Genre: {Genre}" is not what the run in runs/plots began with'),
        (["--text-column", "Genre"], 'corpus.text="Genre" is not what the run in runs/plots began with'),
        (["--separator", ";"], 'corpus.csv.separator=";" is not what the run in runs/plots began with'),
        (["--no-header"], "corpus.csv.header=false is not what the run in runs/plots began with"),
        (["--encoding", "latin-1"], 'corpus.encoding="latin-1" is not what the run in runs/plots began with'),
        (["--from", "runs/plots"], "--resume continues the run's own weights; leave --from runs/plots out"),
    ):
        code, _, err = run("train", "plots.csv", *flags, "--resume")
        assert code == 1 and err.count("\n") == 1 and said in err


def test_resume_takes_another_precision_only_when_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = ["train", "plots.csv", "--text-column", "Plot", *TINY, "training.precision=auto"]
    monkeypatch.setattr("movieplotgpt.model.hardware.cpu_info", lambda: {"flags": "amx_bf16"})
    assert run(*begun, "--steps", "2")[0] == 0
    monkeypatch.setattr("movieplotgpt.model.hardware.cpu_info", dict)
    before = files("runs/plots")
    code, _, err = run("train", "plots.csv", "--resume")
    assert code == 1 and "was trained in bfloat16 so far, and here it would continue in float32; keep it with" in err
    assert files("runs/plots") == before
    code, _, err = run("train", "plots.csv", "training.precision=float32", "--resume")
    assert code == 0 and "the run began in bfloat16 and continues in float32, as asked" in err
    assert run("train", "plots.csv", "training.precision=float32", "--resume")[0] == 0


def test_resume_with_another_text_is_refused(run: Run, train: Run, text_of: Callable[[int], str]) -> None:
    text = Path("mytext.txt")
    text.write_text(text_of(9_000), encoding="utf-8")
    short = ["train", "mytext.txt", "--steps", "2", *TINY]
    assert run(*short)[0] == 0
    assert run(*short, "--resume")[0] == 0
    stamp, before = text.stat(), files("runs/mytext")
    text.write_bytes(text.read_bytes().replace(b"a", b"e"))
    os.utime(text, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert text.stat().st_size == stamp.st_size, "only its content tells it from the other"
    sentence = (
        "movieplotgpt: mytext.txt is not the text that the run in runs/mytext began with; name that text to resume the run, or "
        "train in another folder, perhaps from the weights of this one\n"
    )
    assert run(*short, "--resume") == (1, "", sentence)
    train("--steps", "2")
    code, _, err = train("--steps", "2", "--resume", source="mytext.txt")
    assert code == 1 and "mytext.txt is not the text that the run in runs/films began with" in err
    assert files("runs/mytext") == before
    text.unlink()
    code, _, err = run(*short, "--resume")
    assert code == 0 and "mytext.txt no longer exists; the text prepared in runs/mytext is used" in err


def test_resume_where_nothing_is_or_on_another_corpus_is_refused(run: Run, train: Run) -> None:
    code, out, err = train("--steps", "4", "--resume")
    sentence = "runs/films/last holds nothing to resume from; leave --resume out, or train with --from runs/films/last"
    assert (code, out, err) == (1, "", f"movieplotgpt: {sentence}\n")
    assert not Path("runs").exists()
    train("--steps", "2")
    run("prepare", "films.toml", "split.seed=5", "--source", "plots.csv", "--out", "other")
    code, _, err = run("train", "films.toml", "--data", "other", "--out", "runs/films", "--resume")
    assert code == 1 and "the run in runs/films began on another corpus than other" in err


def test_a_damaged_checkpoint_is_not_gone_on_with(train: Run) -> None:
    train("--steps", "2")
    state = Path("runs/films/last/training/optimizer.safetensors")
    state.write_bytes(state.read_bytes()[:-9])
    before = files("runs/films")
    code, _, err = train("--steps", "2", "--resume")
    assert code == 1 and err.count("\n") == 1
    assert "runs/films/last/training is damaged" in err and "train with --from runs/films/last" in err
    assert files("runs/films") == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.toml"], "there is no settings file gone.toml"),
        (["film.toml"], "there is no settings file film.toml; did you mean film"),
        (
            ["films.toml"],
            "nothing to train on is named; name a text with --source FILE, or a prepared folder with --data FOLDER",
        ),
        (["films.toml", "--source", "gone.csv"], "there is no file gone.csv"),
        (
            ["films.toml", "--data", "gone"],
            "gone is not a prepared corpus: it has no manifest.json; run `movieplotgpt pre",
        ),
        (["films.toml", "--data", "."], ". is not a prepared corpus: it has no manifest.json"),
        (
            ["films.toml", "--source", "plots.csv", "--data", "gone"],
            "--source plots.csv and --data gone exclude each other",
        ),
        (
            ["films.toml", "--title-column", "Title"],
            "--title-column Title is for a table; films.toml names the columns itself",
        ),
        (["long.txt", "--source", "plots.csv"], "long.txt is the text to train on; leave --source plots.csv out"),
        (
            ["long.txt", "--data", "gone"],
            "gone does not hold long.txt prepared with these settings; prepare it again, or",
        ),
        (["gone.txt"], "there is no file gone.txt"),
        (["films.toml/x"], "films.toml/x"),
        (["empty.txt"], "no document is left of empty.txt"),
        (["latin.txt"], "latin.txt is not UTF-8: byte 3 in line 1 is 0xe9; save it as UTF-8"),
        (["short.txt"], "; give more text or a shorter model.context_length"),
        (["plots.csv", "--text-column", "plott"], "plots.csv has no column 'plott'; did you mean 'Plot'? its columns"),
        (["plots.csv", "--text-column", "Plot", "--title-column", "Titel"], "did you mean 'Title'?"),
        (["films.toml", "--source", "plots.csv", "training.step=3"], "unknown setting training.step; did you mean tr"),
        (["films.toml", "--source", "plots.csv", "model.n_layers=3"], "did you mean model.n_layer?"),
        (["films.toml", "--source", "plots.csv", "n_layer=3"], "unknown setting n_layer; did you mean model.n_layer?"),
        (
            ["films.toml", "--source", "plots.csv", "--minutes", "2"],
            "--minutes 2 and --steps 2 exclude each other; give one",
        ),
        (["films.toml", "--source", "plots.csv", "nonsense"], "'nonsense' is not an override; write section.key=value"),
        (["long.txt", "training.sed=3"], "unknown setting training.sed; did you mean training.seed?"),
        (["films.toml", "--source", "plots.csv", "--from", "nowhere"], "there is no model 'nowhere'"),
        (
            ["plots.csv", "--text-column", "Plot", "--title-column", "Title", "--from", "untitled"],
            "without titles; lea",
        ),
        (["typo.toml", "--source", "plots.csv"], "unknown setting trainin; did you mean training?"),
        (["broken.toml", "--source", "plots.csv"], "broken.toml is not valid TOML: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_sentence_and_no_run_begins(
    run: Run,
    text_of: Callable[[int], str],
    tiny_checkpoint: Callable[..., Checkpoint],
    arguments: list[str],
    said: str,
) -> None:
    save_checkpoint(Path("untitled"), tiny_checkpoint(header=""))
    for name, data in {
        "long.txt": text_of(5_000).encode(),
        "short.txt": b"Ada finds it. Bruno hides it. " * 4,
        "empty.txt": b"",
        "latin.txt": b"caf\xe9 " * 100,
        "typo.toml": WITH_DECADES.replace("[training]", "[trainin]").encode(),
        "broken.toml": b"[corpus\n",
    }.items():
        Path(name).write_bytes(data)
    before = files(".")
    code, out, err = run("train", *arguments, "--steps", "2", "--out", "run", *(["model.context_length=192", *FAST]))
    assert (code, out) == (1, "")
    [sentence] = [line for line in err.splitlines() if line.startswith("movieplotgpt: ")]
    assert said in sentence and err.endswith(sentence + "\n")
    assert not Path("run/last").exists() and not Path("run/metrics.jsonl").exists()
    assert {name: data for name, data in files(".").items() if not name.startswith("run/data/")} == before


def test_no_length_is_said(run: Run, films_toml_in: Callable[..., Path]) -> None:
    films_toml_in(Path(), WITH_DECADES.replace("minutes = 30\n", ""))
    code, _, err = run("train", "films.toml", "--source", "plots.csv", *TINY)
    assert code == 1
    assert err.endswith("movieplotgpt: say how long to train: --minutes 30, --steps 1000 or --epochs 4\n")


def test_a_name_in_brackets_is_shown_as_it_is(run: Run, plots_csv: Path) -> None:
    plots_csv.rename("plots[old][-bold].csv")
    code, _, err = run(
        "train", "films.toml", *TINY, "--source", "plots[old][-bold].csv", "--steps", "1", "--out", "[x]"
    )
    assert code == 0
    assert "preparing plots[old][-bold].csv into [x]/data\n" in err and "--model [x] " in err


@pytest.mark.parametrize("out", ["file", "file/run"])
def test_a_place_that_cannot_be_written_is_said(run: Run, out: str) -> None:
    Path("file").touch()
    run("prepare", "films.toml", "--source", "plots.csv", "--out", "data")
    for flags in (["--source", "plots.csv"], ["--data", "data"]):
        code, printed, err = run("train", "films.toml", *TINY, *flags, "--steps", "1", "--out", out)
        assert (code, printed) == (1, "")
        assert "file" in err.splitlines()[-1] and err.splitlines()[-1].startswith("movieplotgpt: ")


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(
    train: Run, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = ["--steps", "6", "training.evaluations=1", "training.checkpoint_every=2"]
    train(*fixed, out="whole")
    from movieplotgpt.model.checkpoints import write_model_files as write

    calls = iter(range(99))

    def filling(folder: Path, *arguments: Any, **options: Any) -> None:
        write(folder, *arguments, **options)
        if next(calls) == 1:  # the second checkpoint, half written
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("movieplotgpt.training.trainer.write_model_files", filling)
    code, out, err = train(*fixed, out="full")
    assert (code, out) == (1, "")
    assert "movieplotgpt: no space left on the disk for " in err and "Traceback" not in err
    assert load_checkpoint("full/last").info["training"]["step"] == 2
    assert [path.name for path in Path("full").iterdir() if path.name.startswith(".")] == []
    assert train(*fixed, "--resume", out="full")[0] == 0
    assert weights("full/last") == weights("whole/last")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), StorageError("no space")])
def test_a_log_that_cannot_be_written_does_not_end_the_run(
    train: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from movieplotgpt.training import monitors

    calls = []

    def full(*_: object) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(monitors.MetricsFile, "__call__", full)
    code, _, err = train("--steps", "4")
    assert code == 0 and load_checkpoint("runs/films/last").info["training"]["step"] == 4
    assert err.count(f"MetricsFile failed and is not written any more: {error}\n") == len(calls) == 1


@pytest.mark.parametrize("name", ["best", "metrics.jsonl", "loss.svg", "data"])
def test_a_new_run_replaces_nothing_of_others(train: Run, name: str) -> None:
    other = Path("runs/films", name)
    other.parent.mkdir(parents=True)
    if name in ("best", "data"):
        other.mkdir()
        (other / "manifest.json").write_text('{"name": "an extension of a browser"}', encoding="utf-8")
    else:
        other.write_text("mine", encoding="utf-8")
    before = files("runs")
    code, _, err = train("--steps", "1")
    assert code == 1 and str(other) in err.splitlines()[-1]
    assert files("runs") == before


def test_a_run_that_was_killed_between_the_renames_is_not_begun_anew(train: Run) -> None:
    assert train("--steps", "2")[0] == 0
    kept = files("runs/films/last")
    Path("runs/films/last").rename("runs/films/.last.old")
    assert "runs/films holds a run; continue it with --resume" in train("--steps", "3")[2]
    assert files("runs/films/last") == kept


@pytest.mark.parametrize("name", ["train.tokens.npy", "train.documents.parquet", "manifest.json", "tokenizer.json"])
def test_a_damaged_prepared_folder_is_said(run: Run, name: str) -> None:
    run("prepare", "films.toml", "--source", "plots.csv", "--out", "data")
    path = Path("data") / name
    whole = path.read_bytes()
    flags = ["train", "films.toml", *TINY, "--data", "data", "--steps", "1", "--out", "run"]
    if name != "train.documents.parquet":  # training reads no titles of its own split
        path.write_bytes(whole[: len(whole) // 2])
        code, out, err = run(*flags)
        assert (code, out, err.count("\n")) == (1, "", 1) and name in err
    path.unlink()
    code, out, err = run(*flags)
    assert (code, out, err.count("\n")) == (1, "", 1) and name in err
    assert not Path("run/last").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    code, out, _ = train("--steps", "3")
    assert (code, out) == (0, "")
    seen = terminal.getvalue()
    assert "3/3" in seen and "tokens/s" in seen and "bits/char" in seen and "ETA" in seen


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, films_toml_in: Callable[..., Path]) -> Path:
    """A prepared text, and the last weights of a run of ``STEPS`` steps that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("prepared")
    films_toml_in(folder, WITH_DECADES + '[tokenizer]\nkind = "char"\n')
    rows = "".join(f"{1950 + i % 50},Film {i},{'The keeper of light ' * 9}{i * i}\n" for i in range(60))
    (folder / "films.csv").write_text("Release Year,Title,Plot\n" + rows, encoding="utf-8")
    assert process("prepare", "films.toml", "--source", "films.csv", "--out", "data", cwd=folder).wait() == 0
    assert process(*LONG, "--out", "whole", cwd=folder).wait() == 0
    return folder


STEPS = 500
LONG = ["train", "films.toml", "--data", "data", *TINY, "--steps", str(STEPS), "training.checkpoint_every=20"]


def process(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "movieplotgpt", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_process_that_is_stopped_goes_on_to_the_same_weights(prepared: Path, name: str) -> None:
    out = prepared / name
    with process(*LONG, "--out", name, cwd=prepared) as running:
        metrics = out / "metrics.jsonl"
        while running.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") > 30):
            time.sleep(0.005)
        running.send_signal(getattr(signal, name))
        code = running.wait()
    assert code == (-signal.SIGKILL if name == "SIGKILL" else 130)
    done = load_checkpoint(out / "last").info["training"]["step"]
    assert 20 <= done < STEPS
    assert process(*LONG, "--out", name, "--resume", cwd=prepared).wait() == 0
    assert weights(str(out / "last")) == weights(str(prepared / "whole" / "last"))

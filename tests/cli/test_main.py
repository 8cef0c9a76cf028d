"""The command as a whole: help, versions, exit codes, and nothing but words a person can use."""

from __future__ import annotations

import errno
import importlib
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from cyclopts import App, Parameter

from movieplotgpt import __version__
from movieplotgpt.cli import COMMANDS, main
from movieplotgpt.cli.streams import open_streams
from movieplotgpt.cli.unexpected import KEPT, report
from movieplotgpt.config import read_settings
from movieplotgpt.errors import MissingExtraError, MoviePlotGPTError
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.text.copies import COPIES, CopyIndex
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.token_files import PreparedCorpus

OF_TRAINING = ("torch", "polars", "zstandard")  # what the extra `train` brings
LOAD = "movieplotgpt.engine.model_folder.load_folder"  # what `info` calls


def leaves() -> Iterator[tuple[list[str], Callable[..., object]]]:
    """Every command that does something: the words to type, and its function."""
    for name, (place, _, _) in COMMANDS.items():
        module, _, attribute = place.partition(":")
        found = getattr(importlib.import_module(f"movieplotgpt.cli.{module}"), attribute)
        if isinstance(found, App):
            for sub in found:
                if not sub.startswith("-"):
                    command = found[sub].default_command
                    assert command is not None
                    yield [name, sub], command
        else:
            yield [name], found


LEAVES = list(leaves())


def spellings(function: Callable[..., object]) -> Iterator[tuple[str, str]]:
    """(parameter, how the help has to name it)."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        settings = [extra for extra in getattr(hints[name], "__metadata__", ()) if isinstance(extra, Parameter)]
        if any(extra.name == ("*",) for extra in settings):  # a class whose fields are the flags
            [flags, _] = typing.get_args(typing.get_args(hints[name])[0])
            yield from spellings(flags)
            continue
        given = next((next(iter(extra.name)) for extra in settings if extra.name), f"--{name.replace('_', '-')}")
        yield name, name.upper() if parameter.kind is inspect.Parameter.VAR_POSITIONAL else given


@pytest.fixture
def model(tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model in the working folder."""
    save_checkpoint(tmp_path / "model", tiny_checkpoint())
    monkeypatch.chdir(tmp_path)
    return "model"


def raising(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "movieplotgpt", *arguments]


def without(packages: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a process does in which ``packages`` cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({packages}))"
    code = f"{block}; from movieplotgpt.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def environment() -> dict[str, str]:
    """As in a plain shell: stdout is buffered."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_the_commands_are_those_of_the_documents() -> None:
    typed = {" ".join(words) for words, _ in LEAVES}
    assert typed == {
        *(
            "generate",
            "copies",
            "write",
            "serve",
            "train",
            "prepare",
            "evaluate",
            "compare",
            "plan",
            "average",
            "export",
            "import",
            "info",
            "completion",
            "schema",
            "doctor",
            "corpus download",
            "report",
        ),
        *(
            "weights list",
            "weights download",
            "weights verify",
            "weights publish",
            "weights refresh",
            "weights index",
            "weights upload",
        ),
    }


@pytest.mark.parametrize(("words", "function"), LEAVES, ids=[" ".join(words) for words, _ in LEAVES])
def test_help_names_and_explains_every_parameter(
    words: list[str],
    function: Callable[..., object],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # each on one line
    assert main([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith(f"Usage: movieplotgpt {' '.join(words)} ")
    lines = [line.strip(" │*") for line in out.splitlines() if line.startswith("│")]
    for name, spelling in spellings(function):
        [line] = [line for line in lines if re.search(rf"(^|\s){re.escape(spelling)}(\s|$)", line)]
        told = re.sub(r"\[(default|choices): .*?\]|\[required\]", "", line)
        assert len(re.findall(r"[a-z]{2,}", told)) >= 2, f"{name} is not explained: {line}"


def test_help_of_a_group_and_no_arguments_list_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert err == "" and [name for name in COMMANDS if not re.search(rf"│ {name} ", out)] == []
    assert main(["weights"]) == 0
    assert re.findall(r"│ (\w+) ", capsys.readouterr().out) == [
        "download",
        "index",
        "list",
        "publish",
        "refresh",
        "upload",
        "verify",
    ]


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"{__version__}\n", "")


def test_python_m_is_the_command() -> None:
    done = subprocess.run(command("--version"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generrate"], 'Unknown command "generrate". Did you mean "generate"?'),
        (["generate", "--titel", "x"], "Unknown option: --titel. Did you mean --title?"),
        (["generate", "--n", "two"], 'Invalid value for --n: unable to convert "two" into int.'),
        (["generate", "Mars"], "Unused Tokens: ['Mars']."),
        (["generate", "--title"], "--title requires an argument."),
        (["train"], "--config requires an argument."),
        (["prepare", "x.toml"], "--source requires an argument."),
        (["evaluate", "x"], "--data requires an argument."),
        (["evaluate", "x", "--data", "y", "--split", "all"], 'Choose from: "train", "validation", "test".'),
        (["corpus", "download", "films"], 'Choose from: "movie-plots", "office".'),
        (["corpus", "upload"], 'Unknown command "upload".'),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (2, "")
    assert said in err and "Traceback" not in err


def test_wrong_usage_of_the_process_exits_2() -> None:
    done = subprocess.run(command("generate", "--titel", "x"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--title" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [*MoviePlotGPTError.__subclasses__()])
def test_every_error_of_ours_is_one_line_and_exit_1(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[MoviePlotGPTError]
) -> None:
    raised = error("pkg", "extra") if error is MissingExtraError else error("the thing; the remedy")
    monkeypatch.setattr(LOAD, raising(raised))
    assert main(["info", model]) == 1
    assert capsys.readouterr() == ("", f"movieplotgpt: {raised}\n")


def test_what_the_system_refuses_is_one_line_and_exit_1(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOAD, raising(OSError(errno.ENOSPC, "No space left on device")))
    assert main(["info", model]) == 1
    assert capsys.readouterr() == ("", "movieplotgpt: No space left on device\n")
    monkeypatch.setattr(LOAD, raising(PermissionError(errno.EACCES, "Permission denied", "some/file")))
    assert main(["info", model]) == 1
    assert capsys.readouterr() == ("", "movieplotgpt: some/file: Permission denied\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a bug"), "ValueError: a bug"),
        (
            ModuleNotFoundError("No module named 'pydantic'", name="pydantic"),
            "ModuleNotFoundError: No module named 'pydantic'",
        ),
        (MemoryError(), "MemoryError"),
        (RuntimeError("one\n  two\n" + "three " * 999), "RuntimeError: one two three"),
        (ValueError("not UTF-8: \udce9"), "ValueError: not UTF-8: \\udce9"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_an_unexpected_error_is_one_line_and_a_log_and_exit_70(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    monkeypatch.setattr(LOAD, raising(error))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert main(["info", model]) == 70
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and len(err) < 600
    assert err.startswith(f"movieplotgpt: unexpected error ({words}")
    log = Path(err.rpartition(" log ")[2].strip())
    assert log.parent == tmp_path / "state/movieplotgpt/errors"
    text = log.read_text(encoding="utf-8")
    assert "command: ['info', 'model']" in text and "Traceback (most recent call last):" in text
    assert type(error).__name__ in text.splitlines()[-1] or "three" in text


def test_logs_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "movieplotgpt/errors"
    folder.mkdir(parents=True)
    for number in range(50):
        (folder / f"20010101-{number:06}-1.log").touch()
    report(ValueError("a bug"), [])
    logs = sorted(path.name for path in folder.iterdir())
    assert len(logs) == KEPT and logs[0] == "20010101-000031-1.log" and not logs[-1].startswith("2001")


@pytest.mark.parametrize("home", ["unknown", "read-only"])
def test_the_log_goes_to_a_temporary_folder_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", "" if home == "unknown" else str(tmp_path / "file"))
    monkeypatch.setattr(Path, "home", raising(RuntimeError("Could not determine home directory.")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log = Path(report(ValueError("a bug"), []).rpartition(" log ")[2])
    assert log.is_relative_to(tmp_path) and "a bug" in log.read_text(encoding="utf-8")


def test_a_process_shows_no_traceback(tmp_path: Path) -> None:
    code = "import sys, movieplotgpt.cli as cli; cli.app = lambda *_, **__: 1 / 0; sys.exit(cli.main(['info']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (70, "", 1)
    assert "ZeroDivisionError" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize(
    "arguments", [["generate", "--input", "Łódź → 灯台守 “x”"], ["info"]], ids=["generate", "info"]
)
def test_no_character_is_lost_in_a_pipe(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], encoding: str, arguments: list[str]
) -> None:
    checkpoint = tiny_checkpoint("byte", header="Sinopsis de «{Title}» → 灯台守:", fold=False)
    save_checkpoint(tmp_path / "model", checkpoint)
    more = ["--max-tokens", "3", "--seed", "1", "--model", "model"] if arguments[0] == "generate" else ["model"]
    done = subprocess.run(
        command(*arguments, *more),
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "灯台守" in done.stdout.decode("utf-8")


def test_what_a_terminal_cannot_show_is_written_as_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    shown, piped = io.BytesIO(), io.BytesIO()
    terminal, pipe = Terminal(shown, encoding="latin-1"), io.TextIOWrapper(piped, encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é\n".encode()), encoding="latin-1"))
    open_streams()
    for stream in (terminal, pipe):
        print("café 灯 \udce9", end="", file=stream, flush=True)
    assert shown.getvalue() == b"caf\xe9 \\u706f \\udce9"
    assert piped.getvalue() == "café 灯 \\udce9".encode()
    assert input() == "é"


def test_ctrl_c_exits_130(model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOAD, raising(KeyboardInterrupt()))
    assert main(["info", model]) == 130
    assert capsys.readouterr() == ("", "movieplotgpt: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["generate", "--model", "model", "--title", "Ada", "--seed", "1", "--max-tokens", "9"], ()),
        (["copies", "plot.txt", "--model", "model"], ("onnx", "onnxruntime")),
        (["info", "model"], ("onnx", "onnxruntime")),
        (["weights", "list"], ("onnx", "onnxruntime")),
        (["doctor"], ()),
        (["--help"], ("onnx", "onnxruntime", "numpy")),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_writes_needs_no_torch(
    model: str, films_toml: Path, plots_csv: Path, arguments: list[str], more: tuple[str, ...]
) -> None:
    prepare(read_settings(PrepareSettings, films_toml), plots_csv, Path("data"))
    give_index(Path(model), PreparedCorpus.load(Path("data")))
    Path("plot.txt").write_text("A baker hides a letter.", encoding="utf-8")
    done = without((*OF_TRAINING, *more), *arguments)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    usual = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert done.stdout == usual.stdout != "" or arguments == ["doctor"]


def give_index(model: Path, corpus: PreparedCorpus) -> None:
    """The index of copies from ``corpus``, and the claim to be trained on it."""
    CopyIndex.of_corpus(corpus).save(model / COPIES)
    about = model / "movieplotgpt.json"
    told = {**json.loads(about.read_text(encoding="utf-8")), "corpus": {"hash": corpus.manifest.corpus_hash}}
    about.write_text(json.dumps(told), encoding="utf-8")


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("torch", ["train", "text.txt"]),
        ("torch", ["evaluate", "model", "--data", "data"]),
        ("torch", ["average", "model", "model", "-o", "mean"]),
        ("polars", ["prepare", "films.toml", "--source", "plots.csv", "--out", "data"]),
        ("zstandard", ["prepare", "films.toml", "--source", "plots.csv.zst", "--out", "data"]),
    ],
)
@pytest.mark.usefixtures("model", "films_toml")
def test_what_trains_names_its_extra(plots_csv: Path, package: str, arguments: list[str]) -> None:
    Path("text.txt").write_text("A baker hides a letter. " * 99, encoding="utf-8")
    Path("plots.csv.zst").write_bytes(zstandard.compress(plots_csv.read_bytes()))
    done = without((package,), *arguments)
    said = f"this needs {package}, which is not installed; pip install 'movieplotgpt[train]'"
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"movieplotgpt: {said}")
    for_cpus = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
    assert (for_cpus in line) == (package == "torch" and sys.platform == "linux")


@pytest.mark.parametrize(("platform", "named"), [("linux", True), ("darwin", False), ("win32", False)])
def test_cpu_packages_are_named_on_linux(monkeypatch: pytest.MonkeyPatch, platform: str, named: bool) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert ("--index-url" in str(MissingExtraError("torch", "train"))) == named
    assert "--index-url" not in str(MissingExtraError("polars", "train"))


@pytest.mark.parametrize(
    "arguments", [["info"], ["generate", "--max-tokens", "9", "--stream"], ["generate", "--max-tokens", "9", "--json"]]
)
def test_a_reader_that_has_gone_is_no_error(
    model: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        code = main([*arguments, "--model", model])
    assert code == 0
    assert "pipe" not in capfd.readouterr().err.lower()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "model"],
        ["doctor"],
        ["generate", "--model", "model", "--max-tokens", "9"],
        ["generate", "--model", "model", "--max-tokens", "9", "--stream"],
    ],
    ids=lambda words: " ".join(words[:1] + words[-1:]),
)
def test_a_process_whose_reader_has_gone_is_quiet(model: str, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            command(*arguments), stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.returncode == 0
    assert "Error" not in done.stderr and "Exception" not in done.stderr


def test_help_for_a_reader_that_has_gone_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            command("--help"), stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_writing_exits_130_and_what_was_written_stays(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint("char", context_length=192))
    arguments = ["generate", "--model", "model", "--stream", "-n", "60", "--seed", "1"]
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
    ) as process:
        assert process.stdout and process.stderr
        assert len(process.stdout.read(50)) == 50, "it is written while the plots after it are not"
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        err = process.stderr.read().decode()
    assert process.returncode == 130
    assert err == "movieplotgpt: interrupted\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="closed streams")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), ("--show-probs | true", 0)])
def test_a_stream_that_is_closed_hinders_nothing(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint], closed: str, code: int
) -> None:
    save_checkpoint(tmp_path / "model", tiny_checkpoint())
    words = shlex.join(command("generate", "--model", "model", "--title", "Mars", "--max-tokens", "5", "--seed", "1"))
    script = f"set -o pipefail; {words} {closed}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert done.returncode == code and "Traceback" not in done.stderr
    assert bool(done.stdout) == (closed == "2>&-")

"""Compiled code is private to a version, and a library that is not whole is never loaded, whatever became of its process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from movieplotgpt.training import compiled_code
from movieplotgpt.training.compiled_code import VARIABLE, distrust_cache, note_whole, open_cache, remove_damaged

SOURCE = Path(__file__).resolve().parents[2] / "src"
ARGUMENTS = [
    *("--steps", "2", "training.precision=float32", "training.device=cpu", "training.tokens_per_step=64"),
    *("model.n_layer=1", "model.n_embd=16", "model.n_head=1", "model.head_dim=16", "model.n_ff=32"),
    *("model.context_length=32", "training.evaluations=1"),
]
HALF_WRITING_COMPILER = """#!/bin/sh
{compiler} "$@" || exit $?
case "$*" in *.main.cpp*-shared*)
    for word in "$@"; do [ "$before" = -o ] && library=$word; before=$word; done
    truncate -s 700 "$library"
    touch {mark}
    sleep 600;;
esac
"""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from torch._inductor import codecache

    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(codecache, "_HEADER_DIR", codecache._HEADER_DIR)
    monkeypatch.setattr(codecache, "_HEADER_LOCK_DIR", codecache._HEADER_LOCK_DIR)
    known = dict(compiled_code._in_use)
    yield
    for folder in set(compiled_code._in_use) - set(known):
        compiled_code._in_use.pop(folder).release()


def library(folder: Path, name: str, content: bytes = b"machine code") -> Path:
    path = folder / "ab" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_cache_is_the_user_s_and_private_to_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import codecache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = open_cache()
    assert folder.parent == tmp_path / "movieplotgpt" / "compiled" and folder.is_dir()
    assert torch.__version__ in folder.name and sys.implementation.cache_tag in folder.name
    assert os.environ[VARIABLE] == str(folder)
    assert Path(codecache._HEADER_DIR).parent == folder, "precompiled headers can be cut short, too"
    assert open_cache() == folder, "also a second time"


def test_a_place_that_pytorch_named_itself_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, default_cache_dir())
    assert open_cache().is_relative_to(tmp_path)


def test_a_place_that_is_named_holds_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = library(tmp_path, "of-another-program.so")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert open_cache().parent == tmp_path
    assert others.exists()


@pytest.mark.parametrize("home", [True, False])
def test_where_nothing_can_be_written_a_temporary_folder_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: bool
) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file") if home else "")
    monkeypatch.setattr(Path, "home", unknown)
    folder = open_cache()
    assert folder.is_dir() and os.environ[VARIABLE] == str(folder) and open_cache() == folder
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("damage", ["none", "cut", "changed", "empty", "no note"])
def test_only_whole_libraries_stay(tmp_path: Path, damage: str) -> None:
    path = library(tmp_path, "one.main.so")
    generated = library(tmp_path, "one.main.cpp")
    note_whole(tmp_path)
    if damage == "no note":
        path = library(tmp_path, "other.main.so")
    elif damage != "none":
        path.write_bytes({"cut": b"machine", "changed": b"machine c0de", "empty": b""}[damage])
    assert remove_damaged(tmp_path) == (damage != "none")
    assert path.exists() == (damage == "none") and generated.exists()


def test_a_library_that_is_being_built_gets_no_note(tmp_path: Path) -> None:
    path = library(tmp_path, "one.main.so")
    (tmp_path / "locks").mkdir()
    with FileLock(tmp_path / "locks" / "one.lock"):
        note_whole(tmp_path)
    assert remove_damaged(tmp_path) == 1 and not path.exists()


def test_nothing_is_deleted_while_another_process_uses_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    path = library(tmp_path / compiled_code._key(), "being-compiled.so")
    with FileLock(path.parents[1] / "in-use.lock"):
        open_cache()
        assert path.exists()
    open_cache()
    assert not path.exists()


def test_a_cache_that_is_not_trusted_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    path = library(open_cache(), "one.so")
    note_whole(path.parents[1])
    distrust_cache()
    assert remove_damaged(path.parents[1]) == 1


class Training:
    """``movieplotgpt train`` as a process, with a cache of its own."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        (folder / "text.txt").write_text(text, encoding="utf-8")

    def start(self, out: str, *arguments: str, path: Path | None = None) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "CXX")}
        paths = os.pathsep.join(filter(None, [str(path or ""), os.environ["PATH"]]))
        environment = {**kept, "XDG_CACHE_HOME": str(self.folder / "cache"), "PYTHONPATH": str(SOURCE), "PATH": paths}
        return subprocess.Popen(
            [sys.executable, "-m", "movieplotgpt", "train", "text.txt", *ARGUMENTS, *arguments, "--out", out],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, out: str, *arguments: str, path: Path | None = None) -> str:
        """Train, and return what was printed on stderr."""
        with self.start(out, *arguments, path=path) as process:
            printed, err = process.communicate(timeout=500)
        assert (process.returncode, printed) == (0, ""), err
        assert "Traceback" not in err
        return err

    def compiled(self, out: str) -> bool:
        progress = json.loads((self.folder / out / "last/training/progress.json").read_text(encoding="utf-8"))
        return bool(progress["compiled"])

    def libraries(self) -> list[Path]:
        return sorted((self.folder / "cache").rglob("*.so"))


@pytest.fixture
def training(tmp_path: Path, text_of: Callable[[int], str]) -> Training:
    return Training(tmp_path, text_of(20_000))


def a_compiler(folder: Path, script: str) -> Path:
    """A folder with a ``g++`` that is ``script``."""
    folder.mkdir()
    (folder / "g++").write_text(script, encoding="utf-8")
    (folder / "g++").chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="a compiler that is a shell script")
def test_libraries_cut_by_a_kill_or_damaged_are_built_anew(training: Training, tmp_path: Path) -> None:
    mark = tmp_path / "half-written"
    half = HALF_WRITING_COMPILER.format(compiler=shutil.which("g++"), mark=mark)
    with training.start("killed", "training.compile=on", path=a_compiler(tmp_path / "bin", half)) as process:
        while not mark.exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    [cut] = [path for path in training.libraries() if path.stat().st_size == 700]
    assert "compiling failed" not in training.run("after", "training.compile=on")
    assert training.compiled("after") and cut.stat().st_size > 700
    sizes = {path: path.stat().st_size for path in training.libraries()}
    for path in sizes:
        os.truncate(path, 500)
    assert "compiling failed" not in training.run("again", "training.compile=on")
    assert training.compiled("again") and {path: path.stat().st_size for path in training.libraries()} == sizes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a compiler that is a shell script")
@pytest.mark.parametrize(
    ("script", "auto", "on"),
    [
        (
            "#!/bin/sh\nexit 1\n",
            "compile off: g++ does not work (exit code 1); reinstall it to train faster",
            "No working C++ compiler found",
        ),
        (
            '#!/bin/sh\n[ "$1" = --version ] && echo "g++ 12" && exit 0\necho "error: no cc1plus" >&2\nexit 1\n',
            "compile off: g++ does not work (error: no cc1plus); reinstall it to train faster",
            "error: no cc1plus",
        ),
    ],
)
def test_a_compiler_that_does_not_work_is_done_without(
    training: Training, tmp_path: Path, script: str, auto: str, on: str
) -> None:
    path = a_compiler(tmp_path / "bin", script)
    for name in ("clang++", "c++"):
        shutil.copy(path / "g++", path / name)
    assert auto in training.run("auto", path=path) and not training.compiled("auto")
    said = training.run("on", "training.compile=on", path=path)
    [line] = [line for line in said.splitlines() if "compiling failed" in line]
    assert line.startswith("compiling failed, so this training runs without compiled code: ") and on in line
    assert not training.compiled("on")
    assert len(said.splitlines()) < 20
    assert (tmp_path / "on/last/model.safetensors").read_bytes() == (
        tmp_path / "auto/last/model.safetensors"
    ).read_bytes(), "the step was taken again, from the start"

"""One process at a time in a folder: on one machine, on several, and after a holder was killed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest

from movieplotgpt import locks
from movieplotgpt.errors import StorageError, TrainingError
from movieplotgpt.locks import HOLDER, LOCK, locked, occupied

HOLD = """
import sys
from pathlib import Path
from movieplotgpt.locks import occupied
with occupied(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path, temporary: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a TMPDIR of its own that holds ``folder``."""
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(locks.__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_lock_ignores_the_temporary_folder(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "films"
    with another_process(run, tmp_path / "tmp") as process:
        with pytest.raises(TrainingError) as caught, occupied(run):
            raise AssertionError("both are in it")
        assert f"another process (process {process.pid} on " in str(caught.value)
        assert f" is training in {run}; wait for it to end, or name another folder with out=FOLDER" in str(caught.value)
        process.communicate()
    assert process.returncode == 0
    assert not (tmp_path / "runs").exists(), "nothing stays but what the work left"


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path) -> None:
    with another_process(tmp_path / "run", tmp_path / "tmp") as process:
        process.kill()
        process.wait()
    assert (tmp_path / "run" / HOLDER).exists()
    with occupied(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / HOLDER).read_text(encoding="utf-8"))["process"] == os.getpid()
        (tmp_path / "run" / "model").touch()
    assert names(tmp_path / "run") == ["model"]


@pytest.mark.parametrize(
    ("holder", "free"),
    [
        ({"host": "another", "boot": "another", "process": 1, "since": "noon"}, False),
        ({"host": "another", "boot": None, "process": 1, "since": "noon"}, False),
        ({"host": "another"}, True),  # its "boot" is this machine's: a container on it
        ({"boot": "another"}, True),  # this machine, before it was started anew
    ],
)
def test_a_process_of_another_machine_is_not_taken_for_dead(tmp_path: Path, holder: dict[str, Any], free: bool) -> None:
    if "boot" not in holder and locks._boot_id() is None:
        pytest.skip("only Linux names the starts of a machine")
    (tmp_path / HOLDER).write_text(json.dumps({**locks._this_process(), **holder}), encoding="utf-8")
    if free:
        with occupied(tmp_path):
            return
    with pytest.raises(TrainingError) as caught, occupied(tmp_path):
        raise AssertionError("both are in it")
    assert str(caught.value) == (
        f"a process (process 1 on another, since noon) is training in {tmp_path}; wait for it to end, name another folder "
        f"with out=FOLDER, or delete {tmp_path / HOLDER} if you know that it has ended"
    )
    assert names(tmp_path) == [HOLDER]


@pytest.mark.parametrize("left", ["", "{", "[1]"])
def test_what_a_power_cut_left_locks_nobody_out(tmp_path: Path, left: str) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / HOLDER).write_text(left, encoding="utf-8")
    with occupied(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_disk_without_locks_is_locked_by_names(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with occupied(tmp_path / "run"), pytest.raises(TrainingError, match="another process"), occupied(tmp_path / "run"):
        raise AssertionError("both are in it")
    assert not (tmp_path / "run").exists()


def test_an_error_inside_is_not_taken_for_one_of_the_lock(tmp_path: Path) -> None:
    for error in (filelock.Timeout("other"), OSError(errno.EIO, "other")):
        with pytest.raises(type(error)) as caught, occupied(tmp_path / "run"):
            raise error
        assert caught.value is error
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"^cannot write .*file/run: Not a directory$"),
        occupied(tmp_path / "file/run"),
    ):
        raise AssertionError
    assert names(tmp_path) == ["file"]


def test_a_lock_file_is_removed_and_its_successor_excludes_as_well(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "lock"), pytest.raises(filelock.Timeout), locked(tmp_path / "lock", wait=False):
            raise AssertionError("both hold it")
        assert names(tmp_path) == []

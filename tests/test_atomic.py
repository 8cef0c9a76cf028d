"""Files and folders are written whole or not at all, also when the disk refuses or the process is killed."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt import atomic
from movieplotgpt.atomic import (
    ABANDONED_AFTER,
    check_place,
    recover_folder,
    replacing_folder,
    write_bytes,
    write_text,
)
from movieplotgpt.errors import StorageError

KILLED = 9


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies below ``folder``, hidden files too; None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def fill(folder: Path, word: str) -> None:
    """Three files, one in a folder."""
    (folder / "inner").mkdir()
    for name in ("a", "b", "inner/c"):
        (folder / name).write_text(f"{word} {name}", encoding="utf-8")


def filled(word: str) -> dict[str, bytes | None]:
    return {"inner": None} | {name: f"{word} {name}".encode() for name in ("a", "b", "inner/c")}


def replace_folder(folder: Path, word: str) -> None:
    with replacing_folder(folder) as partial:
        fill(partial, word)


def refuse(code: int) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


REFUSALS = [
    (errno.ENOSPC, r"no space left on the disk for {}; free some and run the command again"),
    (errno.EDQUOT, r"no space left on the disk for {}; free some and run the command again"),
    (errno.EACCES, r"no permission to write {}; choose another folder"),
    (errno.EROFS, r"no permission to write {}; choose another folder"),
    (errno.EIO, "cannot write {}: " + os.strerror(errno.EIO)),
]
each_refusal = pytest.mark.parametrize(("code", "words"), REFUSALS, ids=[errno.errorcode[code] for code, _ in REFUSALS])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that holds the file ``note`` and the folder ``model``, both "old"."""
    home = tmp_path / "home"
    (home / "model").mkdir(parents=True)
    fill(home / "model", "old")
    (home / "note").write_text("old", encoding="utf-8")
    return home


# files


@given(old=st.none() | st.binary(max_size=50), new=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_written_as_utf8_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, old: bytes | None, new: str
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    path = folder / "note"
    if old is not None:
        path.write_bytes(old)
    write_text(path, new)
    assert tree(folder) == {"note": new.encode()}


def test_the_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x" / "y" / "note", b"\r\n\x00")
    assert tree(tmp_path / "x" / "y") == {"note": b"\r\n\x00"}


def test_a_reader_never_sees_a_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(handle: int) -> None:
        seen.append((home / "note").read_bytes())
        sync(handle)

    sync = os.fsync
    monkeypatch.setattr(os, "fsync", look)
    write_text(home / "note", "new")
    assert seen == [b"old"]  # all of the new lies on the disk before it is seen
    assert (home / "note").read_bytes() == b"new"


@each_refusal
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_refused_file_is_one_sentence_and_the_old_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int, words: str
) -> None:
    before = tree(home)
    with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
        patch.setattr(os if step == "fsync" else Path, step, refuse(code))
        write_text(home / "note", "new")
    assert str(caught.value) == words.format(home / "note")
    assert tree(home) == before


def test_a_refused_folder_on_the_way_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="no permission to write"):
        patch.setattr(Path, "mkdir", refuse(errno.EACCES))
        write_text(tmp_path / "x" / "note", "new")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("name", ["note/below", "model", "x" * 250, "x" * 300])
def test_a_file_that_cannot_be_is_one_sentence(home: Path, name: str) -> None:
    before = tree(home)
    with pytest.raises(StorageError, match=r"^cannot write [^\n]+: [^\n]+$"):
        write_text(home / name, "new")
    assert tree(home) == before


posix = pytest.mark.skipif(os.name == "nt", reason="links, pipes and permissions of POSIX")


@posix
@pytest.mark.parametrize("target", ["note", "new"], ids=["a file", "no file yet"])
def test_a_link_to_a_file_stays_a_link(home: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "first").symlink_to(Path("home", target))
    (tmp_path / "second").symlink_to(tmp_path / "first")
    check_place(tmp_path / "second")
    write_text(tmp_path / "second", "new")
    assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()
    assert not (home / target).is_symlink() and (home / target).read_bytes() == b"new"


@posix
def test_links_in_a_circle_are_one_sentence(home: Path) -> None:
    (home / "a").symlink_to(home / "b")
    (home / "b").symlink_to(home / "a")
    with pytest.raises(StorageError, match=r"^cannot write .*a: Too many levels of symbolic links$"):
        write_text(home / "a", "new")
    assert (home / "a").is_symlink()


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_mode_and_is_never_readable_for_more(
    home: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "note").chmod(mode)
    seen, sync = set(), atomic._sync

    def look(path: Path) -> None:
        seen.add(stat.S_IMODE(path.stat().st_mode))
        sync(path)

    monkeypatch.setattr(atomic, "_sync", look)
    write_text(home / "note", "new")
    assert stat.S_IMODE((home / "note").stat().st_mode) == mode and seen == {mode}


@posix
def test_a_folder_keeps_its_mode(home: Path) -> None:
    (home / "model").chmod(0o700)
    replace_folder(home / "model", "new")
    assert stat.S_IMODE((home / "model").stat().st_mode) == 0o700


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_a_file_keeps_its_owner(home: Path) -> None:
    os.chown(home / "note", 12_345, 23_456)
    write_text(home / "note", "new")
    facts = (home / "note").stat()
    assert (facts.st_uid, facts.st_gid) == (12_345, 23_456)


@posix
def test_a_pipe_is_written_to_and_stays(home: Path) -> None:
    os.mkfifo(home / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((home / "pipe").read_bytes()))
    check_place(home / "pipe")
    reader.start()
    write_text(home / "pipe", "new" * 50_000)
    reader.join()
    assert read == [b"new" * 50_000] and (home / "pipe").is_fifo()
    with pytest.raises(StorageError, match="a file of that name is there"):
        replace_folder(home / "pipe", "new")
    assert (home / "pipe").is_fifo()


@posix
def test_an_open_file_is_appended_to(home: Path) -> None:
    script = """
from pathlib import Path
from movieplotgpt.atomic import check_place, write_text
check_place(Path("/dev/stdout"))
write_text(Path("/dev/stdout"), " and new")
"""
    with (home / "note").open("ab") as note:
        subprocess.run([sys.executable, "-c", script], stdout=note, env=environment(), check=True)
    assert (home / "note").read_bytes() == b"old and new"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment(), check=True)
    assert done.stdout == b" and new"


# folders


@pytest.mark.parametrize("name", ["model", "other", "x/y/z"])
def test_a_folder_takes_the_place_of_the_old_one(home: Path, name: str) -> None:
    with replacing_folder(home / name) as partial:
        assert tree(partial) == {}
        assert partial.parent == (home / name).parent.resolve(), "a rename from another disk would be a copy"
        fill(partial, "new")
        assert tree(home / "model") == filled("old")
    assert tree(home / name) == filled("new")
    assert [path.name for path in (home / name).parent.iterdir() if path.name.startswith(".")] == []


def test_an_error_in_the_block_leaves_all_as_it_was(home: Path) -> None:
    before = tree(home)
    for error in (ValueError("ours"), KeyboardInterrupt(), StorageError("inner")):
        with pytest.raises(type(error)) as caught, replacing_folder(home / "model") as partial:
            fill(partial, "new")
            raise error
        assert caught.value is error
        assert tree(home) == before


def test_a_full_disk_in_the_block_is_one_sentence(home: Path) -> None:
    words = r"^no space left on the disk for .*model; free some"
    with pytest.raises(StorageError, match=words), replacing_folder(home / "model") as partial:
        (partial / "a").write_text("part", encoding="utf-8")
        raise OSError(errno.ENOSPC, "full")
    assert tree(home / "model") == filled("old")


def nth(times: int, function: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, but for the call number ``times`` (from 0), which is ``then``."""
    left = [times]

    def call(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        return (then if left[0] == -1 else function)(*args, **kwargs)

    return call


STEPS: dict[str, tuple[Any, str, int]] = {
    "the new folder": (Path, "mkdir", 0),
    "the first file": (os, "fsync", 0),
    "the last file": (os, "fsync", 2),
    "the folder's own entry": (os, "fsync", 3),
    "the old aside": (Path, "rename", 0),
    "the new in": (Path, "rename", 1),
}


@each_refusal
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_refused_folder_is_one_sentence_and_the_old_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str, int], code: int, words: str
) -> None:
    before = tree(home)
    owner, name, times = step
    with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
        patch.setattr(owner, name, nth(times, getattr(owner, name), refuse(code)))
        replace_folder(home / "model", "new")
    assert str(caught.value) == words.format((home / "model").resolve())
    assert tree(home) == before
    replace_folder(home / "model", "new")
    assert tree(home / "model") == filled("new")


def test_an_interrupt_between_the_two_renames_leaves_the_old(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(home)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", nth(1, Path.rename, interrupt))
        replace_folder(home / "model", "new")
    assert tree(home) == before


def test_all_files_lie_on_the_disk_before_the_folder_is_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename = atomic._sync, Path.rename

    def note_sync(path: Path) -> None:
        events.append(path.name)
        sync(path)

    def note_rename(path: Path, target: Path) -> Path:
        events.append(f"to {target.name}")
        return rename(path, target)

    monkeypatch.setattr(atomic, "_sync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    replace_folder(home / "model", "new")
    *synced, aside, into, parent = events
    assert sorted(synced) == [atomic._partial(home / "model").name, "a", "b", "c"]
    assert (aside, into, parent) == ("to .model.old", "to model", "home")


@pytest.mark.parametrize("name", ["note", "note/below", "x" * 250, "x" * 300])
def test_a_folder_that_cannot_be_is_one_sentence(home: Path, name: str) -> None:
    before = tree(home)
    with pytest.raises(StorageError, match=r"^cannot write [^\n]+: [^\n]+$"):
        replace_folder(home / name, "new")
    assert tree(home) == before


def test_a_file_in_the_way_is_not_replaced_by_a_folder(home: Path) -> None:
    with pytest.raises(StorageError, match=r"note: a file of that name is there$"):
        replace_folder(home / "note", "new")
    assert (home / "note").read_bytes() == b"old"


def test_a_link_to_a_folder_stays_a_link(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home / "model", target_is_directory=True)
    replace_folder(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert tree(home / "model") == filled("new")


# processes that are killed

FOLDER = """
from pathlib import Path
from movieplotgpt.atomic import replacing_folder
with replacing_folder(Path("model")) as partial:
    (partial / "inner").mkdir()
    for name in ("a", "b", "inner/c"):
        (partial / name).write_text(f"new {name}", encoding="utf-8")
"""
FILE = """
from pathlib import Path
from movieplotgpt.atomic import write_text
write_text(Path("note"), "new")
"""
HOOK = """
import os, sys, movieplotgpt.atomic
left = int(sys.argv[1])
def kill(event, _):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
        left -= 1
        if left < 0:
            os._exit({killed})
sys.addaudithook(kill)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(atomic.__file__).parents[1])}


def killed_at_each_step(script: str, home: Path) -> Iterator[int]:
    """Run ``script`` in ``home``, killed before its first step on the disk, its second, and so on to its end.

    Yields the exit code each time; what the caller does with ``home`` is what the next one finds.
    """
    for steps in range(100):
        command = [sys.executable, "-c", HOOK.format(killed=KILLED) + script, str(steps)]
        code = subprocess.run(command, cwd=home, env=environment(), check=False).returncode
        yield code
        if code == 0:
            return
    raise AssertionError("it never ended")


def test_kill_leaves_the_old_folder_or_the_new_one(home: Path) -> None:
    found: list[str] = []
    for code in killed_at_each_step(FOLDER, home):
        assert code in (0, KILLED)
        moved = not (home / "model").exists()
        if not moved:
            assert tree(home / "model") in (filled("old"), filled("new"))
        recover_folder(home / "model")
        now = tree(home / "model")
        assert now in (filled("old"), filled("new"))
        found.append("moved" if moved else "old" if now == filled("old") else "new")
        assert not moved or now == filled("old")
        assert not (home / ".model.old").exists()
        replace_folder(home / "model", "old")
    assert found[-1] == "new"
    order = [state for at, state in enumerate(found) if found[at - 1 : at] != [state]]
    assert order == ["old", "moved", "new"]


def test_kill_leaves_the_old_file_or_the_new_one(home: Path) -> None:
    found = []
    for code in killed_at_each_step(FILE, home):
        found.append((code, (home / "note").read_bytes()))
    assert found == [(KILLED, b"old")] * (len(found) - 1) + [(0, b"new")]
    assert len(found) > 3


def test_recovery_brings_back_what_was_moved_aside(home: Path) -> None:
    (home / "model").rename(home / ".model.old")
    recover_folder(home / "model")
    assert tree(home / "model") == filled("old")
    assert not (home / ".model.old").exists()


def test_recovery_drops_what_had_been_replaced(home: Path) -> None:
    (home / "model").rename(home / ".model.old")
    (home / "model").mkdir()
    fill(home / "model", "new")
    recover_folder(home / "model")
    assert tree(home) == {"note": b"old", "model": None} | {f"model/{name}": v for name, v in filled("new").items()}


def test_recovery_of_what_was_never_interrupted_changes_nothing(home: Path) -> None:
    before = tree(home)
    recover_folder(home / "model")
    recover_folder(home / "nothing")
    assert tree(home) == before


def test_recovery_finds_what_a_link_points_to(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home / "model", target_is_directory=True)
    (home / "model").rename(home / ".model.old")
    recover_folder(tmp_path / "link")
    assert tree(home / "model") == filled("old")


def test_replacing_begins_with_recovery(home: Path) -> None:
    (home / "model").rename(home / ".model.old")
    with pytest.raises(ValueError, match="ours"), replacing_folder(home / "model"):
        assert tree(home / "model") == filled("old")
        raise ValueError("ours")
    assert tree(home / "model") == filled("old")


def test_a_place_below_missing_folders_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "results" / "of" / "today.json"
    check_place(path)
    write_text(path, "{}")
    assert [each.name for each in path.parent.iterdir()] == ["today.json"]


HANGING = """
import sys
from pathlib import Path
from movieplotgpt.atomic import replacing_file, replacing_folder
with replacing_file(Path("note")) as file, replacing_folder(Path("model")) as folder:
    file.write_text("part")
    (folder / "weights").write_text("part")
    print("ready", flush=True)
    sys.stdin.read()
"""


def partials(home: Path) -> list[str]:
    return sorted(path.name.partition(".")[2].partition(".")[0] for path in home.glob(".*.partial"))


@posix
@pytest.mark.parametrize("way", ["write", "recover"])
def test_partial_files_of_dead_processes_are_removed(home: Path, way: str) -> None:
    command = [sys.executable, "-c", HANGING]
    with subprocess.Popen(
        command, cwd=home, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"

        def write() -> None:
            if way == "write":
                replace_folder(home / "model", "new")
            else:
                recover_folder(home / "model")
            write_text(home / "note", "new")

        write()
        assert partials(home) == ["model", "note"], "they are being written"
        process.kill()
        process.wait()
    write()
    assert partials(home) == []


@posix
def test_partial_files_of_other_users_stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / f".note.{atomic._place()}.1.partial").write_text("part", encoding="utf-8")

    def refuse(process: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    write_text(home / "note", "new")
    assert partials(home) == ["note"]


@pytest.mark.parametrize("name", [".note.0123abcd.1.partial", ".note.1.partial"], ids=["other machine", "old name"])
def test_what_another_machine_left_is_removed_after_a_day(home: Path, name: str) -> None:
    (home / name).mkdir()
    (home / name / "weights").write_text("part", encoding="utf-8")
    write_text(home / "note", "new")
    assert partials(home) == ["note"]
    for path in (home / name / "weights", home / name):
        os.utime(path, (0, time.time() - ABANDONED_AFTER - 60))
    write_text(home / "other", "new")
    assert partials(home) == ["note"], "of another file"
    write_text(home / "note", "new")
    assert partials(home) == []


def test_a_download_that_is_to_be_resumed_stays(home: Path) -> None:
    (home / ".model.partial").mkdir()
    os.utime(home / ".model.partial", (0, 0))
    replace_folder(home / "model", "new")
    assert (home / ".model.partial").is_dir()

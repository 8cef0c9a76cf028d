"""Files and folders are written whole or not at all, also when the disk refuses or the process is killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt import atomic
from movieplotgpt.atomic import check_place, recover_folder, replacing_folder, write_bytes, write_text
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
    assert sorted(synced) == [f".model.{os.getpid()}.partial", "a", "b", "c"]
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


def killed_at_each_step(script: str, home: Path) -> Iterator[int]:
    """Run ``script`` in ``home``, killed before its first step on the disk, its second, and so on to its end.

    Yields the exit code each time; what the caller does with ``home`` is what the next one finds.
    """
    source = Path(atomic.__file__).parents[1]
    for steps in range(100):
        command = [sys.executable, "-c", HOOK.format(killed=KILLED) + script, str(steps)]
        code = subprocess.run(command, cwd=home, env={**os.environ, "PYTHONPATH": str(source)}, check=False).returncode
        yield code
        if code == 0:
            return
    raise AssertionError("it never ended")


def test_a_process_killed_at_any_step_leaves_the_old_folder_or_the_new_one(home: Path) -> None:
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


def test_a_process_killed_at_any_step_leaves_the_old_file_or_the_new_one(home: Path) -> None:
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

"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from movieplotgpt.errors import StorageError


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 so that a reader sees the old file or the new one, never a part.

    Raises:
        StorageError: the disk is full or refuses; the old file is untouched.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all.

    Raises:
        StorageError: the disk is full or refuses; the old file is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):  # what could not be made cannot be removed either
            partial.unlink()
        raise _explain(path, error) from error


def check_place(path: Path) -> None:
    """Find out before long work that a file can be written at ``path``; what is there is untouched.

    Raises:
        StorageError: it cannot.
    """
    if path.is_dir():
        raise StorageError(f"{path} is a folder; name a file in it")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise _explain(path, error) from error


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block ends without an error.

    A process killed between the two renames leaves the old folder under ``.NAME.old``; ``recover_folder`` puts it back.

    Raises:
        StorageError: the disk is full or refuses; the old folder is untouched.
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = _old_name(folder)
    try:
        if folder.is_file():
            raise FileExistsError(errno.EEXIST, "a file of that name is there")
        recover_folder(folder)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in (*filter(Path.is_file, partial.rglob("*")), partial):
            _sync(path)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _explain(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            recover_folder(folder)


def recover_folder(folder: Path) -> None:
    """Bring back what an interrupted ``replacing_folder`` had moved aside, and drop what it had replaced."""
    folder = folder.resolve()
    old = _old_name(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _old_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder to sync it
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(path: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"no space left on the disk for {path}; free some and run the command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"no permission to write {path}; choose another folder")
    return StorageError(f"cannot write {path}: {error.strerror or error}")

"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from movieplotgpt.errors import StorageError

ABANDONED_AFTER = 86_400.0  # seconds without a change, for partial files of processes that cannot be checked from here
_OPEN_FILE = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/.+/fd/\d+")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; otherwise like ``write_bytes``.

    Raises:
        StorageError: the disk is full or refuses; the old file is untouched.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` so that a reader sees the old file or the new one, never a part.

    The target of a symbolic link is replaced, not the link, and an existing file keeps its permissions. A pipe or device,
    or an open file such as /dev/stdout, cannot be replaced: the data is appended to it.

    Raises:
        StorageError: the disk is full or refuses; the old file is untouched.
    """
    try:
        if _is_stream(path):
            with path.open("ab") as stream:
                stream.write(data)
            return
    except OSError as error:
        raise storage_error(path, error) from error
    with replacing_file(path) as partial, partial.open("r+b") as file:
        file.write(data)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside ``path`` that takes its place when the block ends without an error.

    Raises:
        StorageError: the disk is full or refuses; the old file is untouched.
    """
    try:
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        partial = _partial(target)
        try:
            with partial.open("wb"):
                _keep_permissions(target, partial)
            yield partial
            move_file(partial, target)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        raise storage_error(path, error) from error


def move_file(partial: Path, path: Path) -> None:
    """Give the finished file ``partial`` the name ``path``, once all of it is on the disk.

    Raises:
        OSError: the disk refused.
    """
    _sync(partial)
    partial.replace(path)


def check_place(path: Path) -> None:
    """Check, before long work, that a file can be written at ``path``; an existing one is untouched.

    Raises:
        StorageError: it cannot.
    """
    if path.is_dir():
        raise StorageError(f"{path} is a folder; name a file in it")
    try:
        if _is_stream(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _partial(target).touch()
        _partial(target).unlink()
    except OSError as error:
        raise storage_error(path, error) from error


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block ends without an error.

    A process killed between the two renames leaves the old folder under ``.NAME.old``; ``recover_folder`` puts it back.

    Raises:
        StorageError: the disk is full or refuses; the old folder is untouched.
    """
    folder = folder.resolve()
    partial, old = _partial(folder), _old_name(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(errno.EEXIST, "a file of that name is there")
        recover_folder(folder)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _keep_permissions(folder, partial)
        yield partial
        for path in (*filter(Path.is_file, partial.rglob("*")), partial):
            _sync(path)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            recover_folder(folder)


def recover_folder(folder: Path) -> None:
    """Restore what an interrupted ``replacing_folder`` had moved aside, and remove what killed processes left.

    Only for a folder that no other process is replacing at the moment.
    """
    folder = folder.resolve()
    old = _old_name(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    _remove_abandoned(folder)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the sentence for a write that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"no space left on the disk for {path}; free some and run the command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"no permission to write {path}; choose another folder")
    return StorageError(f"cannot write {path}: {error.strerror or error}")


def _is_stream(path: Path) -> bool:
    """Return whether ``path`` is a pipe, a device or an open file, none of which another file can replace."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _OPEN_FILE.fullmatch(os.path.abspath(path)) is not None


def _target(path: Path) -> Path:
    """The file that a chain of symbolic links leads to, whether it exists or not; ``path`` itself if it is no link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _keep_permissions(old: Path, new: Path) -> None:
    """Give ``new``, which is still empty, the owner and the mode of ``old``, if there is an old one."""
    try:
        facts, own = old.stat(), new.stat()
    except FileNotFoundError:
        return
    if (facts.st_uid, facts.st_gid) != (own.st_uid, own.st_gid):
        with suppress(OSError):  # only root may give files away
            os.chown(new, facts.st_uid, facts.st_gid)
    mode = stat.S_IMODE(facts.st_mode) | (stat.S_IRWXU if stat.S_ISDIR(facts.st_mode) else 0)
    if mode != stat.S_IMODE(own.st_mode):
        new.chmod(mode)


def _old_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_place()}.{os.getpid()}.partial")


@cache
def _place() -> str:
    """Name the processes whose ids this one can check: those of one machine, since one start of it, in one container."""
    known = [socket.gethostname()]
    with suppress(OSError):  # Linux has these two
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        known.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]


def _remove_abandoned(path: Path) -> None:
    """Remove the partial files and folders of ``path`` whose processes were killed."""
    left = re.compile(rf"\.{re.escape(path.name)}\.(?:([0-9a-f]{{8}})\.)?([0-9]+)\.partial")
    with suppress(OSError):
        for found in path.parent.iterdir():
            if (name := left.fullmatch(found.name)) and _is_abandoned(found, name[1], int(name[2])):
                if found.is_dir():
                    shutil.rmtree(found, ignore_errors=True)
                else:
                    found.unlink(missing_ok=True)


def _is_abandoned(partial: Path, place: str | None, process: int) -> bool:
    """Return whether the process that was writing is gone; of one that cannot be checked, whether nothing has changed for a day."""
    if place == _place() and os.name == "posix":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        return False
    changed = max(path.stat().st_mtime for path in (partial, *partial.rglob("*")))
    return time.time() - changed > ABANDONED_AFTER


def _sync(path: Path) -> None:
    """Wait until ``path`` is on the disk. Windows syncs only files that are open for writing, and no folder."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if path.is_dir():
            return
        handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

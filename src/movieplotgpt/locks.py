"""One process at a time: lock files that work on shared disks, outlive no process and are removed at the end."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from movieplotgpt import atomic
from movieplotgpt.errors import TrainingError

LOCK, HOLDER = ".in-use.lock", ".in-use.json"  # hidden: a run may lie in the folder of text that it is trained on
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # besides ENOSYS, which filelock handles


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path``. The system releases it when the process ends, however it ends.

    Raises:
        OSError: the file cannot be created.
        Timeout: another process holds it, and this one is not to ``wait``.
    """
    lock = _acquire(path, wait)
    try:
        yield
    finally:
        _remove(path)  # Windows removes no open file; there filelock does it on release
        lock.release()


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Keep other processes out of ``folder``, which is created if it is missing, and removed if it is left empty.

    The lock is in the folder, so it holds for every machine that shares the disk. Some file systems lock files for one
    machine only, so a file beside the lock names the holder. A process killed on this machine leaves the folder free.
    Whether one on another machine still runs cannot be known here: its file counts until someone deletes it.

    Raises:
        StorageError: the disk refuses.
        TrainingError: another process works in the folder.
    """
    holder = folder / HOLDER
    with ExitStack() as stack:
        for path in (path for path in (*reversed(folder.parents), folder) if not path.exists()):
            stack.callback(_remove_if_empty, path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / LOCK, wait=False))
        except Timeout:
            raise TrainingError(
                f"another process{_name(_read(holder))} is training in {folder}; wait for it to end, or name another "
                "folder with out=FOLDER"
            ) from None
        except OSError as error:
            raise atomic.storage_error(folder, error) from error
        if _on_another_machine(found := _read(holder)):
            raise TrainingError(
                f"a process{_name(found)} is training in {folder}; wait for it to end, name another folder with out=FOLDER, or "
                f"delete {holder} if you know that it has ended"
            )
        atomic.write_text(holder, json.dumps(_this_process()) + "\n")
        stack.callback(_remove, holder)
        yield


def _acquire(path: Path, wait: bool) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filelock warns when it falls back to a lock that exists by name only
        try:
            lock.acquire(blocking=wait)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            lock = SoftFileLock(f"{path}.held")  # a name of its own: the failed attempt has created `path`
            lock.acquire(blocking=wait)
    return lock


def _this_process() -> dict[str, Any]:
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"host": socket.gethostname(), "boot": _boot_id(), "process": os.getpid(), "since": now}


def _boot_id() -> str | None:
    """Return Linux's id of this boot, the same in all containers; None on other systems."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _read(holder: Path) -> dict[str, Any]:
    """Return what the holder wrote about itself; empty if there is no record, or a damaged one."""
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _on_another_machine(holder: dict[str, Any]) -> bool:
    """Return whether this machine's locks may not know of the holder's."""
    if not holder or holder.get("host") == socket.gethostname():
        return False
    return holder.get("boot") is None or holder["boot"] != _boot_id()


def _name(holder: dict[str, Any]) -> str:
    if not holder:
        return ""
    return f" (process {holder.get('process')} on {holder.get('host')}, since {holder.get('since')})"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()

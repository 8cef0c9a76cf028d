"""The cache of what ``torch.compile`` built: private to one version, and used only where every library in it is whole.

A process that is killed while it compiles leaves half a library, which PyTorch would load in every later training ("file
too short"), or take as a sign that the processor has no vector units. So each library gets a note with its checksum when
compiling has ended, and a library without a matching note is deleted before the cache is used again. PyTorch builds what
is missing.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from movieplotgpt.atomic import write_text
from movieplotgpt.engine.places import cache_folder
from movieplotgpt.errors import StorageError
from movieplotgpt.machine import cpu_info

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
BUILT = (
    ".so",
    ".dylib",
    ".o",
    ".gch",
    ".pch",
)  # what compilers write; PyTorch writes its own files whole or not at all
NOTE = ".whole"  # added to a library's name: the file with its checksum
_in_use: dict[Path, FileLock] = {}  # caches that this process checks and writes notes for


def open_cache() -> Path:
    """Point PyTorch to the cache, after deleting what is damaged in it, and return its folder.

    The cache is in the folder that TORCHINDUCTOR_CACHE_DIR names, or else in the user's cache. Where it cannot be written,
    a temporary folder takes its place for this process. While another process uses the cache nothing is deleted.
    """
    try:
        folder = _location()
        if folder not in _in_use:
            folder.mkdir(parents=True, exist_ok=True)
            _take(folder)
    except (OSError, NotImplementedError):  # no home folder, no permission, no space; no locks on this file system
        folder = Path(tempfile.mkdtemp(prefix="movieplotgpt-"), _key())
        folder.mkdir()
        atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    os.environ[VARIABLE] = str(folder)
    _configure(folder)
    return folder


def note_whole(folder: Path) -> None:
    """Write a note beside each library in ``folder`` that has none and that nobody is building."""
    for path in _libraries(folder):
        if not _note_of(path).exists() and not _being_built(path, folder):
            with suppress(OSError, StorageError):
                write_text(_note_of(path), _checksum(path))


def remove_damaged(folder: Path) -> int:
    """Delete each library in ``folder`` that differs from its note or has none; return how many."""
    damaged = [path for path in _libraries(folder) if not _is_whole(path)]
    for path in damaged:
        path.unlink(missing_ok=True)
        _note_of(path).unlink(missing_ok=True)
    return len(damaged)


def distrust_cache() -> None:
    """Delete all notes, so that the next training builds everything anew."""
    if folder := os.environ.get(VARIABLE):
        for note in Path(folder).rglob(f"*{NOTE}"):
            with suppress(OSError):
                note.unlink()


def _location() -> Path:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    named = os.environ.get(VARIABLE)
    if named == default_cache_dir():  # PyTorch itself sets the variable when it imports its compiler
        named = None
    if named and Path(named).name == _key():  # set by this process, or by the one that started it
        return Path(named)
    return (Path(named) if named else cache_folder("compiled")) / _key()


def _key() -> str:
    """Name the versions, and the processor: code for one may crash on another that shares the home folder."""
    processor = hashlib.sha256(cpu_info().get("flags", "").encode()).hexdigest()[:8]
    python = f"{sys.implementation.cache_tag}-{platform.machine()}-{processor}"
    return f"torch-{torch.__version__}-{python}"


def _take(folder: Path) -> None:
    lock = FileLock(folder / "in-use.lock")
    with suppress(Timeout):
        lock.acquire(blocking=False)  # released when the process ends, however it ends
        _in_use[folder] = lock
        remove_damaged(folder)
        from torch._dynamo.callback import callback_handler

        callback_handler.register_end_callback(lambda _: note_whole(folder))


def _configure(folder: Path) -> None:
    """Keep precompiled headers in the cache, too; without openssl, which PyTorch names them with, do without them."""
    from torch._inductor import codecache, config

    headers = folder / "headers"
    if hasattr(codecache, "_HEADER_DIR"):
        codecache._HEADER_DIR, codecache._HEADER_LOCK_DIR = str(headers), str(headers / "locks")
    if shutil.which("openssl") is None:
        config.cpp_cache_precompile_headers = False


def _libraries(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in BUILT)


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + NOTE)


def _is_whole(path: Path) -> bool:
    try:
        return _note_of(path).read_text(encoding="ascii") == _checksum(path)
    except (OSError, ValueError):
        return False


def _checksum(path: Path) -> str:
    return f"{zlib.crc32(path.read_bytes()):08x}"


def _being_built(path: Path, folder: Path) -> bool:
    """Return whether a process holds the lock that PyTorch takes while it builds ``path``."""
    name = f"{path.name.partition('.')[0]}.lock"
    for lock in (folder / "locks" / name, folder / "headers" / "locks" / name):
        if lock.exists():
            try:
                with FileLock(lock).acquire(blocking=False):
                    continue
            except Timeout:
                return True
    return False

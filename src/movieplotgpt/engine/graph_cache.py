"""Graphs are built once per model and kept in the user's cache, named by all that they depend on and by their content."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import onnxruntime
from filelock import FileLock

from movieplotgpt import atomic
from movieplotgpt.engine.places import cache_folder
from movieplotgpt.errors import StorageError

MOST, DAYS = 24, 30  # graphs that are kept, and days after which one that nobody used is removed
_SOURCES = ("graph.py", "fused_graph.py", "quantization.py", "byte_products.py")  # what decides how a graph comes out


def cached_graph(identity: tuple[object, ...], build: Callable[[], bytes]) -> Path | bytes:
    """Return the file of the graph that ``identity`` names, built if it is missing or damaged.

    Where no file can be kept the graph itself is returned. Processes that need the same graph at once build it once.
    """
    graph = b""
    try:
        folder, key = cache_folder("graphs"), _key(identity)
        if found := _intact(folder, key):
            return found
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            if found := _intact(folder, key):
                return found
            graph = build()
            path = folder / f"{key}-{zlib.crc32(graph):08x}.onnx"
            atomic.write_bytes(path, graph)
        _remove_old(folder, path)
        return path
    except (OSError, NotImplementedError, StorageError):  # no home, a full disk, no permission, no locks
        return graph or build()


def _key(identity: tuple[object, ...]) -> str:
    digest = hashlib.sha256(repr((identity, onnxruntime.__version__)).encode())
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:24]


def _intact(folder: Path, key: str) -> Path | None:
    """Return the graph's file if its content has the checksum that its name ends with; remove a damaged one."""
    for path in folder.glob(f"{key}-*.onnx"):
        checksum = 0
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                checksum = zlib.crc32(block, checksum)
        if path.stem == f"{key}-{checksum:08x}":
            with suppress(OSError):
                path.touch()  # used today
            return path
        with suppress(OSError):
            path.unlink()
    return None


def _remove_old(folder: Path, new: Path) -> None:
    with suppress(OSError):
        others = sorted(folder.glob("*.onnx"), key=lambda path: -path.stat().st_mtime)
        for place, path in enumerate(path for path in others if path != new):
            if place >= MOST - 1 or time.time() - path.stat().st_mtime > DAYS * 86_400:
                path.unlink(missing_ok=True)
                path.with_name(f"{path.stem.partition('-')[0]}.lock").unlink(missing_ok=True)

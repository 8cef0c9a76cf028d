"""The weights of a model folder: one safetensors file, or several and an index of them, as Hugging Face lays them out.

Or one file of bytes, half as large as bfloat16, which this library alone reads; other tools find no weights there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize

from movieplotgpt import atomic
from movieplotgpt.engine.places import cache_folder
from movieplotgpt.engine.quantization import F32, from_bytes
from movieplotgpt.errors import CheckpointError, StorageError

WHOLE, INDEX, BYTES = "model.safetensors", "model.safetensors.index.json", "model.int8.safetensors"
SETTLED = 2.0  # seconds: a file that changed later may change again within one tick of its clock
DAYS = 30  # that a hash is remembered
_TYPES: dict[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I8": np.int8}


@np.errstate(all="ignore")  # what is not finite is said in a sentence
def load_weights(folder: Path) -> dict[str, F32]:
    """Read all weights of a folder as float32.

    Raises:
        CheckpointError: a file is missing or damaged, or a weight is NaN or infinite.
    """
    weights: dict[str, npt.NDArray[Any]] = {}
    for path in weight_files(folder):
        try:
            weights |= {name: _array(tensor) for name, tensor in deserialize(path.read_bytes())}  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            raise CheckpointError(f"{folder} has no {path.name}; copy or download the model again") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); copy or download the model again") from None
    try:
        unpacked = from_bytes(weights)
    except ValueError as error:
        raise CheckpointError(f"{folder / BYTES} is damaged ({error}); copy or download the model again") from None
    if name := not_finite(unpacked):
        raise CheckpointError(f"{name} in {folder} is NaN or infinite; copy or download the model again")
    return unpacked


@np.errstate(all="ignore")
def not_finite(weights: Mapping[str, F32]) -> str | None:
    """Return the name of a weight that is NaN or infinite, if there is one."""
    return next((name for name, each in weights.items() if not math.isfinite(float(each.sum(dtype=np.float64)))), None)


def _array(tensor: dict[str, Any]) -> npt.NDArray[Any]:
    """One tensor of a safetensors file: float32, or the bytes of a quantised one."""
    kind, shape, data = tensor["dtype"], tensor["shape"], tensor["data"]
    if kind == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if kind not in _TYPES:
        raise ValueError(f"weights of type {kind} are not supported")
    array = np.frombuffer(data, _TYPES[kind]).reshape(shape)
    return array if kind == "I8" else array.astype(np.float32, copy=False)


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a folder, by name.

    Raises:
        CheckpointError: the index is damaged, or names a file outside the folder.
    """
    index = folder / INDEX
    if not index.is_file():
        one = (folder / name for name in (WHOLE, BYTES))
        return [next((path for path in one if path.is_file()), folder / WHOLE)]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not all(re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names):
            raise ValueError("it names other files than weights")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index} is damaged ({error}); copy or download the model again") from None
    return [folder / name for name in names]


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of the file of weights, or of the files one after the other.

    Raises:
        CheckpointError: as ``weight_files`` says.
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def remembered_sha256(folder: Path) -> str:
    """Return ``weights_sha256``, remembered in the user's cache until a file of weights changes its size, times or inode.

    Raises:
        CheckpointError, OSError: as ``weights_sha256``.
    """
    stats = [path.stat() for path in weight_files(folder)]
    facts = [(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats]
    key = hashlib.sha256(repr((str(folder), facts)).encode()).hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        known = (cache_folder("hashes") / key).read_text(encoding="ascii")
        if re.fullmatch("[0-9a-f]{64}", known):
            return known
    found = weights_sha256(folder)
    if time.time() - max(max(s.st_mtime, s.st_ctime) for s in stats) > SETTLED:
        with suppress(OSError, StorageError):
            hashes = cache_folder("hashes")
            hashes.mkdir(parents=True, exist_ok=True)
            for path in hashes.iterdir():
                if time.time() - path.stat().st_mtime > DAYS * 86_400:
                    path.unlink()
            atomic.write_text(hashes / key, found)
    return found

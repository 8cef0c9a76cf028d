"""The weights of a model folder: one safetensors file, or several and an index of them, as Hugging Face lays them out.

Or one file of bytes, half as large as bfloat16, which this library alone reads; other tools find no weights there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from pathlib import Path

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.quantization import from_bytes, to_bytes

WHOLE, INDEX, BYTES = "model.safetensors", "model.safetensors.index.json", "model.int8.safetensors"
NO_LIMIT = 1 << 62


def save_weights(weights: dict[str, Tensor], folder: Path, *, largest_file: int = NO_LIMIT) -> None:
    """Write ``weights`` in files that hold at most ``largest_file`` bytes of them each.

    Raises:
        OSError: the disk refused.
    """
    split = split_torch_state_dict_into_shards(
        weights, filename_pattern="model{suffix}.safetensors", max_shard_size=largest_file
    )
    for file, names in split.filename_to_tensors.items():
        save_tensors({name: weights[name] for name in names}, folder / file)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a folder.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            weights |= load_file(path)
        except FileNotFoundError:
            raise CheckpointError(f"{folder} has no {path.name}; copy or download the model again") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); copy or download the model again") from None
    try:
        return from_bytes(weights)
    except ValueError as error:
        raise CheckpointError(f"{folder / BYTES} is damaged ({error}); copy or download the model again") from None


def save_bytes(weights: dict[str, Tensor], folder: Path) -> None:
    """Write ``weights`` in one file, the matrices as signed bytes with a scale for each row.

    Raises:
        OSError: the disk refused.
    """
    save_tensors(to_bytes(weights), folder / BYTES)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a folder, by name.

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
    """The SHA-256 by which the weights of a folder are known: of the file, or of the files one after the other.

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


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write ``tensors`` as safetensors.

    Raises:
        OSError: the disk refused; safetensors itself raises an error of its own kind.
    """
    path.touch()
    mode = path.stat().st_mode  # of any new file; the library's are for nobody else to read
    try:
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(mode)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else errno.EIO, str(error)) from error

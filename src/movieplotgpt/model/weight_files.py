"""Write the weights of a model folder; ``engine.weight_files`` reads them."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from movieplotgpt.engine.quantization import to_bytes
from movieplotgpt.engine.weight_files import BYTES, INDEX

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


def save_bytes(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write ``weights`` in one file, the matrices as signed bytes with a scale for each row.

    Raises:
        OSError: the disk refused.
    """
    packed = to_bytes({name: weight.float().numpy() for name, weight in weights.items()})
    save_tensors({name: torch.from_numpy(values) for name, values in packed.items()}, folder / BYTES)


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

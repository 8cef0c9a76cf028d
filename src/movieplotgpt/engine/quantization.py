"""Matrices as signed bytes, each row with a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

LARGEST = 127  # of a signed byte, zero in the middle
SCALE = ".scale"  # what the name of a matrix's scales ends with
F32: TypeAlias = npt.NDArray[np.float32]


def quantize(weight_NM: F32) -> tuple[npt.NDArray[np.int8], F32]:
    """Return signed bytes (N, M) and the scale of each row (N,)."""
    scale_N = np.maximum(np.abs(weight_NM).max(1), np.float32(1e-9)) / np.float32(LARGEST)
    return np.rint(weight_NM / scale_N[:, None]).astype(np.int8), scale_N


def to_bytes(weights: Mapping[str, F32]) -> dict[str, npt.NDArray[Any]]:
    """Return the matrices as bytes with their scales beside them; vectors stay as they are."""
    packed: dict[str, npt.NDArray[Any]] = {}
    for name, weight in weights.items():
        if weight.ndim == 2:
            packed[name], packed[name + SCALE] = quantize(weight)
        else:
            packed[name] = weight
    return packed


def from_bytes(packed: Mapping[str, npt.NDArray[Any]]) -> dict[str, F32]:
    """Return what ``to_bytes`` was given, rounded to the bytes.

    Raises:
        ValueError: a matrix has no scales, or not one for each row.
    """
    weights = {}
    for name, tensor in packed.items():
        if tensor.dtype == np.int8:
            scale_N = packed.get(name + SCALE)
            if tensor.ndim != 2 or scale_N is None or scale_N.shape != tensor.shape[:1]:
                raise ValueError(f"{name} has no scale for each row")
            weights[name] = tensor.astype(np.float32) * scale_N[:, None]
        elif not name.endswith(SCALE):
            weights[name] = tensor
    return weights

"""Matrices as signed bytes, each row with a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LARGEST = 127  # of a signed byte, zero in the middle
SCALE = ".scale"  # what the name of a matrix's scales ends with


def quantize(weight_NM: Tensor) -> tuple[Tensor, Tensor]:
    """Signed bytes and, of each row, what they are to be multiplied with: (N, M), (N,)."""
    scale_N = weight_NM.abs().amax(1).clamp_min(1e-9) / LARGEST
    return (weight_NM / scale_N[:, None]).round().to(torch.int8), scale_N


def to_bytes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices as bytes with their scales beside them; vectors stay as they are."""
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim == 2:
            packed[name], packed[name + SCALE] = quantize(weight.float())
        else:
            packed[name] = weight
    return packed


def from_bytes(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``to_bytes`` was given, rounded to the bytes.

    Raises:
        ValueError: a matrix has no scales, or not one for each row.
    """
    weights = {}
    for name, tensor in packed.items():
        if tensor.dtype == torch.int8:
            scale_N = packed.get(name + SCALE)
            if scale_N is None or scale_N.shape != tensor.shape[:1]:
                raise ValueError(f"{name} has no scale for each row")
            weights[name] = tensor.float() * scale_N[:, None]
        elif not name.endswith(SCALE):
            weights[name] = tensor
    return weights

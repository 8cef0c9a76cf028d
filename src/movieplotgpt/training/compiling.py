"""The training loss under ``torch.compile``, and where compiled code is kept between runs.

One block is compiled and serves every layer, then the last norm, then the head with its cross-entropy. As fast as the
whole network compiled in one piece, and ready sooner: 22 s where that took 38 s, from the cache 2.6 s where that took 3.3
(base, two cores; results/LOG.md). ``GPT.loss`` itself is the oracle of its test.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from movieplotgpt.engine.places import cache_folder
from movieplotgpt.model.gpt import GPT


class CompiledLoss:
    """``GPT.loss``, compiled for the shape of the first batch. Sampling and scoring keep the eager network."""

    def __init__(self, model: GPT) -> None:
        self._model = model
        self._call = compiled_call()
        self._cross_entropy = compiled_function(model.cross_entropy)

    def __call__(self, ids_BT: Tensor, targets_BT: Tensor, starts_BT: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy in nats per token."""
        return self._cross_entropy(self._model.hidden(ids_BT, starts_BT, call=self._call), targets_BT)


def compiled_call() -> Callable[..., Tensor]:
    """What runs a layer on its inputs, compiled once for layers that are alike: for ``GPT.hidden``."""
    return compiled_function(_call)


def compiled_function(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function`` under torch.compile, for fixed shapes."""
    keep_compiled_code()
    return torch.compile(function, dynamic=False)


def keep_compiled_code() -> None:
    """Put PyTorch's compiled code under the user's cache, where a restart leaves it, unless a place is named already."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    with suppress(OSError):  # else PyTorch's own choice, in the temporary folder
        folder = cache_folder("compiled")
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def _call(layer: nn.Module, *inputs: Any) -> Tensor:
    output: Tensor = layer(*inputs)
    return output

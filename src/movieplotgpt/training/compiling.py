"""The training loss under ``torch.compile``.

One block is compiled and serves every layer, then the last norm, then the head with its cross-entropy. As fast as the
whole network compiled in one piece, and ready sooner: 22 s where that took 38 s, from the cache 2.6 s where that took 3.3
(base, two cores; results/LOG.md). ``GPT.loss`` itself is the oracle of its test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from movieplotgpt.model.gpt import GPT
from movieplotgpt.training.compiled_code import open_cache

LONGEST_REASON = 200  # characters


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
    """Return the function that runs a layer on its inputs, compiled once for all layers of a kind; for ``GPT.hidden``."""
    return compiled_function(_call)


def compiled_function(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function`` under torch.compile, for fixed shapes."""
    open_cache()
    return torch.compile(function, dynamic=False)


def reason_of(error: BaseException) -> str:
    """Return the line of an error of ``torch.compile`` that names the cause: of a compiler's output, the first error."""
    text = str(getattr(error, "inner_exception", None) or error)
    lines = [line.strip() for line in text.rpartition("Output:\n")[2].splitlines() if line.strip()]
    cause = next((line for line in lines if "error" in line.lower()), lines[0] if lines else type(error).__name__)
    return cause if len(cause) <= LONGEST_REASON else f"{cause[:LONGEST_REASON]}..."


def _call(layer: nn.Module, *inputs: Any) -> Tensor:
    output: Tensor = layer(*inputs)
    return output

"""The training loss under ``torch.compile``, and where compiled code is kept between runs.

One block is compiled and serves every layer, then the last norm, then the head with its cross-entropy. As fast as the
whole network compiled in one piece, and ready sooner: 22 s where that took 38 s, from the cache 2.6 s where that took 3.3
(base, two cores; results/LOG.md). ``GPT.loss`` itself is the oracle of its test.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from movieplotgpt.model.gpt import GPT


class CompiledLoss:
    """``GPT.loss``, compiled for the shape of the first batch. Sampling and scoring keep the eager network."""

    def __init__(self, model: GPT) -> None:
        keep_compiled_code()
        self._model = model
        self._call = torch.compile(_call, dynamic=False)
        self._cross_entropy = torch.compile(model.cross_entropy, dynamic=False)

    def __call__(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats per token."""
        loss: Tensor = self._cross_entropy(self._model.hidden(ids_BT, call=self._call), targets_BT)
        return loss


def keep_compiled_code() -> None:
    """Put PyTorch's compiled code under the user's cache, where a restart leaves it, unless a place is named already."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "movieplotgpt" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # PyTorch's own choice, in the temporary folder
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def _call(layer: nn.Module, *inputs: Any) -> Tensor:
    output: Tensor = layer(*inputs)
    return output

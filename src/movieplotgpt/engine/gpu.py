"""The engine on a GPU: the float16 graph through CUDA, keys and values in the GPU's memory.

Rows of that memory stay where they are, so each step reads a token of all of them; what a row without a text reads is
overwritten. Prompts are read token by token, beside each other: many at once take no longer than one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import get_args

import numpy as np
import onnxruntime

from movieplotgpt.engine.byte_products import probe_session
from movieplotgpt.engine.kv_cache import KVCache
from movieplotgpt.engine.model_config import Device, ModelConfig, Precision
from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.engine.quantization import F32
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import ConfigError

CUDA = "CUDAExecutionProvider"
INSTALL = "pip uninstall -y onnxruntime; pip install 'onnxruntime-gpu[cuda,cudnn]>=1.30'"


def make_engine(model: TextModel, precision: Precision | None = None, device: Device = "auto") -> Engine:
    """Return an engine on ``device``; ``auto`` is a GPU where onnxruntime-gpu finds one.

    ``precision`` is int8 by default, and always float16 on a GPU.

    Raises:
        ConfigError: an unknown device or precision, or a model too large for it.
        CheckpointError: a file of the model is missing or damaged, or ONNX Runtime cannot run it.
    """
    if device not in get_args(Device):
        raise ConfigError(f"{device!r} is not a device; choose one of {', '.join(get_args(Device))}")
    if device == "cpu" or (device == "auto" and (precision not in (None, "float16") or not has_gpu())):
        return Engine(model, precision=precision or "int8")
    if CUDA not in onnxruntime.get_available_providers():
        raise ConfigError(f"device cuda needs onnxruntime-gpu, which is not installed; {INSTALL}")
    if not has_gpu():
        raise ConfigError(
            f"device cuda needs an NVIDIA GPU, its driver and CUDA's libraries, and one of these is missing; {INSTALL}"
        )
    if precision not in (None, "float16"):
        raise ConfigError(f"on a GPU the precision is float16, not {precision}; leave it out, or use device cpu")
    return GPUEngine(model, precision="float16")


@cache
def has_gpu() -> bool:
    """Return whether ONNX Runtime can use a GPU; without one, its sessions run on the processor."""
    if CUDA not in onnxruntime.get_available_providers():
        return False
    onnxruntime.set_default_logger_severity(4)  # a provider that cannot be loaded is not an error here
    with redirect_stdout(StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()  # CUDA's libraries, if pip has installed them
    return CUDA in probe_session([CUDA]).get_providers()


class GPUEngine(Engine):
    """Reads the tokens of one model on a GPU."""

    providers = (CUDA, "CPUExecutionProvider")
    place = "cuda"  # of the keys and values

    def new_cache(self, batch: int) -> GPUCache:
        """Return an empty cache for ``batch`` texts of a full context."""
        return GPUCache(self.config, batch, self.precision, self.place)

    def next_logits(self, ids_B: Sequence[int], cache: KVCache) -> F32:
        """Read one token of each of the first B texts; return the logits of the next one, (B, V)."""
        return self._step(dict(enumerate(ids_B)), cache)[: len(ids_B)]

    def read(self, texts: Sequence[Sequence[int]], cache: KVCache, row: int = 0) -> None:
        """Read texts into the rows from ``row`` on, token by token."""
        for place in range(max(map(len, texts), default=0)):
            self._step({row + i: text[place] for i, text in enumerate(texts) if place < len(text)}, cache)

    def _step(self, ids: Mapping[int, int], cache: KVCache) -> F32:
        """Read a token of some rows; return logits of all rows in use."""
        assert isinstance(cache, GPUCache)
        rows, used = len(cache.places), cache.places[: len(cache.lengths)]
        bound = self._binding(cache, 0, rows, 1, rows)
        bound.ids_BT[:], bound.last_B[:], bound.wanted_N[:] = 0, 0, range(rows)
        bound.last_B[used] = np.minimum(cache.lengths, self.config.context_length - 1)  # a full row is read anew later
        for row, id_ in ids.items():
            bound.ids_BT[cache.places[row], 0] = id_
        bound.longest[...] = bound.last_B.max() + 1
        self._session.run_with_iobinding(bound.binding)
        cache.lengths[[*ids]] += 1
        return bound.logits_NV[used]


class GPUCache(KVCache):
    """Keys and values on a GPU; ``places`` maps each text to its row of memory, then lists the free ones."""

    def __init__(self, config: ModelConfig, batch: int, precision: Precision, place: str) -> None:
        self._place = place
        super().__init__(config, batch, precision)
        self.places = [*range(batch)]

    def _memory(self, shape: tuple[int, ...], precision: Precision) -> onnxruntime.OrtValue:
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(precision), self._place, 0)

    def values(self, start: int, stop: int) -> Sequence[onnxruntime.OrtValue]:
        """Return the memory of all rows: key, value of each layer."""
        return self._parts

    def exchange(self, first: int, second: int) -> None:
        """Let two rows take each other's place."""
        self.places[first], self.places[second] = self.places[second], self.places[first]
        self._lengths[[first, second]] = self._lengths[[second, first]]

    def keep(self, rows: Collection[int]) -> list[int]:
        """Keep only these rows, where they are. Returns the old number of each row."""
        kept = list(rows)
        gone = [row for row in range(len(self.places)) if row not in rows]
        self.places = [self.places[row] for row in (*kept, *gone)]
        self._lengths = self._lengths[[*kept, *gone]]
        self._rows = len(kept)
        return kept

"""Keys and values of the tokens read so far, in numpy memory that the session reads and writes in place."""

from __future__ import annotations

import math
import mmap
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnxruntime

from movieplotgpt.engine.model_config import ModelConfig, Precision, kv_cache_bytes, padded_head
from movieplotgpt.errors import CheckpointError


class KVCache:
    """Room for a full context of each of ``batch`` texts; the texts may be of different lengths.

    ``lengths`` (B,) counts the tokens read of each text in use; to forget the end of a text, lower it.

    Raises:
        CheckpointError: there is not enough memory.
    """

    def __init__(self, config: ModelConfig, batch: int, precision: Precision) -> None:
        shape = (batch, config.n_kv_head, config.context_length, padded_head(config))
        try:
            self._parts = [self._memory(shape, precision) for _ in range(2 * config.n_layer)]  # keys, values
        except (MemoryError, OSError, OverflowError, RuntimeError):
            size = kv_cache_bytes(config, precision, batch=batch)
            raise CheckpointError(
                f"{batch} texts with a context of {config.context_length:,} tokens need {size / 1e9:.1f} GB of memory, "
                "more than is free; write fewer at once"
            ) from None
        self._lengths = np.zeros(batch, np.int64)
        self._rows = batch

    def _memory(self, shape: tuple[int, ...], precision: Precision) -> Any:
        """Memory that is taken page by page as it is written to; numpy's own comes in huge pages, each zeroed at once."""
        kind, count = np.dtype(precision), math.prod(shape)
        return np.frombuffer(mmap.mmap(-1, max(kind.itemsize * count, 1)), kind, count).reshape(shape)

    @property
    def lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Tokens read of each text, as a view that may be written to."""
        return self._lengths[: self._rows]

    def values(self, start: int, stop: int) -> Sequence[onnxruntime.OrtValue]:
        """Return the memory of some rows: key, value of each layer."""
        return [onnxruntime.OrtValue.ortvalue_from_numpy(part[start:stop]) for part in self._parts]

    def copy(self, source: int, row: int, length: int | None = None) -> None:
        """Make ``row`` hold the first ``length`` tokens of ``source`` (default: all)."""
        length = int(self._lengths[source]) if length is None else length
        for part in self._parts:
            part[row, :, :length] = part[source, :, :length]
        self._lengths[row] = length

    def exchange(self, first: int, second: int) -> None:
        """Let two rows take each other's place."""
        length = int(self._lengths[[first, second]].max())
        for part in self._parts:
            part[[first, second], :, :length] = part[[second, first], :, :length]
        self._lengths[[first, second]] = self._lengths[[second, first]]

    def add(self) -> int:
        """Take another row into use and return its number."""
        self._lengths[self._rows] = 0
        self._rows += 1
        return self._rows - 1

    def keep(self, rows: Collection[int]) -> list[int]:
        """Keep only these rows, moving the last ones into the gaps. Returns the old number of each row."""
        order = list(range(len(rows)))
        gaps = sorted(set(order).difference(rows))
        for row, place in zip(sorted(row for row in rows if row >= len(rows)), gaps, strict=True):
            self.copy(row, place)
            order[place] = row
        self._rows = len(order)
        return order

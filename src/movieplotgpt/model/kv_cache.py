"""Keys and values of the tokens already read, so that each new token costs one step."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor


class KVCache:
    """Room for ``max_length`` tokens of ``batch`` texts, allocated once; the texts may be of different lengths.

    Shapes: keys and values are (n_layer, B, K, max_length, D): K key-value heads, D head size.
    """

    def __init__(
        self,
        n_layer: int,
        batch: int,
        n_kv_head: int,
        max_length: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (n_layer, batch, n_kv_head, max_length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.max_length = max_length
        self.lengths = np.zeros(batch, np.int64)  # tokens read of each text
        self._room = (self.keys, self.values, self.lengths)

    @property
    def length(self) -> int:
        """Tokens read of the longest text."""
        return int(self.lengths.max())

    @property
    def even(self) -> bool:
        """Whether all texts are of one length."""
        return bool((self.lengths == self.lengths[0]).all())

    def extend(self, layer: int, k_BKTD: Tensor, v_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new keys and values of one layer behind the old ones; return all of them so far.

        Texts of different lengths take one new token at a time; what lies behind the end of a shorter one is not its.
        """
        new = k_BKTD.shape[2]
        stop = self.length + new
        if self.even:
            self.keys[layer, :, :, stop - new : stop] = k_BKTD
            self.values[layer, :, :, stop - new : stop] = v_BKTD
        else:
            assert new == 1, "texts of different lengths take one token at a time"
            rows, ends = torch.arange(len(self.lengths)), torch.from_numpy(self.lengths)
            self.keys[layer, rows, :, ends] = k_BKTD[:, :, 0]
            self.values[layer, rows, :, ends] = v_BKTD[:, :, 0]
        return self.keys[layer, :, :, :stop], self.values[layer, :, :, :stop]

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` of each text as read, once every layer has them."""
        self.lengths += tokens

    def reset(self) -> None:
        """Forget everything; the memory stays."""
        self.lengths[:] = 0

    def shorten(self, tokens: int) -> None:
        """Forget what lies behind the first ``tokens`` of each text."""
        assert tokens <= self.lengths.min()
        self.lengths[:] = tokens

    def row(self, row: int) -> KVCache:
        """One text alone, in the same memory: what is read through either is known to both."""
        view = object.__new__(KVCache)
        view.keys, view.values = self.keys[:, row : row + 1], self.values[:, row : row + 1]
        view.max_length, view.lengths = self.max_length, self.lengths[row : row + 1]
        return view

    def copy(self, source: int, row: int, length: int | None = None) -> None:
        """Make ``row`` hold what ``source`` holds, or its first ``length`` tokens."""
        length = int(self.lengths[source]) if length is None else length
        for part in (self.keys, self.values):
            part[:, row, :, :length] = part[:, source, :, :length]
        self.lengths[row] = length

    def keep(self, rows: Collection[int]) -> list[int]:
        """Keep only these texts; the last ones move to where others were, so that little is copied. Which stand where now."""
        order = list(range(len(rows)))
        freed = sorted(set(order).difference(rows))
        for row, place in zip(sorted(row for row in rows if row >= len(rows)), freed, strict=True):
            self.copy(row, place)
            order[place] = row
        self._use(len(order))
        return order

    def add(self) -> int:
        """Begin another text where one has left; its row."""
        row = len(self.lengths)
        self._use(row + 1)
        self.lengths[row] = 0
        return row

    def _use(self, rows: int) -> None:
        keys, values, lengths = self._room
        self.keys, self.values, self.lengths = keys[:, :rows], values[:, :rows], lengths[:rows]

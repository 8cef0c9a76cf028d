"""An n-gram model over bytes, interpolated over all orders: what counting alone predicts of a text."""

from __future__ import annotations

import math

import numpy as np

from movieplotgpt.evaluation.intervals import F64, I64
from movieplotgpt.text.duplicates import U64

ORDER = 8  # bytes of an n-gram: what one uint64 holds
_PADDING = bytes(ORDER - 1)


class Ngrams:
    """Bits of a text by the n-grams of another; every text ends in a zero byte, and none sees the one before it.

    The probability of a byte after n bytes is that after n - 1, mixed with what was counted after these n: the more
    different bytes followed them, the less that counts. Source: Witten and Bell (1991), in its interpolated form.

    The different n-grams of ORDER bytes are one sorted array of numbers. Those that begin alike lie side by side: the
    count of a shorter one is the distance of two places.
    """

    def __init__(self) -> None:
        self._read = [_PADDING]
        self._bits = 0.0

    def add(self, data: bytes) -> int:
        """Before ``settle`` learn from ``data``; after it return how many bytes ``data`` would take."""
        if self._read:
            self._read.append(_padded(data))
            return 0
        before, self._bits = self._bits, self._bits + float(self.bits(data).sum())
        return int(self._bits // 8) - int(before // 8)

    def settle(self) -> int:
        """Count what was read; a second time, nothing waits but a part of a byte."""
        if self._read:
            self._count(_ngrams(b"".join(self._read)))
            self._read.clear()
            return 0
        return math.ceil(self._bits / 8) - int(self._bits // 8)

    def bits(self, data: bytes) -> F64:
        """Bits of each byte of ``data``, whose texts each end in a zero byte; for use after ``settle``."""
        read = np.frombuffer(data, np.uint8)
        ends_before = np.cumsum(read == 0) - (read == 0)
        wanted = _ngrams(_PADDING + _padded(data))[np.arange(len(read)) + ends_before * (len(_PADDING) - 1)]
        probability = np.full(len(wanted), 1 / 256)
        for n in range(1, ORDER + 1):
            last, inverse = np.unique(wanted & np.uint64((1 << 8 * n) - 1), return_inverse=True)
            seen, _ = self._range(last, n)
            follows, (first, stop) = self._range(last >> np.uint64(8), n - 1)
            splits = self._splits[n - 1]
            kinds = 1 + np.searchsorted(splits, stop) - np.searchsorted(splits, first, "right")
            known = (follows > 0)[inverse]
            kinds, seen, follows = kinds[inverse][known], seen[inverse][known], follows[inverse][known]
            probability[known] = (seen + kinds * probability[known]) / (follows + kinds)
        return np.asarray(-np.log2(probability), np.float64)

    def _count(self, grams: U64) -> None:
        grams.sort()
        is_new = np.ones(len(grams), bool)
        is_new[1:] = grams[1:] != grams[:-1]
        self._begins = np.append(np.flatnonzero(is_new), len(grams))
        self._grams = grams[is_new]
        differs = self._grams[1:] ^ self._grams[:-1]
        # where neighbours share n bytes and no more: there another byte begins to follow these n
        bounds = [1 << 8 * (ORDER - n) for n in range(ORDER + 1)]
        self._splits = [
            np.flatnonzero((differs <= np.uint64(bounds[n] - 1)) & (differs >= np.uint64(bounds[n + 1]))) + 1
            for n in range(ORDER)
        ]

    def _range(self, prefixes: U64, n: int) -> tuple[I64, tuple[I64, I64]]:
        """Return how often each n-gram of ``n`` bytes was read, and where those that begin with it lie."""
        if n == 0:
            first, stop = np.zeros(len(prefixes), np.int64), np.full(len(prefixes), len(self._grams))
        else:
            shift = np.uint64(8 * (ORDER - n))
            first = np.searchsorted(self._grams, prefixes << shift)
            stop = np.searchsorted(self._grams, (prefixes + np.uint64(1)) << shift)  # no byte of UTF-8 is 255
        return self._begins[stop] - self._begins[first], (first, stop)


def _padded(data: bytes) -> bytes:
    return data.replace(b"\0", _PADDING)


def _ngrams(text: bytes) -> U64:
    """The n-gram that ends at each byte from the ORDER-th on, its first byte the most significant."""
    read = np.frombuffer(text, np.uint8)
    grams = np.zeros(max(0, len(read) - ORDER + 1), np.uint64)
    for k in range(ORDER):
        grams <<= np.uint64(8)
        grams |= read[k : k + len(grams)]
    return grams

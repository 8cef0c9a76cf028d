"""How sure a number is: intervals of 95 %."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

F64: TypeAlias = npt.NDArray[np.float64]
I64: TypeAlias = npt.NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]

RESAMPLES = 2_000
_Z = 1.959964  # standard deviations to either side that hold 95 % of a normal distribution


def bits_per_character(nats: F64, n_characters: I64) -> float:
    """Nats of all documents over the code points of all."""
    return float(nats.sum() / math.log(2) / n_characters.sum())


def bootstrap_interval(nats: F64, n_characters: I64, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """The middle 95 % of bits per character when documents are drawn anew with replacement; None for fewer than two.

    The difference of two models' nats gives the interval of what one is better by, documents paired.
    """
    return Tally(nats / math.log(2), n_characters.astype(float)).interval(resamples=resamples, seed=seed)


class Tally(NamedTuple):
    """What was counted in each text, and of how much: both of shape (texts,)."""

    counted: F64
    of: F64

    @property
    def value(self) -> float:
        """The sum of what was counted over the sum of what it was counted of; 0 of nothing."""
        return float(self.counted.sum() / (self.of.sum() or 1))

    def interval(self, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
        """The middle 95 % of ``value`` when texts are drawn anew with replacement; None for fewer than two."""
        n = len(self.counted)
        if n < 2:
            return None
        rng = np.random.default_rng(seed)
        rows = (rng.integers(n, size=n) for _ in range(resamples))
        return middle_interval([Tally(self.counted[row], self.of[row]).value for row in rows])


def tally(pairs: Iterable[tuple[float, float]]) -> Tally:
    """A tally of (counted, of) pairs, one for each text."""
    return Tally(*np.array([*pairs], float).reshape(-1, 2).T)


def middle_interval(values: Sequence[float]) -> Interval:
    """The middle 95 % of ``values``."""
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return low, high


def share_interval(share: float, n: int) -> Interval:
    """What a share of ``n`` independent draws says of the true one. Source: Wilson (1927), the score interval."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def show_interval(interval: Interval | None, digits: int = 3) -> str:
    """``1.291 to 1.312``; a dash where there is none."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else "-"

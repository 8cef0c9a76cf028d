"""How sure a number is: intervals of 95 %."""

from __future__ import annotations

import math
from typing import TypeAlias

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
    n = len(nats)
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = (rng.integers(n, size=n) for _ in range(resamples))
    low, high = np.quantile([bits_per_character(nats[row], n_characters[row]) for row in rows], [0.025, 0.975])
    return float(low), float(high)


def share_interval(share: float, n: int) -> Interval:
    """What a share of ``n`` independent draws says of the true one. Source: Wilson (1927), the score interval."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def show_interval(interval: Interval | None, digits: int = 3) -> str:
    """``1.291 to 1.312``; a dash where there is none."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else "-"

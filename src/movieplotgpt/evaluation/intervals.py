"""How sure a number is: intervals of 95 %, of works, since documents of one work are alike; none of fewer than FEWEST."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

F64: TypeAlias = npt.NDArray[np.float64]
I64: TypeAlias = npt.NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]

RESAMPLES = 2_000
FEWEST = 10  # works: of fewer no interval holds what it promises
_Z = NormalDist().inv_cdf(0.975)  # standard deviations to either side that hold 95 % of a normal distribution


def bits_per_character(nats: F64, n_characters: I64) -> float:
    """Nats of all documents over the code points of all."""
    return float(nats.sum() / math.log(2) / n_characters.sum())


def bootstrap_interval(
    nats: F64, n_characters: I64, works: Sequence[Hashable], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """The 95 % interval of bits per character when works are drawn anew; None for fewer than FEWEST.

    ``works`` names the work of each document. The difference of two models' nats gives the interval of what one is better
    by, documents paired.
    """
    counted = Tally(nats / math.log(2), n_characters.astype(float))
    return counted.of_works(works).interval(resamples=resamples, seed=seed)


class Tally(NamedTuple):
    """What was counted in each text, and of how much: both of shape (texts,)."""

    counted: F64
    of: F64

    @property
    def value(self) -> float:
        """The sum of what was counted over the sum of what it was counted of; 0 of nothing."""
        return float(self.counted.sum() / (self.of.sum() or 1))

    def of_works(self, works: Sequence[Hashable]) -> Tally:
        """The same in each work; ``works`` names that of each text."""
        numbers = {work: number for number, work in enumerate(dict.fromkeys(works))}
        of = np.array([numbers[work] for work in works], np.int64)
        counted, total = (np.bincount(of, values, len(numbers)).astype(np.float64) for values in self)
        return Tally(counted, total)

    def interval(self, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
        """The 95 % interval of ``value`` when rows are drawn anew with replacement; None for fewer than FEWEST.

        Wider than the middle 95 % of what is drawn, which is too narrow for few rows.

        Source: the expanded percentile interval (Hesterberg 2015, arXiv 1411.5279).
        """
        n = len(self.counted)
        if n < FEWEST:
            return None
        rng = np.random.default_rng(seed)
        rows = (rng.integers(n, size=n) for _ in range(resamples))
        tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * students_t(n - 1))
        return middle_interval([Tally(self.counted[row], self.of[row]).value for row in rows], tail)


def students_t(freedom: int) -> float:
    """Return the 95 % quantile of Student's t distribution, two-sided. Source: the expansion of Fisher and Cornish (1960)."""
    z, v = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def tally(pairs: Iterable[tuple[float, float]]) -> Tally:
    """A tally of (counted, of) pairs, one for each text."""
    return Tally(*np.array([*pairs], float).reshape(-1, 2).T)


def middle_interval(values: Sequence[float], tail: float = 0.025) -> Interval:
    """``values`` without the share ``tail`` at either end."""
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return low, high


def share_interval(share: float, n: int) -> Interval | None:
    """Return the interval of a share of ``n`` works; None for fewer than FEWEST.

    Source: Wilson (1927), the score interval.
    """
    if n < FEWEST:
        return None
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def show_interval(interval: Interval | None, digits: int = 3) -> str:
    """``1.291 to 1.312``; a dash where there is none."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else "-"

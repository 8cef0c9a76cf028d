"""The law that a study's losses follow: what more weights and more text would bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from movieplotgpt.errors import DataError, optional
from movieplotgpt.evaluation.intervals import F64, Interval, middle_interval
from movieplotgpt.records import Record

_EXPONENTS = np.linspace(0.05, 1.5, 59)
_RESAMPLES, _REFITS = 400, 100


class SizeLaw(Record):
    """Bits per character = ``floor`` + ``scale`` / parameters ** ``exponent``, for one tokenizer and length of training.

    ``interval`` holds the 95 % interval of ``floor``, None where three runs leave nothing to judge it by;
    ``largest_error`` is the greatest distance of a measured point.
    """

    floor: float
    scale: float
    exponent: float
    interval: Interval | None
    largest_error: float

    def bits(self, parameters: float) -> float:
        """Bits per character that a model of so many parameters should have."""
        return float(self.floor + self.scale / parameters**self.exponent)


class TextLaw(Record):
    """Bits per character = ``floor`` + a / parameters ** alpha + b / characters ** beta, for one tokenizer.

    ``interval`` holds the 95 % interval of ``floor``; ``largest_error`` is the greatest distance of a measured point, and
    ``foretold_error`` of one that a fit to the others alone foretold, every seed of it left out. Source: the parametric fit
    of Hoffmann et al. (arXiv 2203.15556), on characters in place of tokens.
    """

    floor: float
    interval: Interval
    a: float
    alpha: float
    b: float
    beta: float
    largest_error: float
    foretold_error: float
    points: int

    def bits(self, parameters: float, characters: float) -> float:
        """Bits per character after ``characters`` read in training, repeats counted."""
        return float(self.floor + self.a / parameters**self.alpha + self.b / characters**self.beta)


def fit_sizes(parameters: Sequence[float], bits: Sequence[float], seed: int = 0) -> SizeLaw:
    """Least squares; the interval comes from fits to points that scatter as much as the measured ones.

    Raises:
        DataError: there are fewer than three sizes.
    """
    n, y = np.asarray(parameters, float), np.asarray(bits, float)
    if len(set(n.tolist())) < 3:
        raise DataError(f"a law of sizes needs three sizes at least, and these are {len(set(n.tolist()))}")
    floor, scale, exponent = _best_power(n, y)
    fitted = floor + scale / n**exponent
    interval = None
    if len(y) > 3:
        spread = np.sqrt(((y - fitted) ** 2).sum() / (len(y) - 3))
        rng = np.random.default_rng(seed)
        floors = [_best_power(n, fitted + rng.normal(0, spread, len(y)))[0] for _ in range(_RESAMPLES)]
        interval = middle_interval(floors)
    return SizeLaw(
        floor=floor,
        scale=scale,
        exponent=exponent,
        interval=interval,
        largest_error=float(np.abs(y - fitted).max()),
    )


def fit_text(parameters: Sequence[float], characters: Sequence[float], bits: Sequence[float], seed: int = 0) -> TextLaw:
    """Least squares from several beginnings; the interval as in `fit_sizes`.

    Raises:
        DataError: there are fewer than six points or three sizes, or no size was trained for three lengths: else more
            text and fewer weights cannot be told apart.
        MissingExtraError: scipy is not installed.
    """
    least_squares = optional("scipy.optimize", "evaluate").least_squares
    n, d, y = (np.asarray(values, float) for values in (parameters, characters, bits))
    lengths = max((len(np.unique(np.log(d[n == size]).round(1))) for size in set(n.tolist())), default=0)
    if len(y) < 6 or len(set(n.tolist())) < 3 or lengths < 3:
        raise DataError(
            f"a law of sizes and text needs six runs of three sizes, one of them for three lengths; there are {len(y)} runs, "
            f"and the most lengths of a size are {lengths}"
        )
    middle_n, middle_d = (float(np.exp(np.log(values).mean())) for values in (n, d))

    def predicted(p: F64) -> F64:
        floor, log_a, alpha, log_b, beta = p
        return np.asarray(floor + np.exp(log_a) * (n / middle_n) ** -alpha + np.exp(log_b) * (d / middle_d) ** -beta)

    def fitted(bits: F64, start: Sequence[float], of: Any = slice(None)) -> Any:
        lower, upper = [0, -9, 0.02, -9, 0.02], [y.min(), 3, 2, 3, 2]
        return least_squares(lambda p: (predicted(p) - bits)[of], start, bounds=(lower, upper))

    fits = [fitted(y, [y.min() * share, -2, start, -2, start]) for share in (0.5, 0.8) for start in (0.2, 0.5)]
    best = min(fits, key=lambda fit: float(fit.cost))
    floor, log_a, alpha, log_b, beta = best.x.tolist()
    spread = np.sqrt(2 * best.cost / max(1, len(y) - len(best.x)))
    noise = np.random.default_rng(seed).normal(0, spread, (_REFITS, len(y)))
    floors = [fitted(predicted(best.x) + each, best.x).x[0] for each in noise]
    foretold = []
    for point in {*zip(n.tolist(), d.tolist(), strict=True)}:
        own = (n == point[0]) & (d == point[1])
        foretold.append(float(np.abs(predicted(fitted(y, best.x, of=~own).x) - y)[own].max()))
    return TextLaw(
        floor=floor,
        interval=middle_interval(floors),
        a=float(np.exp(log_a) * middle_n**alpha),
        alpha=alpha,
        b=float(np.exp(log_b) * middle_d**beta),
        beta=beta,
        largest_error=float(np.abs(predicted(best.x) - y).max()),
        foretold_error=max(foretold),
        points=len(y),
    )


def _best_power(n: F64, y: F64) -> tuple[float, float, float]:
    """Floor, scale and exponent: for a given exponent the rest is linear, so the best of many exponents."""
    found = []
    for exponent in _EXPONENTS.tolist():
        x = n**-exponent
        scale = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()))
        floor = float(y.mean() - scale * x.mean())
        error = float(((y - floor - scale * x) ** 2).sum())
        found.append((floor < 0, error, floor, scale, exponent))  # nothing is predicted for less than nothing
    return min(found)[2:]

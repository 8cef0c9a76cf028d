"""A law is found again in numbers that follow it."""

from __future__ import annotations

import numpy as np
import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.study.scaling import fit_sizes, fit_text

SIZES = [0.9e6, 1.4e6, 3e6, 5.9e6, 12.2e6, 27.8e6]


def test_the_law_of_sizes_is_found_again() -> None:
    true = [0.9 + 60 / n**0.3 for n in SIZES]
    law = fit_sizes(SIZES, true)
    assert law.floor == pytest.approx(0.9, abs=0.03) and law.exponent == pytest.approx(0.3, abs=0.03)
    assert law.bits(91e6) == pytest.approx(0.9 + 60 / 91e6**0.3, abs=0.01)
    assert law.largest_error < 0.002 and law.interval and law.interval[0] <= law.floor <= law.interval[1]


def test_noise_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    noisy = [0.9 + 60 / n**0.3 + rng.normal(0, 0.02) for n in SIZES for _ in range(3)]
    law = fit_sizes([n for n in SIZES for _ in range(3)], noisy)
    assert law.interval and law.interval[0] < 0.9 < law.interval[1]
    assert law.interval[1] - law.interval[0] > 0.05
    assert law.bits(12.2e6) == pytest.approx(0.9 + 60 / 12.2e6**0.3, abs=0.03)


def test_three_points_say_nothing_of_how_sure_they_are() -> None:
    assert fit_sizes(SIZES[:3], [1.6, 1.5, 1.45]).interval is None


def test_sizes_that_do_not_help_have_a_flat_law() -> None:
    law = fit_sizes(SIZES, [1.5 + 0.01 * k for k in range(6)])
    assert law.scale == 0 and law.floor == pytest.approx(1.525)


def test_the_law_of_sizes_and_text_is_found_again() -> None:
    points = [(n, d, 0.7 + 45 / n**0.32 + 900 / d**0.42) for n in SIZES[:4] for d in (2e6, 8e6, 3e7, 1e8)]
    law = fit_text([n for n, _, _ in points], [d for _, d, _ in points], [bits for *_, bits in points])
    assert law.points == 16 and law.largest_error < 0.005 and law.foretold_error < 0.005
    assert law.interval[0] <= law.floor <= law.interval[1] and law.interval[1] - law.interval[0] < 0.1
    assert law.bits(12.2e6, 2e8) == pytest.approx(0.7 + 45 / 12.2e6**0.32 + 900 / 2e8**0.42, abs=0.02)


def test_noise_widens_the_interval_of_sizes_and_text() -> None:
    rng = np.random.default_rng(0)
    points = [(n, d) for n in SIZES[:4] for d in (2e6, 8e6, 3e7, 1e8)]
    noisy = [0.7 + 45 / n**0.32 + 900 / d**0.42 + rng.normal(0, 0.02) for n, d in points]
    law = fit_text([n for n, _ in points], [d for _, d in points], noisy)
    assert law.interval[0] < 0.7 < law.interval[1] and law.interval[1] - law.interval[0] > 0.1


def test_a_run_that_the_others_do_not_foretell_is_told() -> None:
    points = [(n, d, 0.7 + 45 / n**0.32 + 900 / d**0.42) for n in SIZES[:3] for d in (2e6, 8e6, 3e7)]
    points[-1] = (*points[-1][:2], points[-1][2] + 0.1)
    law = fit_text([n for n, _, _ in points], [d for _, d, _ in points], [bits for *_, bits in points])
    assert law.largest_error < 0.09 < 0.1 <= law.foretold_error + 0.001  # the fit bends towards the run it knows


def test_too_few_points_are_said() -> None:
    with pytest.raises(DataError, match="three sizes at least, and these are 2"):
        fit_sizes([1e6, 2e6, 2e6], [1.5, 1.4, 1.4])
    with pytest.raises(DataError, match="six runs"):
        fit_text([1e6, 2e6], [1e6, 2e6], [1.5, 1.4])
    sizes = [n for n in SIZES[:3] for _ in range(2)]
    with pytest.raises(DataError, match="the most lengths of a size are 1"):  # equal cost: more weights, less text
        fit_text(sizes, [1e14 / n for n in sizes], [1.5] * 6)

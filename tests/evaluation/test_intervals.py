"""An interval covers the truth as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from movieplotgpt.evaluation.intervals import Tally, bootstrap_interval, share_interval


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        characters = rng.integers(500, 3000, size=80)
        nats = rng.normal(1.3, 0.1, size=80) * characters * math.log(2)
        interval = bootstrap_interval(nats, characters, resamples=300)
        assert interval
        covered += interval[0] < 1.3 < interval[1]
    assert 86 <= covered <= 100


def test_the_interval_of_equal_documents_is_a_point_and_of_one_none() -> None:
    nats, characters = np.full(10, 7.0), np.full(10, 5)
    interval = bootstrap_interval(nats, characters)
    assert interval == pytest.approx((7 / 5 / math.log(2),) * 2)
    assert bootstrap_interval(nats[:1], characters[:1]) is None


def test_a_tally_is_the_sum_over_the_sum() -> None:
    tally = Tally(np.array([1.0, 0, 3]), np.array([2.0, 4, 4]))
    assert tally.value == 0.4
    low, high = tally.interval() or (0, 0)
    assert low == 0 and high == 0.75, "of three draws all may be of the second, or of the third"
    assert Tally(np.zeros(3), np.zeros(3)).value == 0 and Tally(np.ones(1), np.ones(1)).interval() is None


@pytest.mark.parametrize(("share", "n"), [(0.0, 20), (0.05, 100), (0.5, 30), (1.0, 12)])
def test_a_share_lies_in_its_interval(share: float, n: int) -> None:
    low, high = share_interval(share, n)
    assert 0 <= low <= share <= high <= 1 and high - low > 0.05
    wider = share_interval(share, n // 2)
    assert wider[1] - wider[0] > high - low


def test_the_interval_of_a_share_covers_the_truth_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(0).binomial(40, 0.1, size=2_000)
    intervals = [share_interval(count / 40, 40) for count in drawn.tolist()]
    assert 0.92 <= np.mean([low <= 0.1 <= high for low, high in intervals]) <= 0.98

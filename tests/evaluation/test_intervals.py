"""An interval covers the truth as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from movieplotgpt.evaluation.intervals import FEWEST, Tally, bootstrap_interval, share_interval


@pytest.mark.parametrize("n", [10, 15, 80])
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        characters = rng.integers(500, 3000, size=n)
        nats = rng.normal(1.3, 0.1, size=n) * characters * math.log(2)
        interval = bootstrap_interval(nats, characters, range(n), resamples=300)
        assert interval
        covered += interval[0] < 1.3 < interval[1]
    assert 0.89 <= covered / 200 <= 0.99


def test_documents_of_one_work_are_drawn_together() -> None:
    """Three documents that are alike are worth one: intervals of documents would hold the truth in 73 % of cases."""
    rng = np.random.default_rng(0)
    works, covered = np.repeat(np.arange(30), 3), {"works": 0, "documents": 0}
    characters = np.full(90, 1_000)
    for _ in range(200):
        nats = np.repeat(rng.normal(1.3, 0.1, size=30), 3) * characters * math.log(2)
        for name, units in (("works", works.tolist()), ("documents", range(90))):
            low, high = bootstrap_interval(nats, characters, units, resamples=300) or (0, 0)
            covered[name] += low < 1.3 < high
    assert 182 <= covered["works"] <= 198 and covered["documents"] < 160


def test_the_interval_of_equal_documents_is_a_point() -> None:
    nats, characters = np.full(10, 7.0), np.full(10, 5)
    assert bootstrap_interval(nats, characters, range(10)) == pytest.approx((7 / 5 / math.log(2),) * 2)


def test_few_works_have_no_interval() -> None:
    nats, characters = np.arange(1.0, 31), np.full(30, 5)
    assert bootstrap_interval(nats, characters, [i % FEWEST for i in range(30)]) is not None
    assert bootstrap_interval(nats, characters, [i % (FEWEST - 1) for i in range(30)]) is None
    assert share_interval(0.5, FEWEST) is not None and share_interval(0.5, FEWEST - 1) is None


def test_a_tally_is_the_sum_over_the_sum() -> None:
    tally = Tally(np.array([1.0, 0, 3]), np.array([2.0, 4, 4]))
    assert tally.value == 0.4
    of_works = tally.of_works(["a", "b", "a"])
    assert of_works.value == 0.4 and of_works.counted.tolist() == [4, 0] and of_works.of.tolist() == [6, 4]
    assert Tally(np.zeros(3), np.zeros(3)).value == 0


@pytest.mark.parametrize(("share", "n"), [(0.0, 20), (0.05, 100), (0.5, 30), (1.0, 12)])
def test_a_share_lies_in_its_interval(share: float, n: int) -> None:
    low, high = share_interval(share, n) or (1, 0)
    assert 0 <= low <= share <= high <= 1 and high - low > 0.05
    wider = share_interval(share, 2 * n) or (1, 0)
    assert wider[1] - wider[0] < high - low


def test_share_interval_coverage() -> None:
    drawn = np.random.default_rng(0).binomial(40, 0.1, size=2_000)
    intervals = [share_interval(count / 40, 40) or (1, 0) for count in drawn.tolist()]
    assert 0.92 <= np.mean([low <= 0.1 <= high for low, high in intervals]) <= 0.98

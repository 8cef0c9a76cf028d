"""Minutes become steps by the time of the first ones."""

from __future__ import annotations

import pytest

from movieplotgpt.training.minutes import TIMED_STEPS, UNTIMED_STEPS, steps_left, timed_enough

SLOW_FIRST = [30.0] * UNTIMED_STEPS


def test_long_steps_are_timed_few_times_and_short_ones_for_seconds() -> None:
    assert not timed_enough([*SLOW_FIRST, *[2.0] * (TIMED_STEPS - 1)], minutes=10)
    assert timed_enough([*SLOW_FIRST, *[2.0] * TIMED_STEPS], minutes=10)
    assert not timed_enough([*SLOW_FIRST, *[0.1] * 49], minutes=10)
    assert timed_enough([*SLOW_FIRST, *[0.1] * 51], minutes=10)


def test_of_few_minutes_a_twentieth_is_enough() -> None:
    assert not timed_enough([*SLOW_FIRST, *[0.01] * 14], minutes=0.05)
    assert timed_enough([*SLOW_FIRST, *[0.01] * 16], minutes=0.05)


def test_what_is_left_is_filled_with_steps_and_one_bad_second_says_little() -> None:
    timed = [*SLOW_FIRST, 0.5, 0.5, 9.0, 0.5, 0.5, 0.5]
    assert steps_left(timed, minutes=2, spent=70, scored_steps=20) == pytest.approx(80)
    assert steps_left(timed, minutes=1, spent=70, scored_steps=20) == 1

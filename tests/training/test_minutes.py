"""Minutes become steps by the time of the first ones."""

from __future__ import annotations

import pytest

from movieplotgpt.training.minutes import TIMED_STEPS, UNTIMED_STEPS, steps_left, steps_left_now, timed_enough

SLOW_FIRST = [30.0] * UNTIMED_STEPS


def test_long_steps_are_timed_few_times_and_short_ones_for_seconds() -> None:
    assert not timed_enough([*SLOW_FIRST, *[2.0] * (TIMED_STEPS - 1)], minutes=10)
    assert timed_enough([*SLOW_FIRST, *[2.0] * TIMED_STEPS], minutes=10)
    assert not timed_enough([*SLOW_FIRST, *[0.1] * 49], minutes=10)
    assert timed_enough([*SLOW_FIRST, *[0.1] * 51], minutes=10)


def test_of_few_minutes_a_twentieth_is_enough() -> None:
    assert not timed_enough([*SLOW_FIRST, *[0.01] * 14], minutes=0.05)
    assert timed_enough([*SLOW_FIRST, *[0.01] * 16], minutes=0.05)


def test_plan_fills_the_remaining_minutes() -> None:
    timed = [*SLOW_FIRST, 0.5, 0.5, 9.0, 0.5, 0.5, 0.5]
    assert steps_left(timed, minutes=2, spent=70, scoring=10) == pytest.approx(80)
    assert steps_left(timed, minutes=1, spent=70, scoring=10) == 1


def test_a_plan_is_kept_until_it_is_off_by_much() -> None:
    """Half of ten minutes are left, and 300 steps of one second planned for them."""

    def instead(*seconds: float, planned: int = 300, spent: float = 300) -> int | None:
        return steps_left_now(
            [*SLOW_FIRST, *seconds], planned, total=600, minutes=10, spent=spent, scoring=0 if spent < 600 else 9
        )

    assert instead(1, 1, 1, 1, 1, 1) is None
    assert instead(1, 1, 9, 1, 1, 9) is None, "two bad seconds are not another speed"
    assert instead(1.1, 1.1, 1.1, 1.1, 1.1, 1.1) is None, "near enough"
    assert instead(1, 1, 1, 4, 4, 4, 4, 4, 4) == 75
    assert instead(1, 1, 1, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25) == 1200
    assert instead(4, 4) is None, "too few to know"
    assert instead(1, 1, 1, planned=50, spent=620) == 1, "the minutes are over"
    assert instead(1, 1, 1, planned=1, spent=620) is None

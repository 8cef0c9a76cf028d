"""The learning rate's course: up, flat, down to zero, and nothing else decides it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.training.schedules import ScheduleSettings

schedules = st.builds(ScheduleSettings, warmup_steps=st.integers(0, 50), decay=st.floats(0, 1))


def test_the_course_of_a_hundred_steps() -> None:
    schedule = ScheduleSettings(warmup_steps=4, decay=0.5)
    rates = [schedule.multiplier(step, 100) for step in range(101)]
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates[4:51] == pytest.approx([1.0] * 47)
    assert rates[50:] == pytest.approx([(100 - step) / 50 for step in range(50, 101)])


def test_without_a_total_the_rate_rises_and_stays() -> None:
    schedule = ScheduleSettings(warmup_steps=4)
    assert [schedule.multiplier(step, None) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert schedule.multiplier(10**6, None) == 1.0


def test_decay_share_zero_and_one() -> None:
    assert ScheduleSettings(warmup_steps=0, decay=0).multiplier(99, 100) == 1.0
    falling = ScheduleSettings(warmup_steps=0, decay=1)
    assert [falling.multiplier(step, 4) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


@given(schedules, st.integers(1, 400))
def test_up_then_flat_then_down_never_above_one(schedule: ScheduleSettings, total: int) -> None:
    rates = [schedule.multiplier(step, total) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    steepest = max(1 / (schedule.warmup_steps + 1), 1 / max(schedule.decay * total, 1))
    assert all(abs(a - b) <= steepest + 1e-9 for a, b in itertools.pairwise(rates)), "no jump"


@given(schedules, st.integers(1, 400), st.data())
def test_the_course_is_a_function_of_the_step_alone(
    schedule: ScheduleSettings, total: int, data: st.DataObject
) -> None:
    steps = data.draw(st.permutations(range(min(total, 20))))
    again = ScheduleSettings(**schedule.model_dump())
    assert [schedule.multiplier(step, total) for step in steps] == [again.multiplier(step, total) for step in steps]


@given(schedules, st.integers(1, 400))
def test_learning_the_total_in_the_flat_part_changes_nothing(schedule: ScheduleSettings, total: int) -> None:
    flat = [step for step in range(total) if total - step >= schedule.decay * total]
    assert [schedule.multiplier(step, total) for step in flat] == [schedule.multiplier(step, None) for step in flat]


@given(schedules, st.integers(2, 400), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 400)), max_size=4))
def test_changed_totals_keep_the_schedule_continuous(
    schedule: ScheduleSettings, total: int, changes: list[tuple[float, int]]
) -> None:
    since, level, falls = 0, 1.0, [1.0]
    for share, more in [*changes, (1.0, 0)]:
        at = since + int(share * (total - since))
        falls += [schedule.fall(step, total, since, level) for step in range(since, at + 1)]
        if more:
            level, since, total = schedule.fall(at, total, since, level), at, at + more
            assert schedule.fall(since, total, since, level) == pytest.approx(level), "no jump"
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(falls)), "never up"
    assert schedule.multiplier(total, total, since, level) == 0 or not schedule.decay

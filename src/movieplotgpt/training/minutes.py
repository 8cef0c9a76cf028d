"""How many steps fit into the minutes given: planned from the first steps, and again when the machine's speed changes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

UNTIMED_STEPS = 2  # they compile
TIMED_STEPS, TIMED_SECONDS = 6, 5.0  # at least so many, and for so long, tell how long a step takes
WINDOW, LONGEST_WINDOW = 3, 200  # the last steps whose median is the speed now; in between, a hundredth of all
KEPT, TOLERATED = 0.02, 0.08  # shares of the minutes a plan may be off by: the first at the end, both at the start


def timed_enough(seconds: Sequence[float], minutes: float) -> bool:
    """Whether these steps tell it: where they are short, so many that one bad second says little, but few of the minutes."""
    timed = seconds[UNTIMED_STEPS:]
    return len(timed) >= TIMED_STEPS and sum(timed) >= min(TIMED_SECONDS, 3 * minutes)


def steps_left(seconds: Sequence[float], *, minutes: float, spent: float, scoring: float) -> int:
    """Return the steps that fit into what is left of the minutes, ``spent`` seconds of them used and ``scoring`` set aside."""
    return max(1, int((minutes * 60 - spent - scoring) / median(seconds[UNTIMED_STEPS:])))


def steps_left_now(
    seconds: Sequence[float], planned: int, *, total: int, minutes: float, spent: float, scoring: float
) -> int | None:
    """Return how many steps to take instead of the ``planned`` ones, or None to keep the plan.

    The speed is that of the last steps alone. A plan is kept while it ends near the minutes: noise is no reason for another.

    Args:
        seconds: What each step has taken since the process started; the first ones compile.
        planned: Steps left by the plan.
        total: Steps of the whole run by the plan.
        minutes: The time asked for.
        spent: Seconds used.
        scoring: Seconds that the evaluations still to come will take.
    """
    recent = seconds[UNTIMED_STEPS:][-max(WINDOW, min(LONGEST_WINDOW, total // 100)) :]
    if len(recent) < WINDOW:
        return None
    asked, per_step = minutes * 60, median(recent)
    left = max(0.0, asked - spent)
    off = planned * per_step + scoring - left
    if abs(off) <= asked * KEPT + left * TOLERATED:
        return None
    steps = max(1, int((left - scoring) / per_step))
    return steps if steps != planned else None

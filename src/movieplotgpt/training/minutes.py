"""How many steps fit into the minutes given, by the time that the first ones took."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

UNTIMED_STEPS = 2  # they compile
TIMED_STEPS, TIMED_SECONDS = 6, 5.0  # at least so many, and for so long, tell how long a step takes


def timed_enough(seconds: Sequence[float], minutes: float) -> bool:
    """Whether these steps tell it: where they are short, so many that one bad second says little, but few of the minutes."""
    timed = seconds[UNTIMED_STEPS:]
    return len(timed) >= TIMED_STEPS and sum(timed) >= min(TIMED_SECONDS, 3 * minutes)


def steps_left(seconds: Sequence[float], *, minutes: float, spent: float, scored_steps: float) -> int:
    """Steps in what is left of the minutes, ``spent`` seconds of them gone and scoring taking as long as ``scored_steps``."""
    per_step = median(seconds[UNTIMED_STEPS:])
    return max(1, int((minutes * 60 - spent) / per_step - scored_steps))

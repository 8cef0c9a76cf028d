"""How many steps fit into the minutes given: planned from the first steps, and again when the machine's speed changes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.resuming import RunProgress
from movieplotgpt.training.run import RunConfig

UNTIMED_STEPS = 2  # they compile
TIMED_STEPS, TIMED_SECONDS = 6, 5.0  # at least so many, and for so long, tell how long a step takes
WINDOW, LONGEST_WINDOW = 3, 500  # the last steps whose median is the speed now; in between, a fortieth of all
KEPT, TOLERATED = 0.03, 0.1  # shares of the minutes a plan may be off by: the first at the end, both at the start

REPORTED_CHANGE = 0.3  # of the number of steps, as a share, from which a person hears of it


class Pace:
    """The plan of a run: how many steps, at which rates, and after which of them it is scored. ``RunProgress`` keeps it.

    ``scored_steps``: how many steps scoring takes as long as, by a guess that serves until it was done once.
    """

    def __init__(self, config: RunConfig, workers: Workers, scored_steps: float) -> None:
        self.training, self.schedule = config.training, config.schedule
        self.workers, self.scored_steps = workers, scored_steps
        self._reported = 0

    def multiplier(self, progress: RunProgress, step: int) -> float:
        """Return what learning rates are multiplied by in ``step``."""
        return self.schedule.multiplier(step, progress.total_steps, progress.planned_at, progress.planned_rate)

    def evaluation_steps(self, progress: RunProgress) -> set[int]:
        """Return the steps after which the run is scored: evenly divided, but for those that were past when planned."""
        count = self.training.evaluations
        if not progress.total_steps:
            return set()
        evenly = (round(progress.total_steps * (k + 1) / count) for k in range(progress.planned_evaluations, count))
        return {step for step in (*evenly, progress.total_steps) if step > progress.planned_at}

    def other_total(self, progress: RunProgress, timed: Sequence[float], look: bool) -> int | None:
        """Return the number of steps that fits the minutes, where it is not known yet or the plan no longer keeps them.

        ``timed``: seconds of each step of this process. ``look``: whether the run is saved at this step; what is due stays due.
        """
        minutes, total = self.training.minutes, progress.total_steps
        if minutes is None:
            return None
        if total is None:
            if not self.workers.any(timed_enough(timed, minutes)):
                return None
            scoring = self.training.evaluations * self._scoring(progress, timed)
            left: int | None = steps_left(timed, minutes=minutes, spent=progress.seconds, scoring=scoring)
        elif look or progress.step >= total:
            return None
        else:
            to_come = sum(step > progress.step for step in self.evaluation_steps(progress))
            left = steps_left_now(
                timed,
                total - progress.step,
                total=total,
                minutes=minutes,
                spent=progress.seconds,
                scoring=to_come * self._scoring(progress, timed),
            )
        left = int(self.workers.from_first(left or 0))
        return progress.step + left if left else None

    def change_total(self, progress: RunProgress, total: int) -> bool:
        """Make ``total`` the number of steps, the rate falling to zero from where it is; whether that is worth reporting."""
        if progress.total_steps is not None:
            plan = (progress.total_steps, progress.planned_at, progress.planned_rate)
            progress.planned_rate = self.schedule.fall(progress.step, *plan)
        progress.total_steps, progress.planned_at = total, progress.step
        progress.planned_evaluations = len(progress.curve)
        if abs(total - self._reported) <= REPORTED_CHANGE * self._reported:
            return False
        self._reported = total
        return True

    def _scoring(self, progress: RunProgress, timed: Sequence[float]) -> float:
        """Return the seconds an evaluation takes: as many as the last one."""
        if progress.look_seconds is not None:
            return progress.look_seconds
        return median(timed[-TIMED_STEPS:]) * self.scored_steps if timed else 0.0


def timed_enough(seconds: Sequence[float], minutes: float) -> bool:
    """Return whether these steps tell it: where they are short, so many that one bad second says little, but few of the minutes."""
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
    recent = seconds[UNTIMED_STEPS:][-max(WINDOW, min(LONGEST_WINDOW, total // 40)) :]
    if len(recent) < WINDOW:
        return None
    asked, per_step = minutes * 60, median(recent)
    left = max(0.0, asked - spent)
    off = planned * per_step + scoring - left
    if abs(off) <= asked * KEPT + left * TOLERATED:
        return None
    steps = max(1, int((left - scoring) / per_step))
    return steps if steps != planned else None

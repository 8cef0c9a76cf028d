"""Learning rate as a pure function of progress."""

from __future__ import annotations

from pydantic import Field

from movieplotgpt.config import Settings


class ScheduleSettings(Settings):
    """Warm-up, flat, then linear to zero.

    Flat in the middle so that a budget in minutes can be turned into steps after training has begun.
    """

    warmup_steps: int = Field(20, ge=0, description="Steps in which the learning rate rises to its highest.")
    decay: float = Field(0.5, ge=0, le=1, description="Share of training in which the rate falls to zero.")

    def multiplier(self, step: int, total_steps: int | None, since: int = 0, level: float = 1.0) -> float:
        """Return what learning rates are multiplied by in ``step`` (from 0); without a total they rise and stay.

        ``level``: where ``fall`` was at step ``since``, when the total was last changed.
        """
        rising = (step + 1) / (self.warmup_steps + 1)
        if total_steps is None:
            return min(1.0, rising)
        return max(0.0, min(rising, self.fall(step, total_steps, since, level)))

    def fall(self, step: int, total_steps: int, since: int = 0, level: float = 1.0) -> float:
        """Return the multiplier without the warm-up: flat, then down to zero, without a jump at ``since`` and never up."""
        if not self.decay:
            return 1.0

        def line(at: int) -> float:
            return (total_steps - at) / (self.decay * total_steps)

        if line(since) < level:  # less is left than the usual fall takes
            return level * (total_steps - step) / (total_steps - since)
        return min(level, line(step))

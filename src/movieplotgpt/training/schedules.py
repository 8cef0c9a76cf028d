"""Learning rate as a pure function of progress."""

from __future__ import annotations

from pydantic import Field

from movieplotgpt.config import Settings


class ScheduleSettings(Settings):
    """Warm-up, flat, then linear to zero.

    Flat in the middle so that a budget in minutes can be turned into steps after training has begun.
    """

    warmup_steps: int = Field(20, ge=0)
    decay: float = Field(0.5, ge=0, le=1, description="Share of training in which the rate falls to zero.")

    def multiplier(self, step: int, total_steps: int | None) -> float:
        """What learning rates are multiplied by in ``step`` (from 0); ``None``: the total is not known yet."""
        rising = (step + 1) / (self.warmup_steps + 1)
        if total_steps is None:
            return min(1.0, rising)
        falling = (total_steps - step) / (self.decay * total_steps) if self.decay else 1.0
        return max(0.0, min(1.0, rising, falling))

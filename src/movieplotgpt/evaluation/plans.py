"""Does the plan steer the text? What a document's own plan saves, compared with another's and with none."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import numpy as np

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import HeldOut, other_works
from movieplotgpt.evaluation.intervals import RESAMPLES, Interval, bits_per_character, bootstrap_interval
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.progress_bars import StageReport, silent
from movieplotgpt.records import Record


class PlanLift(Record):
    """Bits per character that a document's own plan saves, given its title: against another work's plan and against none.

    Intervals (95 %) resample works, both scores of each together.
    """

    bits_per_character: float
    interval: Interval | None
    against_none: float
    against_none_interval: Interval | None
    documents: int
    seconds: float


def plan_lift(
    checkpoint: Checkpoint,
    held_out: HeldOut,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: StageReport = silent,
) -> PlanLift:
    """Score each body that has a plan under its own plan, under another work's and under the plain sentence.

    Raises:
        DataError: too few works have plans.
    """
    began = time.monotonic()
    held_out = held_out.rows([i for i, plan in enumerate(held_out.plans) if plan])
    if len(held_out.titles) < 2:
        raise DataError("to exchange plans takes two works with plans at least")
    others = other_works(held_out.groups, np.random.default_rng(seed))
    exchanged = replace(held_out, plans=[held_out.plans[i] for i in others])
    own, other, none = (
        each.score(checkpoint, each.titles, partial(progress, what), with_plans=with_plans).body
        for each, what, with_plans in (
            (held_out, "own plans", True),
            (exchanged, "other plans", True),
            (held_out, "no plans", False),
        )
    )
    characters = held_out.n_characters
    interval = partial(bootstrap_interval, works=held_out.groups, resamples=resamples, seed=seed)
    return PlanLift(
        bits_per_character=bits_per_character(other - own, characters),
        interval=interval(other - own, characters),
        against_none=bits_per_character(none - own, characters),
        against_none_interval=interval(none - own, characters),
        documents=len(characters),
        seconds=round(time.monotonic() - began, 2),
    )

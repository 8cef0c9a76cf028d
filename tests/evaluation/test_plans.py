"""What a plan saves: much for a model that repeats what it read, nothing for one that hears nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import HeldOut
from movieplotgpt.evaluation.plans import plan_lift
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.token_files import PreparedCorpus

LETTERS = "abcdefghij"


@pytest.fixture
def held_out() -> HeldOut:
    texts = [f"{letter * 9} meets {letter * 9}." for letter in LETTERS]
    bodies = [np.frombuffer(text.encode(), np.uint8).astype(np.uint16) + 1 for text in texts]
    plans = [f"names: {letter * 9}" for letter in LETTERS]
    return HeldOut(["Film"] * len(LETTERS), list(LETTERS), bodies, np.array([len(text) for text in texts]), plans)


def test_the_own_plan_saves_against_anothers_and_against_none(
    held_out: HeldOut,
    corpus_of: Callable[..., PreparedCorpus],
    untrained_on: Callable[..., Checkpoint],
    echo: Callable[[Checkpoint], Checkpoint],
) -> None:
    lift = plan_lift(echo(untrained_on(corpus_of("byte"))), held_out)
    assert lift.interval and lift.interval[0] > 0
    assert lift.against_none > 0
    assert lift.documents == len(LETTERS)


def test_a_deaf_model_saves_nothing(
    held_out: HeldOut, corpus_of: Callable[..., PreparedCorpus], untrained_on: Callable[..., Checkpoint]
) -> None:
    lift = plan_lift(untrained_on(corpus_of("byte"), spread=0.0), held_out)
    assert (lift.bits_per_character, lift.against_none) == pytest.approx((0, 0), abs=1e-5)


def test_documents_without_a_plan_do_not_count(
    held_out: HeldOut, corpus_of: Callable[..., PreparedCorpus], untrained_on: Callable[..., Checkpoint]
) -> None:
    checkpoint = untrained_on(corpus_of("byte"))
    some = replace(held_out, plans=[plan if i < 5 else "" for i, plan in enumerate(held_out.plans)])
    assert plan_lift(checkpoint, some).documents == 5
    with pytest.raises(DataError, match="two works with plans"):
        plan_lift(checkpoint, replace(held_out, plans=["names: a", *[""] * 7]))

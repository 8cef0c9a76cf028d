"""What is made ahead is what would have been made when asked."""

from __future__ import annotations

import threading

import pytest

from movieplotgpt.training.step_ahead import StepAhead


def test_what_was_begun_is_taken_and_not_made_again() -> None:
    made = []

    def make(step: int, plain: bool) -> tuple[int, bool]:
        made.append((step, plain, threading.current_thread()))
        return step, plain

    ahead = StepAhead(make)
    assert ahead(0, False) == (0, False)
    ahead.start(1, False)
    assert ahead(1, False) == (1, False)
    ahead.start(2, False)
    assert ahead(2, True) == (2, True), "begun for another"
    assert [entry[:2] for entry in made] == [(0, False), (1, False), (2, False), (2, True)]
    assert len({entry[2] for entry in made} | {threading.current_thread()}) == 2, "one thread, and not the caller's"


def test_what_goes_wrong_is_told_to_who_asks() -> None:
    def make(step: int) -> int:
        raise ValueError(f"no step {step}")

    ahead = StepAhead(make)
    ahead.start(3)
    with pytest.raises(ValueError, match="no step 3"):
        ahead(3)

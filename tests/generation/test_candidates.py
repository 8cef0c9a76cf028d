"""Which of several texts is the best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from movieplotgpt.generation.candidates import best, soundness
from movieplotgpt.generation.plots import Plot

PLOT = Plot("Mars", "", "The hollow harbour.", "stop", 1, 5, 640, begun="The hollow")


def test_a_sound_text_comes_before_one_that_gains_more() -> None:
    gains = [3.0, 1.0, 2.0, 2.0]
    assert best(gains, [0, 2, 2, 2]) == 2
    assert best(gains, [0, 1, 0, 0]) == 1
    assert best(gains, [0, 0, 0, 0]) == 0


@pytest.mark.parametrize(
    ("changes", "invents_words", "expected"),
    [
        ({}, False, 2),
        ({"finish_reason": "length"}, False, 0),
        ({}, True, 1),
        ({"text": "The hollow meets Brill tells Brill today."}, False, 1),
        ({"text": "The hollow " + "sea of glass and salt " * 5}, False, 1),
    ],
)
def test_soundness(changes: dict[str, str], invents_words: bool, expected: int) -> None:
    assert soundness(replace(PLOT, **changes), invents_words) == expected  # type: ignore[arg-type]

"""The best of several texts for one title: a sound one that the title makes likelier than the others."""

from __future__ import annotations

from collections.abc import Sequence

from movieplotgpt.generation.names import self_meetings
from movieplotgpt.generation.plots import Plot
from movieplotgpt.text.sentences import repeated_share

LOOPING = 0.01  # share of five words in a row that a sound plot has twice at most: real ones have 0.0005


def best(gains: Sequence[float], soundness: Sequence[int]) -> int:
    """Return the number of the text that gains most of those that are most sound; the first of equals."""
    return max(range(len(gains)), key=lambda i: (soundness[i], gains[i]))


def soundness(plot: Plot, invents_words: bool) -> int:
    """Return 0 for a plot without an end, 1 for one with a loop, an invented word or a name that meets itself, else 2."""
    if plot.finish_reason != "stop":
        return 0
    written = plot.text[len(plot.begun) :]
    return 1 if invents_words or self_meetings(written) > 0 or (repeated_share(written) or 0) > LOOPING else 2

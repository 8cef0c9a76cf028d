"""Held-out documents: other works each once, and where each token begins in the text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import character_offsets, characters_of_tokens, other_works
from movieplotgpt.text.formatting import END_OF_PLOT
from movieplotgpt.text.tokenizer import BpeSettings, ByteSettings, CharSettings

TEXT = "Zoë finds the café; 日本 is far. The café is closed, and Zoë, too, is far from the café."


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), st.integers(0, 9))
def test_other_works_are_other_works_each_once(groups: list[str], seed: int) -> None:
    largest = max(groups.count(group) for group in groups)
    if 2 * largest > len(groups):
        with pytest.raises(DataError, match="other works"):
            other_works(groups, np.random.default_rng(seed))
        return
    others = other_works(groups, np.random.default_rng(seed))
    assert sorted(others.tolist()) == list(range(len(groups)))
    assert all(groups[i] != groups[other] for i, other in enumerate(others))


@pytest.mark.parametrize("settings", [CharSettings(), ByteSettings(), BpeSettings(vocab_size=280)])
def test_tokens_begin_where_their_characters_do(settings: CharSettings | ByteSettings | BpeSettings) -> None:
    tokenizer = settings.train([TEXT], END_OF_PLOT)
    ids = tokenizer.encode(TEXT + "ø 語")
    offsets = character_offsets(ids, characters_of_tokens(tokenizer))
    assert offsets[0] == 0 and offsets[-1] == len(TEXT) + 3
    for k in range(len(ids)):
        before = b"".join(map(tokenizer.token_bytes, ids[:k].tolist()))
        assert offsets[k] == len(before.decode("utf-8", "ignore")) + (before[-1:] > b"\x7f" and _cut(before))


def _cut(data: bytes) -> bool:
    """Whether ``data`` ends within a character."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False

"""Counts from one sorted array are those of a dictionary, and their mixture is a probability."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.evaluation.ngrams import ORDER, Ngrams

PADDING = bytes(ORDER - 1)


def by_hand(training: list[bytes], text: bytes) -> list[float]:
    """Bits of each byte and of the end, by dictionaries."""
    counts: dict[bytes, Counter[int]] = defaultdict(Counter)
    read = PADDING + b"".join(each + PADDING for each in training)
    for at in range(len(read) - ORDER + 1):
        for n in range(ORDER):
            counts[read[at : at + n]][read[at + n]] += 1
    bits = []
    whole = PADDING + text + b"\0"
    for at in range(ORDER - 1, len(whole)):
        p = 1 / 256
        for n in range(ORDER):
            after = counts[whole[at - n : at]]
            if after:
                p = (after[whole[at]] + len(after) * p) / (after.total() + len(after))
        bits.append(-math.log2(p))
    return bits


def counted(training: list[bytes]) -> Ngrams:
    model = Ngrams()
    for text in training:
        assert model.add(text + b"\0") == 0
    assert model.settle() == 0
    return model


@given(st.lists(st.text("abé ", max_size=30), max_size=4), st.text("abcé ", max_size=20))
def test_bits_are_those_of_dictionaries(training: list[str], text: str) -> None:
    read = [each.encode() for each in training]
    found = counted(read).bits(text.encode() + b"\0")
    np.testing.assert_allclose(found, by_hand(read, text.encode()), rtol=1e-9)


def test_all_bytes_together_are_sure() -> None:
    model = counted([b"the ferryman finds the map", b"the map is forged"])
    for before in (b"", b"the", b"xyz", b"the ferryman finds the "):
        each = [model.bits(before + bytes([byte]) + b"\0")[len(before)] for byte in range(255)]
        assert sum(2.0**-bits for bits in each) == pytest.approx(1, abs=0.005)  # but for the byte 255


def test_what_was_read_costs_less_and_whole_bytes_are_told() -> None:
    text = b"a smuggler hides the lantern in the quarry"
    assert counted([text] * 3).bits(text + b"\0").sum() < 0.3 * counted([b"nothing"]).bits(text + b"\0").sum()
    model = counted([text])
    told = sum(model.add(text[:k] + b"\0") for k in range(1, 20)) + model.settle()
    bits = sum(model.bits(text[:k] + b"\0").sum() for k in range(1, 20))
    assert told == math.ceil(bits / 8)


def test_texts_do_not_see_each_other() -> None:
    model = counted([b"one text", b"another text"])
    together = model.bits(b"one\0another\0")
    np.testing.assert_array_equal(together, np.concatenate([model.bits(b"one\0"), model.bits(b"another\0")]))

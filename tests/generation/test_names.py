"""A name that returns too soon is found when it is complete, and taken back before anybody reads it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.generation.names import open_name, returning_name, self_meetings

TOO_SOON = [
    "Brill tells Brill ",
    "Later Brill and his brother Brill.",
    "At dawn, Brill, Ottoline and Brill's ",
    'She asks "Brill" to bring Brill,',
    "Brill leaves the harbour before the storm and Ottoline sees that Brill was right about what Brill ",
    "He was right. Mr. Marsh meets Marsh ",
    "Brill takes some pity on Brill ",
    "Then Brill runs. " * 4 + "Then Brill and Brill ",
    "Then Brill runs. " * 5 + "Brill ",
    "In the morning Brill finds a boat, and nobody at all sees the man who left it there, which is odd. " * 8
    + "So Brill ",
]
FINE = [
    "Brill tells Brill",  # it may become Brillant
    "Brill tells Brilla ",
    "Brill leaves. Brill ",
    "Brill leaves! Then Brill ",
    "Brill walks to the old harbour of Ys, where Brill ",
    "The day ends. " * 20 + "The ",
    "Later he runs. " * 9 + "Later ",
    "Mr. Marsh runs. " * 4 + "Then Mr. ",
    "Mr. Marsh and Mr. Brill ",
    "I know what I ",
    "John Brill (John Moor) ",
    "Brill (played by Brill ",
    "the man and the man ",
    "Brill tells brill ",
    "",
]


@pytest.mark.parametrize("text", TOO_SOON)
def test_name_that_returns_too_soon(text: str) -> None:
    found = [returning_name(text[:end], end - 1) for end in range(1, len(text) + 1)]
    (start,) = [place for place in found if place is not None]
    assert text[start:].startswith(("Brill", "Marsh"))


def test_words_of_the_title_are_used_less_often() -> None:
    text = (
        "In the morning Brill finds a boat, and nobody at all sees the man who left it there, which is odd. " * 5
        + "So Brill "
    )
    assert returning_name(text, len(text) - 1) is None
    assert returning_name(text, len(text) - 1, {"brill"}) == len(text) - len("Brill ")


@pytest.mark.parametrize("text", FINE)
def test_name_that_may_return(text: str) -> None:
    assert [returning_name(text[:end], end - 1) for end in range(1, len(text) + 1)] == [None] * len(text)


@given(st.text("AaBb .'(", max_size=40), st.integers(1, 6))
def test_tokens_of_any_length_find_the_same_names(text: str, length: int) -> None:
    ends = [*range(0, len(text), length), len(text)]
    by_token = {returning_name(text[:stop], start) for start, stop in pairwise(ends)}
    by_character = {returning_name(text[: end + 1], end) for end in range(len(text))}
    assert (by_token == {None}) == (by_character == {None}) or not text


def test_names_that_may_continue() -> None:
    assert [open_name(text) for text in ("with Bri", "Bri", "with bri", "Brill ", "", "(Bri")] == [4, 3, 0, 0, 0, 3]


def test_self_meetings() -> None:
    assert self_meetings("Brill tells Brill of Brill.") == 2
    assert self_meetings("Ann sees Anna, Ann") == 0

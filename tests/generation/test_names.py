"""A name that returns too soon is found when it is complete, and taken back before anybody reads it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.generation.names import open_name, returning_name, self_meetings
from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import SECOND_THOUGHTS, Writing
from movieplotgpt.model.checkpoints import Checkpoint

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


@pytest.fixture
def start(tiny_checkpoint: Callable[..., Checkpoint]) -> Callable[..., Writing]:
    """A text of a byte tokenizer."""
    tokenizer = tiny_checkpoint("byte").tokenizer

    def begin(begun: str = "", *, distinct_names: bool = True) -> Writing:
        return Writing(Prompt("X", begun), tokenizer, 64, SamplingConfig(distinct_names=distinct_names), seed=0)

    return begin


def spell(writing: Writing, text: str) -> tuple[str, int]:
    """Write ``text``; return what was told, and how many tokens were taken back."""
    told, taken = "", 0
    for id_ in writing._tokenizer.encode(text).tolist():
        piece, back = writing.take(Chosen(id_))
        told, taken = told + piece, taken + back
    return told, taken


def test_the_name_is_taken_back_and_its_first_token_forbidden(start: Callable[..., Writing]) -> None:
    writing = start()
    told, taken = spell(writing, "Brill tells Brill ")
    assert (told, taken) == ("Brill tells ", len("Brill "))
    assert writing._tokenizer.encode("B")[0] in writing.history().forbidden
    told, taken = spell(writing, "Ottoline ")
    assert (told, taken) == ("Ottoline ", 0)


def test_what_the_prompt_began_is_part_of_the_sentence(start: Callable[..., Writing]) -> None:
    writing = start("Brill tells ")
    assert spell(writing, "Brill ") == ("", len("Brill "))
    begun = start("Brill tells Bri")
    assert spell(begun, "ll ")[1] == 0, "the prompt's own letters stay"


def test_the_title_of_the_prompt_counts(tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    text = (
        "In the morning Brill finds a boat, and nobody at all sees the man who left it there, which is odd. " * 5
        + "So Brill "
    )
    for title, taken in (("Captain Brill", len("Brill ")), ("Ottoline", 0)):
        prompt = Prompt("X", title=title)
        settings = SamplingConfig(distinct_names=True, max_tokens=1000)
        assert spell(Writing(prompt, tiny_checkpoint("byte").tokenizer, 64, settings, seed=0), text)[1] == taken


def test_the_rule_is_off_if_nobody_asks(start: Callable[..., Writing]) -> None:
    writing = start(distinct_names=False)
    assert spell(writing, "Brill tells Brill ") == ("Brill tells Brill ", 0)


def test_after_many_second_thoughts_a_name_may_return(start: Callable[..., Writing]) -> None:
    writing = start()
    writing.second_thoughts = SECOND_THOUGHTS
    assert spell(writing, "Brill tells Brill ") == ("Brill tells Brill ", 0)
    assert writing.unmentioned() == [] and not writing._spoilt_by

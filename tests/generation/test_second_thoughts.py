"""A name that returns too soon is taken back, and its first token forbidden in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.generation.second_thoughts import MOST
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.checkpoints import Checkpoint


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
    for byte in text.encode():
        piece, back = writing.take(Chosen(byte + 1))
        told, taken = told + piece, taken + back
    return told, taken


def test_the_name_is_taken_back_and_its_first_token_forbidden(start: Callable[..., Writing]) -> None:
    writing = start()
    told, taken = spell(writing, "Brill tells Brill ")
    assert (told, taken) == ("Brill tells ", len("Brill "))
    assert ord("B") + 1 in writing.history().forbidden
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
    writing.second_thoughts.count = MOST
    assert spell(writing, "Brill tells Brill ") == ("Brill tells Brill ", 0)
    assert writing.unmentioned() == [] and not writing.second_thoughts.unmended

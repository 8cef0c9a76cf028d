"""What belongs to a text is told from what does not, by a model that reads; a deaf one guesses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import HeldOut
from movieplotgpt.evaluation.next_sentence import MOST_BEFORE, draw_places, next_sentence
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.token_files import PreparedCorpus

CorpusOf = Callable[..., PreparedCorpus]
UntrainedOn = Callable[..., Checkpoint]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def film(letter: str, sentences: int) -> str:
    """A film with a word of its own, which goes on counting."""
    return " ".join(f"{letter.upper() * 9}{k} finds the {letter * 9} again." for k in range(sentences))


@pytest.fixture
def held_out() -> HeldOut:
    texts = [film(letter, 9) for letter in LETTERS]
    groups, lengths = list(LETTERS), np.array([len(text) for text in texts])
    return HeldOut(
        groups, groups, [np.frombuffer(text.encode(), np.uint8).astype(np.uint16) + 1 for text in texts], lengths
    )


def test_a_model_that_repeats_what_it_read_knows_the_film(
    held_out: HeldOut, corpus_of: CorpusOf, untrained_on: UntrainedOn, echo: Callable[[Checkpoint], Checkpoint]
) -> None:
    reads = echo(untrained_on(corpus_of("byte")))
    found = next_sentence(reads, held_out)
    assert found.places == len(LETTERS)
    assert found.another_work.share > 0.9
    assert found.another_work.interval and found.another_work.interval[0] > 0.5
    assert found.swapped.share == 0.5  # it keeps no order


def test_a_deaf_model_guesses(held_out: HeldOut, corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    found = next_sentence(untrained_on(corpus_of("byte"), spread=0.0), held_out, places=10)
    assert found.places == 10
    assert found.another_work.share == found.later.share == found.swapped.share == 0.5


def test_places_are_drawn_by_the_seed_and_hold_what_they_say() -> None:
    texts = [film(letter, 40) for letter in LETTERS]
    places = draw_places(list(LETTERS), list(LETTERS), texts, 20, 1)
    assert places == draw_places(list(LETTERS), list(LETTERS), texts, 20, 1)
    assert places != draw_places(list(LETTERS), list(LETTERS), texts, 20, 2)
    assert len({place.title for place in places}) == 20
    for place in places:
        own = film(place.title, 40)
        (true, foreign), (same, later), (first, swapped) = place.pairs
        assert own.startswith(f"{place.before} {true} ") and foreign not in own
        assert same == true and own.index(later) > own.index(true) + len(true) + 1
        assert f"{place.before} {first}" in own and sorted(first) == sorted(swapped) and first != swapped
        assert len(place.before) <= MOST_BEFORE + 60
    assert len({place.before.count(".") for place in places}) > 5


def test_short_texts_cannot_be_asked() -> None:
    with pytest.raises(DataError, match="four sentences"):
        draw_places(["a", "b"], ["a", "b"], [film("a", 9), film("b", 3)], 5, 0)

"""Sentences end where a reader says they do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.text.sentences import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["Ada finds the map.", "Bruno, who hid it, flees!", "Why?", '"I was afraid," he says.'],
        ["Dr. Cleo meets Mr. and Mrs. Odette at St. Hugo.", "J. R. Farid is late."],
        ["The train leaves at 5.30 p.m. and never comes back.", "42 people wait."],
        ['"Stop!" cries Ines.', "(Nobody stops.)", "Nils asks, what now?"],
        ["One sentence without an end"],
        ["Michael: No.", "Dwight: Yes.", "Ёлка стоит.", "Она зелёная.", "Émile attend."],
    ],
)
def test_sentences_end_where_a_reader_says(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences
    assert split_sentences("\n\n".join(sentences)) == sentences


@given(st.text("Ab .!?\n\"'(", max_size=60))
def test_nothing_is_lost_but_white_space(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_no_text_has_no_sentence() -> None:
    assert split_sentences(" \n ") == []

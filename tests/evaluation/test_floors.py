"""Texts made of real ones keep what they say they keep, and lose the rest."""

from __future__ import annotations

from collections import Counter

import pytest

from movieplotgpt.evaluation.floors import shuffled_sentences, trigram_texts
from movieplotgpt.text.sentences import split_sentences


@pytest.fixture
def texts(films: list[dict[str, str]]) -> list[str]:
    return [" ".join(film["Plot"].split()) for film in films]


def test_every_sentence_is_used_once_elsewhere(texts: list[str]) -> None:
    shuffled = shuffled_sentences(texts, seed=1)
    assert [len(split_sentences(text)) for text in shuffled] == [len(split_sentences(text)) for text in texts]
    used, given = (Counter(one for text in some for one in split_sentences(text)) for some in (shuffled, texts))
    assert used == given
    assert shuffled != texts and shuffled == shuffled_sentences(texts, seed=1) != shuffled_sentences(texts, seed=2)


def test_three_words_in_a_row_stand_in_the_training_text(texts: list[str]) -> None:
    written = trigram_texts(texts, [400] * 20, seed=1)
    assert written == trigram_texts(texts, [400] * 20, seed=1) and len(set(written)) == 20
    assert {len(text) for text in written} == {400}
    known = {three for text in texts for three in _threes(text)}
    begins = {text.split()[0] for text in texts if text}
    for text in written:
        *threes, _ = _threes(text)  # the last word may be cut
        fresh = [three for three in threes if three not in known]
        assert all({first, second, third} & begins for first, second, third in fresh)
        assert len(fresh) < 0.2 * len(threes)
    assert len({three for text in written for three in _threes(text)} & known) > 100


def _threes(text: str) -> list[tuple[str, ...]]:
    words = text.split()
    return list(zip(words, words[1:], words[2:], strict=False))

"""A title's lift is there where a model hears the title, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import HeldOut, read_held_out
from movieplotgpt.evaluation.titles import DISTANCES, title_lift, title_ranks, title_retrieval
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.token_files import PreparedCorpus

CorpusOf = Callable[..., PreparedCorpus]
UntrainedOn = Callable[..., Checkpoint]


@pytest.fixture
def corpus(corpus_of: CorpusOf) -> PreparedCorpus:
    return corpus_of("bpe")


@pytest.fixture
def hears(corpus: PreparedCorpus, untrained_on: UntrainedOn, echo: Callable[[Checkpoint], Checkpoint]) -> Checkpoint:
    return echo(untrained_on(corpus))


def told(checkpoint: Checkpoint, corpus: PreparedCorpus) -> HeldOut:
    """The test split, the title of each film being how its plot begins."""
    held_out = read_held_out(checkpoint, corpus, "test")
    return replace(held_out, titles=[corpus.tokenizer.decode(body[:40]) for body in held_out.bodies])


def test_a_model_that_hears_the_title_is_lifted(hears: Checkpoint, corpus: PreparedCorpus) -> None:
    held_out = told(hears, corpus)
    lift = title_lift(hears, held_out, held_out.score(hears, held_out.titles, None), others=2)
    assert lift.bits_per_character > 0.02 and lift.interval and lift.interval[0] > 0
    assert lift.against_empty > 0.02 and lift.share_helped > 0.6
    assert lift.others == 2


def test_a_model_that_does_not_is_not(corpus: PreparedCorpus, untrained_on: UntrainedOn) -> None:
    deaf = untrained_on(corpus)
    held_out = read_held_out(deaf, corpus, "test")
    lift = title_lift(deaf, held_out, held_out.score(deaf, held_out.titles, None), others=3)
    assert abs(lift.bits_per_character) < 0.01


def test_the_titles_own_words_are_left_out_when_masked(hears: Checkpoint, corpus: PreparedCorpus) -> None:
    held_out = told(hears, corpus)
    lift = title_lift(hears, held_out, held_out.score(hears, held_out.titles, None), others=2)
    assert lift.words_masked is not None and lift.words_masked < 0.6 * lift.bits_per_character


def test_where_the_title_helps_adds_up_to_all_of_it(hears: Checkpoint, corpus: PreparedCorpus) -> None:
    held_out = told(hears, corpus)
    lift = title_lift(hears, held_out, held_out.score(hears, held_out.titles, None))
    parts = lift.by_distance
    assert [part.begin for part in parts] == list(DISTANCES[: len(parts)]) and len(parts) > 1
    n = held_out.n_characters.sum()
    assert sum(part.characters for part in parts) == n
    assert sum(part.bits_per_character * part.characters for part in parts) / n == pytest.approx(
        lift.bits_per_character
    )


def test_titles_are_told_apart_by_a_model_that_hears_them(
    hears: Checkpoint, corpus: PreparedCorpus, untrained_on: UntrainedOn
) -> None:
    held_out = told(hears, corpus)
    heard = title_retrieval(hears, held_out, candidates=11)
    assert heard.candidates == 11 and heard.at_1 > 0.5 and heard.at_10 == 1
    assert heard.at_1_interval is not None
    assert heard.at_1_interval[0] < heard.at_1 < heard.at_1_interval[1] and heard.mean_reciprocal_rank > heard.at_1
    silent = untrained_on(corpus, spread=0.0)
    unheard = title_retrieval(silent, held_out, candidates=11)
    assert unheard.at_1 < 0.2


def test_one_title_cannot_be_told_from_none(hears: Checkpoint, corpus: PreparedCorpus) -> None:
    held_out = told(hears, corpus)
    with pytest.raises(DataError, match="two works"):
        title_retrieval(hears, replace(held_out, groups=["one"] * len(held_out.groups)))


def test_ranks_are_shared_where_titles_do_as_well() -> None:
    nats = np.array([[1.0, 2.0, 3.0], [1.0, 5.0, 1.0], [2.0, 2.0, 2.0]])
    assert title_ranks(nats).tolist() == [1, 3, 2]

"""A text is the same whether it is written alone or beside any others: the whole way, from titles to plots."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from tests.conftest import invented_films, invented_sentence

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.plots import Plot, plot_of
from movieplotgpt.model.checkpoints import Checkpoint

Make: TypeAlias = Callable[..., Checkpoint]
MANY = 64


def generator(tiny_checkpoint: Make, kind: str = "bpe", **dimensions: Any) -> PlotGenerator:
    """Of a model that claims to be trained with the empty title; it hardly ever ends by itself."""
    made = replace(tiny_checkpoint(kind, **dimensions), info={"settings": {"windows": {"no_title": 0.1}}})
    made.model.model.embed_tokens.weight.data[0] *= 0.2
    return PlotGenerator(made)


def titles() -> list[str]:
    """Of one letter, of many words, some twice and one empty."""
    draw = random.Random(3)
    whole = [film["Title"] for film in invented_films(MANY - 6)]
    cut = [title[: draw.randint(1, len(title))] if number % 3 else title for number, title in enumerate(whole)]
    return ["", "A", *cut, cut[4], cut[4], "", invented_sentence(draw)]


def assert_same(alone: Plot, beside: Plot) -> None:
    assert alone == beside
    assert [each.logprob for each in alone.probabilities] == [each.logprob for each in beside.probabilities]


@pytest.mark.parametrize("kind", ["bpe", "char"])
@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": 1.0},
        {"guidance": 1.7},
        {
            "guidance": 1.7,
            "min_p": None,
            "top_k": 40,
            "dry_multiplier": 0.8,
            "banned": ("the b", "x"),
            "stop": (" Mina",),
        },
        {"temperature": 0, "guidance": 1.0},
    ],
)
def test_a_plot_is_the_same_alone_and_in_a_crowd(tiny_checkpoint: Make, kind: str, settings: dict[str, Any]) -> None:
    """Token by token, with the same probability to the last bit."""
    ours, asked = generator(tiny_checkpoint, kind), {"max_tokens": 24, "logprobs": 1, **settings}
    assert ours.engine().precision == "int8"
    crowd = ours.plots(titles(), seed=100, **asked)
    assert len(crowd) == MANY and len({plot.text for plot in crowd}) > MANY // 4
    for number in range(0, MANY, 3):
        assert_same(ours.plot(titles()[number], seed=crowd[number].seed, **asked), crowd[number])


def test_texts_past_their_window_are_the_same(tiny_checkpoint: Make) -> None:
    ours = generator(tiny_checkpoint)
    asked: dict[str, Any] = {"max_tokens": 90, "guidance": 1.0, "logprobs": 0}  # the context is 64
    crowd = ours.plots(titles()[:20], seed=5, **asked)
    assert max(plot.tokens for plot in crowd) == 90
    for number in (0, 1, 7, 19):
        assert_same(ours.plot(titles()[number], seed=5 + number, **asked), crowd[number])


def test_begun_texts_are_the_same(tiny_checkpoint: Make) -> None:
    """Prompts of other lengths, beside each other."""
    ours, draw = generator(tiny_checkpoint, context_length=128), random.Random(9)
    begun = [invented_sentence(draw)[: draw.randint(0, 60)] for _ in range(16)]
    requests = [
        request
        for number, begin in enumerate(begun)
        for request in ours.requests(
            "Ada", begin=begin, seed=number, max_tokens=30, logprobs=0, guidance=1 + number % 2
        )
    ]
    writings = [ours.writing(request) for request in requests]
    for _ in ours.write(writings):
        pass
    for request, writing in zip(requests, writings, strict=True):
        alone = ours.writing(request)
        for _ in ours.write([alone]):
            pass
        tokenizer = ours.checkpoint.tokenizer
        assert_same(plot_of(request, alone, tokenizer), plot_of(request, writing, tokenizer))


def test_one_prompt_with_many_seeds_is_the_same(tiny_checkpoint: Make) -> None:
    ours = generator(tiny_checkpoint)
    asked: dict[str, Any] = {"max_tokens": 20, "logprobs": 0}
    crowd = ours.plots("The Hollow Piano", n=MANY, seed=1, **asked)
    assert len({plot.text for plot in crowd}) > MANY // 2
    for number in range(0, MANY, 9):
        assert_same(ours.plot("The Hollow Piano", seed=1 + number, **asked), crowd[number])


def test_nothing_asked_is_nothing_written(tiny_checkpoint: Make) -> None:
    assert generator(tiny_checkpoint).plots([]) == []

"""Guidance and the best of several: against their definitions, computed anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.errors import ConfigError, PromptError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.guidance import PLAUSIBLE, best, guide, title_gains
from movieplotgpt.generation.sampling import choose
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.scoring import score_documents

LOGITS = st.lists(st.floats(-4, 4), min_size=5, max_size=5)


@pytest.fixture
def generator(tiny_checkpoint: Callable[..., Checkpoint]) -> PlotGenerator:
    """A model that claims to be trained with the empty title; it hardly ever ends by itself."""
    checkpoint = replace(tiny_checkpoint(), info={"settings": {"windows": {"no_title": 0.1}}})
    with torch.no_grad():
        checkpoint.model.model.embed_tokens.weight[0] *= 0.2
    return PlotGenerator(checkpoint)


@given(LOGITS, LOGITS, st.floats(1, 4))
def test_guidance_is_its_formula_among_what_is_plausible(
    with_title: list[float], without: list[float], g: float
) -> None:
    found = guide(torch.tensor(with_title), torch.tensor(without), g).numpy()
    c, u = (np.array(x) - np.log(np.exp(x).sum()) for x in (with_title, without))
    for i in range(5):
        if abs(c[i] - c.max() - math.log(PLAUSIBLE)) < 1e-5:
            continue
        expected = u[i] + g * (c[i] - u[i]) if c[i] > c.max() + math.log(PLAUSIBLE) else -math.inf
        assert found[i] == pytest.approx(expected, abs=1e-4)


def test_a_guided_text_is_that_of_two_fresh_readings(generator: PlotGenerator) -> None:
    """Also past the context, where the two readings move to their next windows at different places."""
    checkpoint = generator.checkpoint
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    config = SamplingConfig(seed=3, max_tokens=150, guidance=2.0, temperature=0.7)
    plot = generator.plot("Mars, Texas", sampling=config)
    prompt = generator.form.from_title("Mars, Texas")
    again = Writing(prompt, tokenizer, 64, config, seed=3, without_title=checkpoint.format.sentence(""))
    assert len(again.headers[0]) > len(again.headers[1]) > 0
    while again.finish_reason is None:
        rows = [model(torch.tensor([again.window(k)]))[0, -1, : tokenizer.vocab_size].detach() for k in range(2)]
        [chosen] = choose(guide(rows[0], rows[1], 2.0)[None], config, [again.random], [again.history()])
        again.take(chosen)
    assert again.tokens == 150 and plot.text == tokenizer.decode(again.body).rstrip("\ufffd")
    assert plot.text != generator.plot("Mars, Texas", sampling=config, guidance=None).text


def test_guided_and_other_texts_are_written_together_as_alone(generator: PlotGenerator) -> None:
    titles = ["Mars, Texas", "", "Ada"]  # without a title there is nothing to be guided by
    settings: dict[str, Any] = {"guidance": 1.5, "max_tokens": 80, "banned": ["e"]}
    together = generator.plots(titles, n=2, seed=7, **settings)
    alone = [
        generator.plot(title, seed=7 + i, **settings) for i, title in enumerate(t for t in titles for _ in range(2))
    ]
    assert together == alone
    assert together[2] == generator.plot("", seed=9, max_tokens=80, banned=["e"])


def test_guidance_of_one_is_none(generator: PlotGenerator) -> None:
    assert generator.plot("Ada", seed=1, max_tokens=30, guidance=1) == generator.plot("Ada", seed=1, max_tokens=30)


def test_the_best_of_several_gains_most_by_its_title(generator: PlotGenerator) -> None:
    checkpoint = generator.checkpoint
    plot = generator.plot("Mars, Texas", seed=5, max_tokens=20, best_of=6)
    request = generator._request(generator.form.from_title("Mars, Texas"), SamplingConfig(max_tokens=20, best_of=6), 5)
    candidates = generator._batch([request.candidate(i) for i in range(6)])
    assert candidates[0] == generator.plot("Mars, Texas", seed=5, max_tokens=20)
    assert len({candidate.text for candidate in candidates}) == 6
    gains = []
    for candidate in candidates:
        body = checkpoint.tokenizer.encode(candidate.text)
        nats = [
            float(score_documents(checkpoint.model, [(checkpoint.tokenizer.encode(header), body)], 0).body[0])
            for header in (request.prompt.header, checkpoint.format.sentence(""))
        ]
        gains.append((nats[1] - nats[0]) / (len(body) + 1))
    assert title_gains(checkpoint, request.prompt, [each.text for each in candidates]) == pytest.approx(gains, abs=1e-5)
    assert plot.text == candidates[int(np.argmax(gains))].text and plot.seed == 5
    stream = generator.stream("Mars, Texas", seed=5, max_tokens=20, best_of=6)
    assert list(stream) == [plot.text] and stream.plot == plot
    both = generator.plots(["Mars, Texas", ""], seed=5, max_tokens=20, best_of=6)
    assert both == [plot, generator.plot("", seed=6, max_tokens=20)]


def test_what_never_ends_or_invents_words_is_set_aside() -> None:
    gains = np.array([3.0, 1.0, 2.0, 2.0])
    assert best(gains, [False, True, True, True]) == 2
    assert best(gains, [False, False, False, False]) == 0


def test_sound_is_what_ended_and_says_known_words(generator: PlotGenerator) -> None:
    plot = generator.plot("Mars", seed=1, max_tokens=5)
    assert not generator._sound(plot)
    ended = replace(plot, finish_reason="stop", text="The harbour is hollow.")
    assert generator._sound(ended), "without an index all words are"

    class Index:
        def invented(self, text: str) -> list[str]:
            return ["hollow"] if "hollow" in text else []

    generator.__dict__["copies"] = Index()
    assert not generator._sound(ended) and generator._sound(replace(ended, text="The harbour."))


@pytest.mark.parametrize("settings", [{"guidance": 1.5}, {"best_of": 4}])
def test_a_model_that_knows_no_empty_title_says_so(
    tiny_checkpoint: Callable[..., Checkpoint], settings: dict[str, Any]
) -> None:
    with pytest.raises(PromptError, match="was trained without the empty title"):
        PlotGenerator(tiny_checkpoint()).plot("Mars", **settings)
    without_titles = replace(tiny_checkpoint(header=""), info={"settings": {"windows": {"no_title": 0.1}}})
    assert PlotGenerator(without_titles).plot("", seed=1, max_tokens=3, **settings).text is not None


@pytest.mark.parametrize("wrong", [{"guidance": 0.5}, {"guidance": 11}, {"best_of": 0}])
def test_a_wrong_strength_names_its_setting(generator: PlotGenerator, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        generator.plot("Mars", **wrong)

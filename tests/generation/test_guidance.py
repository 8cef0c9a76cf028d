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
from movieplotgpt.generation.candidates import best, soundness
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.guidance import USUAL, guide
from movieplotgpt.generation.plots import plot_of
from movieplotgpt.generation.sampling import PLAUSIBLE, Chosen, History, choose, log_softmax
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.sentences import word_spans

LOGITS = st.lists(st.floats(-4, 4), min_size=5, max_size=5)


@pytest.fixture
def checkpoint(tiny_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    """A model that claims to be trained with the empty title; it hardly ever ends by itself."""
    made = replace(tiny_checkpoint(), info={"settings": {"windows": {"no_title": 0.1}}})
    with torch.no_grad():
        made.model.model.embed_tokens.weight[0] *= 0.2
    return made


@pytest.fixture
def generator(checkpoint: Checkpoint) -> PlotGenerator:
    return PlotGenerator(checkpoint, precision="float32")


@given(LOGITS, LOGITS, st.floats(1, 4))
def test_guidance_is_its_formula_among_what_is_plausible(
    with_title: list[float], without: list[float], g: float
) -> None:
    own_V, without_V = np.array(with_title), np.array(without)
    c, u = (np.array(x) - np.log(np.exp(x).sum()) for x in (with_title, without))
    expected = u + g * (c - u)
    guided_V = guide(log_softmax(own_V), log_softmax(without_V), g)
    assert guided_V == pytest.approx(expected, abs=1e-4)
    plausible = c > c.max() + math.log(PLAUSIBLE)
    if abs(c - c.max() - math.log(PLAUSIBLE)).min() < 1e-5 or len(set(expected[plausible].round(4))) < plausible.sum():
        return
    chosen = choose(own_V, SamplingConfig(temperature=0), np.random.default_rng(0), History(), guided_V)
    assert chosen.id == np.argmax(np.where(plausible, expected, -np.inf))


SURE = np.array([10.0, 1.0, 0.0, 2.0], np.float32)  # all but the first are implausible


def test_guidance_never_overrides_what_is_forbidden() -> None:
    greedy, random = SamplingConfig(temperature=0), np.random.default_rng(0)
    guided_V = guide(SURE, np.zeros(4), 1.5)
    assert choose(SURE, greedy, random, History(forbidden={0}), guided_V).id == 3
    assert choose(SURE, greedy, random, History(bias={2: 12.0}), guided_V).id == 0
    assert choose(SURE, greedy, random, History(bias={2: 30.0}), guided_V).id == 2, "a wish is plausible"


def test_probabilities_of_a_guided_text_are_the_models_own() -> None:
    config = SamplingConfig(temperature=0, logprobs=3)
    chosen = choose(SURE, config, np.random.default_rng(0), History(), guide(SURE, np.zeros(4), 2.0))
    expected = torch.from_numpy(SURE).double().log_softmax(-1)
    assert chosen.logprob == pytest.approx(float(expected[0]))
    assert [i for i, _ in chosen.others] == [0, 3, 1]
    assert [value for _, value in chosen.others] == pytest.approx(expected[[0, 3, 1]].tolist())


@pytest.mark.parametrize("fade", [None, 60, 5])
def test_a_guided_text_is_that_of_two_fresh_readings(
    generator: PlotGenerator, checkpoint: Checkpoint, fade: int | None
) -> None:
    """Also past the context, where the two readings move to their next windows at different places."""
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    config = SamplingConfig(
        seed=3, max_tokens=150, guidance=2.0, temperature=0.7, guidance_characters=fade, distinct_names=False
    )
    plot = generator.plot("Mars, Texas", sampling=config)
    [request] = generator.requests("Mars, Texas", sampling=config)
    again = generator.writing(request)
    assert len(again.headers[0]) > len(again.headers[1]) > 0
    decoder, written = tokenizer.decoder(), 0
    while again.finish_reason is None:
        rows = [model(torch.tensor([again.window(k)]))[0, -1, : tokenizer.vocab_size].detach() for k in range(2)]
        logprobs_V, without_V = (row_V.double().log_softmax(-1).numpy() for row_V in rows)
        strength = 2.0 if fade is None else max(2 - written / fade, 1)
        guided_V = guide(logprobs_V, without_V, strength) if strength > 1 else None
        chosen = choose(rows[0].numpy(), config, again.random, again.history(), guided_V)
        written += len(decoder.push(chosen.id))
        again.take(chosen)
    assert again.tokens == 150 and plot.text.rstrip("\ufffd") == tokenizer.decode(again.body).rstrip("\ufffd")
    if fade != 5:  # two tokens: these are the same without guidance
        assert plot.text != generator.plot("Mars, Texas", sampling=config, guidance=1).text


def test_guided_and_other_texts_are_written_together_as_alone(generator: PlotGenerator) -> None:
    titles = ["Mars, Texas", "", "Ada"]  # without a title there is nothing to be guided by
    settings: dict[str, Any] = {"guidance": 1.5, "max_tokens": 80, "banned": ["e"]}
    together = generator.plots(titles, n=2, seed=7, **settings)
    alone = [
        generator.plot(title, seed=7 + i, **settings) for i, title in enumerate(t for t in titles for _ in range(2))
    ]
    assert together == alone
    assert together[2] == generator.plot("", seed=9, max_tokens=80, banned=["e"])


def test_guidance_where_nobody_says(generator: PlotGenerator, checkpoint: Checkpoint) -> None:
    """Some, where the model was trained on the empty title; else none, and nothing is said of it."""
    asked: dict[str, Any] = {"seed": 1, "max_tokens": 30}
    assert generator.plot("Ada", **asked) == generator.plot("Ada", **asked, guidance=USUAL)
    assert generator.builder.settled().guidance == USUAL > 1
    untrained = PlotGenerator(replace(checkpoint, info={}), precision="float32")
    assert untrained.plot("Ada", **asked) == generator.plot("Ada", **asked, guidance=1)
    assert untrained.builder.settled().guidance == 1


@torch.no_grad()
def nats_of(checkpoint: Checkpoint, header: list[int], body: list[int]) -> float:
    """By the whole network at once."""
    logits_TV = checkpoint.model(torch.tensor([[checkpoint.tokenizer.end_id, *header, *body]]))[0]
    logprobs_TV = logits_TV[len(header) : -1, : checkpoint.tokenizer.vocab_size].double().log_softmax(-1)
    return -float(logprobs_TV[range(len(body)), body].sum())


@pytest.mark.parametrize("guidance", [1, 1.5])
def test_the_best_of_several_gains_most_by_its_title(
    generator: PlotGenerator, checkpoint: Checkpoint, guidance: float
) -> None:
    one = SamplingConfig(max_tokens=20, guidance=guidance)
    config = one.model_copy(update={"best_of": 6})
    plot = generator.plot("Mars, Texas", seed=5, sampling=config)
    [request] = generator.requests("Mars, Texas", seed=5, sampling=config)
    writings = [generator.writing(candidate) for candidate in request.all_candidates()]
    assert {number for number, _ in generator.write(writings)} == set(range(6))
    tokenizer = generator.checkpoint.tokenizer
    candidates = [plot_of(request, writing, tokenizer) for writing in writings]
    assert candidates[0] == generator.plot("Mars, Texas", seed=5, sampling=one)
    assert len({candidate.text for candidate in candidates}) == 6
    gains = []
    for writing in writings:
        text = checkpoint.tokenizer.decode(writing.body)
        assert not word_spans("Mars, Texas", text), "each token counts"
        lost = [nats_of(checkpoint, header, writing.body) for header in writing.headers]
        gains.append((lost[1] - lost[0]) / len(writing.body))
    assert [each.title_gain for each in candidates] == pytest.approx(gains, abs=1e-5)
    expected = best(gains, [soundness(candidate, invents_words=False) for candidate in candidates])
    assert plot.text == candidates[expected].text and plot.seed == 5
    stream = generator.stream("Mars, Texas", seed=5, sampling=config)
    assert list(stream) == [plot.text] and stream.plot == plot
    both = generator.plots(["Mars, Texas", ""], seed=5, sampling=config)
    assert both == [plot, generator.plot("", seed=6, sampling=one)]


def test_a_text_is_held_to_its_hints_as_well(tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = replace(tiny_checkpoint(hints=("Decade",)), info={"settings": {"windows": {"no_title": 0.1}}})
    generator = PlotGenerator(checkpoint)
    for title, hints in (("Mars", {}), ("", {"Decade": "1970s"}), ("Mars", {"Decade": "1970s"})):
        [request] = generator.requests(title, hints=hints, seed=1)
        assert (
            generator.writing(request).headers[1]
            == checkpoint.tokenizer.encode(checkpoint.format.sentence("")).tolist()
        )
    assert generator.writing(generator.requests("", seed=1)[0]).readings == 1


@pytest.mark.parametrize("settings", [{"guidance": 1.5}, {"best_of": 4}])
def test_a_model_that_knows_no_empty_title_says_so(
    tiny_checkpoint: Callable[..., Checkpoint], settings: dict[str, Any]
) -> None:
    with pytest.raises(PromptError, match="was trained without the empty title"):
        PlotGenerator(tiny_checkpoint()).plot("Mars", **settings)
    without_titles = replace(tiny_checkpoint(header=""), info={"settings": {"windows": {"no_title": 0.1}}})
    with pytest.raises(PromptError, match="trained on text without titles"):
        PlotGenerator(without_titles).plot("", seed=1, max_tokens=3, **settings)


@pytest.mark.parametrize("wrong", [{"guidance": 0.5}, {"guidance": 11}, {"best_of": 0}])
def test_a_wrong_strength_names_its_setting(generator: PlotGenerator, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        generator.plot("Mars", **wrong)


@given(LOGITS, st.floats(1, 4))
def test_a_penalty_weighs_as_much_with_guidance(logits: list[float], g: float) -> None:
    """Where the title changes nothing, guidance changes nothing, whatever other rules there are."""
    own_V = np.array(logits)
    config = SamplingConfig(temperature=1, min_p=PLAUSIBLE, repetition_penalty=1.5, presence_penalty=0.5)
    history = History(ids=[0, 1])
    alone = choose(own_V, config, np.random.default_rng(3), history)
    guided = choose(own_V, config, np.random.default_rng(3), history, own_V)
    assert guided.id == alone.id or not _all_plausible(logits)


def _all_plausible(logits: list[float]) -> bool:
    return max(logits) - min(logits) < -math.log(PLAUSIBLE)


def test_words_of_the_title_gain_nothing(generator: PlotGenerator, checkpoint: Checkpoint) -> None:
    config = SamplingConfig(max_tokens=9, best_of=2, guidance=1)
    [request] = generator.requests("Mars", seed=5, sampling=config)
    writing = generator.writing(request)
    gains = {"Mars": 5.0, " is": 1.0, " mars": 7.0, " and": 3.0}
    for text, gain in gains.items():
        for id_ in checkpoint.tokenizer.encode(text).tolist():
            writing.take(Chosen(id_, gain=gain))
    assert writing.written.text == "".join(gains)
    mean = np.mean([gains[text] for text in (" is", " and") for _ in checkpoint.tokenizer.encode(text)])
    assert writing.title_gain == pytest.approx(mean)


def test_plots_for_different_titles_draw_differently(generator: PlotGenerator) -> None:
    requests = [generator.requests(title, seed=3)[0] for title in ("Mars", "Venus", "Mars")]
    first, second, again = (np.random.default_rng(request.drawn_by).random() for request in requests)
    assert first == again != second


def test_guidance_draws_only_what_the_title_makes_plausible() -> None:
    """Of tokens with 0.022 and 0.018 of the likeliest one's probability, the first is plausible and the second is not."""
    own_V = np.log(np.array([1.0, 0.5, 1.1 * PLAUSIBLE, 0.9 * PLAUSIBLE]))
    guided_V = np.array([0.0, 1.0, 2.0, 3.0])
    greedy, random = SamplingConfig(temperature=0), np.random.default_rng(0)
    assert choose(own_V, greedy, random, History(), guided_V).id == 2
    assert choose(own_V, greedy, random, History(bias={3: 0.3}), guided_V).id == 3, "a rule may make it plausible"
    assert choose(own_V, greedy, random, History(bias={2: -0.3}), guided_V).id == 2, "and none makes it implausible"
    drawn = {choose(own_V, SamplingConfig(), random, History(), guided_V).id for _ in range(200)}
    assert drawn == {0, 1, 2}

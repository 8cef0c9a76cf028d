"""Texts that join and leave a batch at any time are those that are written alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movieplotgpt.engine.kv_cache import KVCache
from movieplotgpt.engine.session import Engine
from movieplotgpt.generation.decoding import TextBatch, write
from movieplotgpt.generation.guidance import bare_header
from movieplotgpt.generation.prompts import PromptForm
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.checkpoints import Checkpoint

Make = Callable[..., Checkpoint]
TITLES = ("Ada", "Mars, Texas", "The Long Way to the Lighthouse")


@pytest.fixture
def checkpoint(tiny_checkpoint: Make) -> Checkpoint:
    """A model that claims to be trained with the empty title; it hardly ever ends by itself."""
    made = replace(tiny_checkpoint(), info={"settings": {"windows": {"no_title": 0.1}}})
    made.model.model.embed_tokens.weight.data[0] *= 0.2
    return made


class CountingEngine(Engine):
    """Keeps how many prompts it read in each call."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.prompts: list[int] = []

    def read(self, texts: Sequence[Sequence[int]], cache: KVCache, row: int = 0) -> None:
        self.prompts.append(len(texts))
        super().read(texts, cache, row)


def writing(checkpoint: Checkpoint, seed: int, *, title: str = "Ada", begin: str = "", **settings: Any) -> Writing:
    prompt = PromptForm(checkpoint).from_title(title, begin=begin)
    config = SamplingConfig(**{"seed": seed, "guidance": 1.0, "max_tokens": 20, **settings})
    guidance = config.guidance or 1.0
    without = bare_header(checkpoint) if guidance > 1 else None
    return Writing(prompt, checkpoint.tokenizer, 64, config, seed=seed, without_title=without)


def alone(checkpoint: Checkpoint, text: Writing, engine: Engine | None = None) -> list[int]:
    for _ in write(engine or Engine(checkpoint), [text], checkpoint.tokenizer.vocab_size, room=2):
        pass
    return text.body


@st.composite
def crowds(draw: st.DrawFn) -> list[tuple[int, int, dict]]:
    """When a text comes, after how many tokens it is to leave, and what it is."""
    text = st.fixed_dictionaries(
        {
            "seed": st.integers(0, 1000),
            "title": st.sampled_from(TITLES),
            "guidance": st.sampled_from([1.0, 1.7]),
            "guidance_characters": st.sampled_from([None, 30]),
            "max_tokens": st.integers(1, 90),  # the context is 64
        }
    )
    return draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([5, 1000]), text), min_size=1, max_size=8))


@given(crowd=crowds())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_crowd_writes_what_each_writes_alone(checkpoint: Checkpoint, crowd: list[tuple[int, int, dict]]) -> None:
    engine = Engine(checkpoint)
    batch = TextBatch(engine, checkpoint.tokenizer.vocab_size, room=5)
    waiting = [(leaves, writing(checkpoint, **text), text) for _, leaves, text in crowd]
    pauses = [pause for pause, *_ in crowd]
    texts = [(leaves, text, asked) for leaves, text, asked in waiting]
    while waiting or batch.texts:
        coming, free = [], batch.free
        while waiting and pauses[-len(waiting)] <= 0 and waiting[0][1].readings <= free:
            coming.append(waiting.pop(0)[1])
            free -= coming[-1].readings
        batch.join(coming)
        if waiting:
            pauses[-len(waiting)] -= 1
        if batch.texts:
            batch.step()
        for leaves, text, _ in texts:
            if text in batch.texts and text.tokens >= leaves:
                batch.leave(text)
        assert batch.free == 5 - sum(text.readings for text in batch.texts)
    for leaves, text, asked in texts:
        expected = alone(checkpoint, writing(checkpoint, **asked), engine)
        assert text.body == (expected if text.finish_reason else expected[: text.tokens])
        assert text.finish_reason or text.tokens == leaves


def test_texts_that_join_together_read_equal_prompts_once(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two titles and the empty one, in three readings, and all in one run."""
    engine, read = Engine(checkpoint), list[int]()
    run = engine._run

    def counted(texts: Any, *others: Any) -> Any:
        read.append(len(texts))
        return run(texts, *others)

    asked: list[dict[str, Any]] = [
        {"seed": seed, "title": title, "guidance": guidance}
        for seed, (title, guidance) in enumerate([("Ada", 1.7), ("Ada", 1.0), ("Mars, Texas", 1.7), ("Ada", 1.7)])
    ]
    texts = [writing(checkpoint, **each) for each in asked]
    batch = TextBatch(engine, checkpoint.tokenizer.vocab_size, room=7)
    with monkeypatch.context() as context:
        context.setattr(engine, "_run", counted)
        batch.join(texts)
        batch.step()
    assert read == [3, 7] and batch.free == 0
    while batch.texts:
        batch.step()
    assert [text.body for text in texts] == [alone(checkpoint, writing(checkpoint, **each)) for each in asked]


def test_texts_are_read_when_there_is_room(checkpoint: Checkpoint) -> None:
    engine = CountingEngine(checkpoint)
    asked: list[dict[str, Any]] = [
        {"seed": seed, "title": TITLES[seed % 3], "max_tokens": 3 + seed} for seed in range(5)
    ]
    texts = [writing(checkpoint, **each) for each in asked]
    pieces = [""] * len(texts)
    for number, piece in write(engine, texts, checkpoint.tokenizer.vocab_size, room=2):
        pieces[number] += piece
    assert engine.prompts[0] == 2 and len(engine.prompts) > 2
    assert pieces == [text.told for text in texts]
    assert [text.body for text in texts] == [alone(checkpoint, writing(checkpoint, **each)) for each in asked]


def test_a_prompt_is_read_again_where_its_window_has_moved(checkpoint: Checkpoint) -> None:
    long = writing(checkpoint, 1, max_tokens=100, begin="The baker")  # past the context of 64
    batch = TextBatch(Engine(checkpoint), checkpoint.tokenizer.vocab_size, room=2)
    batch.join([long])
    while long.tokens < 70 and not long.finish_reason:
        batch.step()
    assert long.finish_reason is None, "it ended before the window moved: nothing is tested"
    late = writing(checkpoint, 2, begin="The baker")
    batch.join([late])
    while batch.texts:
        batch.step()
    assert late.body == alone(checkpoint, writing(checkpoint, 2, begin="The baker")) and long.body == alone(
        checkpoint, writing(checkpoint, 1, max_tokens=100, begin="The baker")
    )


def test_guidance_that_has_faded_leaves_its_place_to_others(checkpoint: Checkpoint) -> None:
    batch = TextBatch(Engine(checkpoint), checkpoint.tokenizer.vocab_size, room=2)
    fading, late = writing(checkpoint, 1, guidance=1.7, guidance_characters=30), writing(checkpoint, 2)
    batch.join([fading])
    while batch.free == 0:
        batch.step()
    assert len(fading.told) >= 30 and fading.finish_reason is None, "it ended before: nothing is tested"
    batch.join([late])
    while batch.texts:
        batch.step()
    assert fading.body == alone(checkpoint, writing(checkpoint, 1, guidance=1.7, guidance_characters=30))
    assert late.body == alone(checkpoint, writing(checkpoint, 2))


def test_what_has_no_room_is_not_taken(checkpoint: Checkpoint) -> None:
    batch = TextBatch(Engine(checkpoint), checkpoint.tokenizer.vocab_size, room=1)
    with pytest.raises(AssertionError, match="no room"):
        batch.join([writing(checkpoint, 1, guidance=1.5)])
    with pytest.raises(AssertionError, match="no room"):
        batch.join([writing(checkpoint, 1), writing(checkpoint, 2)])


def test_a_long_prompt_is_read_in_parts_and_short_ones_first(checkpoint: Checkpoint) -> None:
    """No more tokens of prompts than are allowed between two steps, and the texts are those that are written alone."""
    engine = CountingEngine(checkpoint)
    read: list[int] = []

    def counted(texts: Sequence[Sequence[int]], cache: KVCache, row: int = 0) -> None:
        read.append(len({tuple(text) for text in texts}) * max(map(len, texts)))
        CountingEngine.read(engine, texts, cache, row)

    object.__setattr__(engine, "read", counted)
    asked: list[dict[str, Any]] = [
        {"seed": 1, "max_tokens": 50},
        {"seed": 2, "begin": "The baker hides the map from the smuggler, who waits", "guidance": 1.7},
        {"seed": 3, "begin": "A storm", "guidance": 1.7},
        {"seed": 4, "begin": "A storm"},
    ]
    written, long, *short = texts = [writing(checkpoint, **each) for each in asked]
    batch = TextBatch(engine, checkpoint.tokenizer.vocab_size, room=7)
    batch.join([written])
    while not written.tokens:
        batch.step((), 12)
    read.clear()
    batch.join([long, *short])
    began = written.tokens
    while not long.tokens:
        before = len(read)
        batch.step((), 12)
        assert sum(read[before:]) <= 2 * 12 + 1
    assert written.tokens - began > 2, "it was written while the long prompt was read"
    assert all(text.tokens > long.tokens for text in short)
    while batch.texts:
        batch.step((), 12)
    assert [text.body for text in texts] == [alone(checkpoint, writing(checkpoint, **each)) for each in asked]


@given(
    rests=st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=30),
    leaves=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=4),
    tokens=st.sampled_from([math.inf, 5]),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_resting_texts_equal_those_written_alone(
    checkpoint: Checkpoint, rests: list[set[int]], leaves: list[tuple[int, int]], tokens: float
) -> None:
    asked: list[dict[str, Any]] = [
        {"seed": 1, "max_tokens": 80},
        {"seed": 2, "guidance": 1.7, "guidance_characters": 30, "max_tokens": 30},
        {"seed": 3, "max_tokens": 40, "title": "Mars, Texas"},
        {"seed": 4, "guidance": 1.7},
    ]
    texts = [writing(checkpoint, **each) for each in asked]
    batch = TextBatch(Engine(checkpoint), checkpoint.tokenizer.vocab_size, room=6)
    batch.join(texts)
    step = 0
    while batch.texts:
        resting = {texts[number] for number in rests[step]} if step < len(rests) else set()
        before = {text: text.tokens for text in texts}
        batch.step(resting, tokens)
        assert all(text.tokens == before[text] for text in resting)
        for text in [texts[number] for when, number in leaves if when == step]:
            if text in batch.texts:
                batch.leave(text)
                batch.join([text])
        step += 1
    assert [text.body for text in texts] == [alone(checkpoint, writing(checkpoint, **each)) for each in asked]

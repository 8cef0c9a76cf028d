"""What the engine reads at once, token by token or beside other texts is what the network says of each whole text."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import make_text_model

from movieplotgpt.engine import session
from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.engine.quantization import F32
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.model.checkpoints import Checkpoint

Make: TypeAlias = Callable[..., Checkpoint]
CONTEXT, VOCABULARY = 32, 50  # of text_model
QWEN3_0_6B = ModelConfig(vocab_size=151_936, n_layer=28, n_embd=1024, n_head=16, n_kv_head=8, head_dim=128, n_ff=3072)


def tokens(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY), k=count)


@torch.no_grad()
def expected(model: Checkpoint, ids: list[int]) -> F32:
    """The logits after each token, (T, V), of the network of training."""
    found: F32 = model.model(torch.tensor([ids]))[0].numpy()
    return found


def assert_close(found: Any, exact: F32) -> None:
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)


def distance(found: npt.NDArray[Any], exact: npt.NDArray[Any]) -> float:
    """Relative, of their norms."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


# one text


def test_logits_are_those_of_the_network(dimensions: dict[str, Any], text_model: Make) -> None:
    model, ids = text_model(**dimensions), tokens(CONTEXT)
    assert_close(Engine(model, precision="float32").logits(ids), expected(model, ids))


def test_bytes_are_near_the_network(dimensions: dict[str, Any], text_model: Make) -> None:
    model, ids = text_model(**dimensions), tokens(CONTEXT)
    found = Engine(model).logits(ids)
    assert 0 < distance(found, expected(model, ids)) < 0.1  # of drawn weights, far worse than trained ones


def test_bytes_of_nothing_are_nothing(text_model: Make) -> None:
    """Where all values are zero, so is what quantises what is multiplied with them."""
    model, ids = text_model(), tokens(CONTEXT)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if "v_proj" in name:
                weight.zero_()
    assert 0 < distance(Engine(model).logits(ids), expected(model, ids)) < 0.1


@pytest.mark.parametrize("first", [0, 1, 11, CONTEXT - 1])
def test_token_by_token_is_the_whole_at_once(dimensions: dict[str, Any], text_model: Make, first: int) -> None:
    model, ids = text_model(**dimensions), tokens(CONTEXT)
    engine = Engine(model, precision="float32")
    cache = engine.new_cache(1)
    engine.read([ids[:first]], cache)
    found = [engine.next_logits([id_], cache)[0].copy() for id_ in ids[first:]]
    assert_close(found, expected(model, ids)[first:])
    assert cache.lengths.tolist() == [CONTEXT]


@pytest.mark.parametrize("chunk", [1, 5, 31, 32])
def test_a_prompt_in_chunks_is_the_whole(text_model: Make, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(session, "TOKENS_AT_ONCE", chunk)
    model, ids = text_model(n_head=4, n_kv_head=2), tokens(CONTEXT)
    engine = Engine(model, precision="float32")
    assert_close(engine.logits(ids), expected(model, ids))
    cache = engine.new_cache(1)
    engine.read([ids[:-1]], cache)
    assert_close(engine.next_logits(ids[-1:], cache)[0], expected(model, ids)[-1])


def test_what_a_cache_held_before_is_never_seen(text_model: Make) -> None:
    model, ids = text_model(), tokens(9)
    engine = Engine(model, precision="float32")
    cache = engine.new_cache(2)
    for part in cache._parts:
        part.fill(math.nan)
    engine.read([ids[:-1], ids[:3]], cache)
    found = engine.next_logits([ids[-1], ids[3]], cache)
    assert_close(found, expected(model, ids)[[8, 3]])
    cache.lengths[:] = 0
    engine.read([ids[4:7], ids[4:6]], cache)
    found = engine.next_logits([ids[7], ids[6]], cache)
    assert_close(found, expected(model, ids[4:])[[3, 2]])


def test_the_context_ends_where_it_ends(text_model: Make) -> None:
    engine = Engine(text_model())
    cache = engine.new_cache(1)
    engine.read([tokens(CONTEXT)], cache)
    with pytest.raises(AssertionError, match="33 tokens in a context of 32"):
        engine.next_logits([1], cache)


def test_texts_that_are_begun_take_one_token_at_a_time(text_model: Make) -> None:
    engine = Engine(text_model())
    cache = engine.new_cache(2)
    engine.read([tokens(4), tokens(2)], cache)
    with pytest.raises(AssertionError, match="continued token by token"):
        engine.read([[1, 2], [3]], cache)


def test_an_engine_keeps_the_weights_it_was_made_of(text_model: Make) -> None:
    model, ids = text_model(dropout=0.5), tokens(6)
    engine, before = Engine(model, precision="float32"), expected(model, ids)
    version = model.version()
    with torch.no_grad():
        model.model.model.norm.weight.mul_(2)
    model.model.train()
    assert_close(engine.logits(ids), before)
    assert model.version() != version


# many texts


@given(
    prompts=st.lists(st.integers(0, 12), min_size=2, max_size=5),
    at_once=st.sampled_from([1, 6, 20, 2048]),
    heads=st.sampled_from([(2, 2), (4, 1), (6, 2)]),
    restarted=st.integers(0, 4),
    copied=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    leaving=st.integers(0, 4),
)
@settings(max_examples=60)
def test_texts_of_different_lengths_are_read_as_if_alone(
    prompts: list[int],
    at_once: int,
    heads: tuple[int, int],
    restarted: int,
    copied: tuple[int, int],
    leaving: int,
) -> None:
    """As generation does: prompts together, then one token of each; one starts anew, one is copied, one leaves, one comes."""
    model = make_text_model(n_head=heads[0], n_kv_head=heads[1])
    engine = Engine(model, precision="float32")
    cache = engine.new_cache(len(prompts))
    texts = [tokens(length, seed=row) for row, length in enumerate(prompts)]
    new = iter(tokens(200, seed=99))

    def step() -> None:
        ids = [next(new) for _ in texts]
        found = engine.next_logits(ids, cache)
        for text, id_, logits in zip(texts, ids, found, strict=True):
            text.append(id_)
            assert_close(logits, expected(model, text)[-1])
        assert cache.lengths.tolist() == [len(text) for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "TOKENS_AT_ONCE", at_once)
        engine.read(texts, cache)
        step()
        step()
        row = restarted % len(texts)
        cache.lengths[row] = 0
        texts[row] = tokens(5, seed=50)
        engine.read([texts[row]], cache, row)
        step()
        source, row = (number % len(texts) for number in copied)
        cache.copy(source, row)
        texts[row] = [*texts[source]]
        step()
        going_on = [row for row in range(len(texts)) if row != leaving % len(texts)]
        texts = [texts[row] for row in cache.keep(going_on)]
        step()
        texts.append(tokens(7, seed=51))
        engine.read([texts[-1]], cache, cache.add())
        step()


def crowd(vocab_size: int) -> list[list[int]]:
    """Prompts of 1 to 60 tokens in no order, the shortest and the longest several times."""
    draw = random.Random(7)
    lengths = [*range(1, 61), 1, 1, 60, 60]
    draw.shuffle(lengths)
    return [draw.choices(range(vocab_size), k=length) for length in lengths]


SHAPES: list[dict[str, Any]] = [
    {},
    {"n_head": 4, "n_kv_head": 2, "n_ff": 99},
    {"n_embd": 40, "head_dim": 10, "n_ff": 77, "vocab_size": 333},
    {"tie_embeddings": False, "n_layer": 1, "n_embd": 384, "head_dim": 64},
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_is_the_same_alone_and_in_a_crowd(text_model: Make, shape: dict[str, Any], threads: int) -> None:
    """Bit for bit, as bytes are added up exactly."""
    model = text_model(context_length=64, **shape)
    texts, steps = crowd(VOCABULARY), [tokens(64, seed=seed) for seed in range(4)]
    engine = Engine(model, threads=threads)
    cache = engine.new_cache(len(texts))
    engine.read(texts, cache)
    together = [engine.next_logits(ids, cache).copy() for ids in steps]
    for row, text in enumerate(texts):
        own = engine.new_cache(1)
        engine.read([text], own)
        for ids, logits in zip(steps, together, strict=True):
            assert np.array_equal(engine.next_logits([ids[row]], own)[0], logits[row]), f"{len(text)} tokens"


def test_a_copied_prompt_is_the_one_that_was_read(text_model: Make) -> None:
    engine, prompt = Engine(text_model()), tokens(9)
    cache = engine.new_cache(3)
    engine.read([prompt, prompt], cache)
    cache.copy(0, 2, 9)
    first, second, copy = engine.next_logits([4, 4, 4], cache)
    assert np.array_equal(first, second) and np.array_equal(first, copy)


def test_a_part_of_a_prompt_may_be_copied(text_model: Make) -> None:
    model, prompt = text_model(), tokens(9)
    engine = Engine(model, precision="float32")
    cache = engine.new_cache(2)
    engine.read([prompt], cache)
    cache.copy(0, 1, 5)
    assert_close(engine.next_logits([3, prompt[5]], cache)[1], expected(model, prompt)[5])


@pytest.mark.parametrize("lengths", [[0], [0, 0], [0, 3, 0, 0], [5, 0, 2]])
def test_nothing_may_be_read(text_model: Make, lengths: list[int]) -> None:
    """The prompt of a text without a header is its first token alone, and nothing before it."""
    engine = Engine(text_model())
    cache = engine.new_cache(len(lengths))
    engine.read([tokens(length) for length in lengths], cache)
    assert cache.lengths.tolist() == lengths
    own = engine.new_cache(1)
    row = lengths.index(0)
    assert np.array_equal(engine.next_logits([1] * len(lengths), cache)[row], engine.next_logits([1], own)[0])


@pytest.mark.parametrize("lengths", [[3, 20], [20, 3], [2, 2, 2, 20, 2, 2], [8, 8, 9]])
def test_long_and_short_texts_may_be_read_together(
    text_model: Make, monkeypatch: pytest.MonkeyPatch, lengths: list[int]
) -> None:
    monkeypatch.setattr(session, "TOKENS_AT_ONCE", 8)
    engine = Engine(text_model())
    cache = engine.new_cache(len(lengths))
    engine.read([tokens(length) for length in lengths], cache)
    assert cache.lengths.tolist() == lengths


def test_reading_together_takes_fewer_runs(text_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, runs = Engine(text_model()), list[int]()
    run = engine._run

    def counted(texts: Any, *others: Any) -> F32:
        runs.append(len(texts))
        return run(texts, *others)

    monkeypatch.setattr(engine, "_run", counted)
    monkeypatch.setattr(session, "TOKENS_AT_ONCE", 40)
    engine.read([tokens(10, seed) for seed in range(7)], engine.new_cache(7))
    assert runs == [4, 3]


def test_no_token_without_a_text(text_model: Make) -> None:
    engine = Engine(text_model())
    with pytest.raises(AssertionError):
        engine.next_logits([1, 2], engine.new_cache(1))


# what cannot be run


def test_precisions_are_those_there_are(text_model: Make) -> None:
    with pytest.raises(ConfigError, match=r"^'int4' is not a precision; choose one of int8, float16, float32$"):
        Engine(text_model(), precision="int4")  # type: ignore[arg-type]


class Unread:
    """A model whose weights must not be asked for."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def version(self) -> object:
        raise AssertionError("nothing is to be read")

    weights = version


def test_a_model_too_large_for_float32_is_told_to_use_int8() -> None:
    said = "^in float32 this model takes 3.0 GB, and a graph holds 2 at most; use int8$"
    with pytest.raises(ConfigError, match=said):
        Engine(Unread(QWEN3_0_6B), precision="float32")  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="nothing is to be read"):
        Engine(Unread(QWEN3_0_6B), precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_a_model_too_large_for_bytes_is_too_large(precision: Any) -> None:
    larger = QWEN3_0_6B.model_copy(update={"n_embd": 2048, "n_ff": 6144})  # Qwen3-1.7B
    with pytest.raises(ConfigError, match=rf"^in {precision} this model takes .*; use a smaller model$"):
        Engine(Unread(larger), precision=precision)  # type: ignore[arg-type]


def fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("no such operator")


def test_an_old_runtime_is_told(text_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    monkeypatch.setattr(onnxruntime, "__version__", "1.10.0")
    said = r"^generating text needs onnxruntime 1\.30 or newer, and 1\.10\.0 is installed; pip install -U onnxruntime$"
    with pytest.raises(CheckpointError, match=said):
        Engine(text_model())
    monkeypatch.setattr(onnxruntime, "__version__", "1.99.0")
    with pytest.raises(CheckpointError, match=r"^ONNX Runtime 1\.99\.0 cannot run the model: no such operator$"):
        Engine(text_model())


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(text_model: Make, precision: Any, value: float) -> None:
    model = text_model()
    model.model.state_dict()["model.layers.1.mlp.up_proj.weight"][3, 3] = value
    said = r"^the model's model\.layers\.1\.mlp\.up_proj\.weight is NaN or infinite; its weights are damaged"
    with pytest.raises(CheckpointError, match=said):
        Engine(model, precision=precision)


def test_a_folder_is_read_when_it_is_run(folder: Any) -> None:
    model = load_folder(folder)
    found = Engine(model, precision="float32").logits([1, 2, 3])
    (folder / "model.safetensors").unlink()
    assert np.array_equal(Engine(model, precision="float32").logits([1, 2, 3]), found), "its graph is there"
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors; copy or download the model again"):
        Engine(load_folder(folder))

"""Parameters, FLOPs and bytes are those that are built, counted and allocated."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from movieplotgpt.config import build_settings
from movieplotgpt.engine.model_config import ModelConfig, matrix_parameters, parameters
from movieplotgpt.errors import ConfigError
from movieplotgpt.model import attention
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.sizes import LADDER, SizeName, SizeSettings, training_bytes, training_flops_per_token


def built(config: ModelConfig) -> GPT:
    with torch.device("meta"):  # shapes without memory
        return GPT(config)


def tiny_config(**dimensions: Any) -> ModelConfig:
    defaults = {"n_layer": 2, "n_embd": 24, "n_head": 4, "n_kv_head": 2, "head_dim": 10, "n_ff": 40}
    return ModelConfig(**{"vocab_size": 70, "context_length": 12, **defaults, **dimensions})


SHAPES: list[dict[str, Any]] = [{}, {"n_layer": 3}, {"n_head": 1, "n_kv_head": 1}, {"tie_embeddings": False}]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("n_kv_head", [None, 1])
@pytest.mark.parametrize("size", LADDER)
def test_parameters_are_those_of_the_network(size: SizeName, n_kv_head: int | None, tied: bool) -> None:
    config = SizeSettings(size=size, n_kv_head=n_kv_head, tie_embeddings=tied).model_config_for(100)
    model = built(config)
    assert parameters(config) == sum(weight.numel() for weight in model.parameters())
    assert matrix_parameters(config) == sum(weight.numel() for _, weight in model.matrices())


def test_the_ladder_spans_one_to_a_hundred_million() -> None:
    counts = {size: parameters(SizeSettings(size=size).model_config_for(4096)) for size in LADDER}
    assert list(counts) == list(get_args(SizeName))
    assert {size: round(count / 1e6, 1) for size, count in counts.items()} == {
        "tiny": 1.4,
        "mini": 3.0,
        "small": 5.9,
        "base": 12.2,
        "medium": 27.8,
        "large": 88.1,
    }
    steps = list(counts.values())
    assert all(1.5 < larger / smaller < 4 for smaller, larger in itertools.pairwise(steps))


@given(st.integers(2, 70_000))
def test_the_embedding_has_a_row_for_each_id_and_less_than_64_more(vocab_size: int) -> None:
    rows = SizeSettings().model_config_for(vocab_size).vocab_size
    assert rows % 64 == 0
    assert vocab_size <= rows < vocab_size + 64


def test_each_dimension_can_be_set_apart_from_its_size() -> None:
    plain = SizeSettings(size="mini").model_config_for(256)
    assert (plain.n_layer, plain.n_embd, plain.n_head, plain.head_dim, plain.n_ff) == LADDER["mini"]
    assert plain.n_kv_head == plain.n_head
    wanted: dict[str, Any] = {
        "context_length": 64,
        "n_layer": 3,
        "n_embd": 48,
        "n_head": 6,
        "n_kv_head": 2,
        "head_dim": 18,
        "n_ff": 99,
        "rope_theta": 5000.0,
        "tie_embeddings": False,
    }
    for name, value in wanted.items():
        alone = {name: value} if name != "n_kv_head" else {"n_kv_head": 3}
        changed = SizeSettings(size="mini", **alone).model_config_for(256)
        expected = plain.model_dump() | alone | ({"n_kv_head": value} if name == "n_head" else {})
        assert changed.model_dump() == expected
    config = SizeSettings(size="mini", **wanted).model_config_for(256)
    assert config.model_dump() == plain.model_dump() | wanted


@pytest.mark.parametrize(
    ("wrong", "said"), [({"n_kv_head": 2}, "n_kv_head"), ({"head_dim": 15}, "head_dim 15 must be")]
)
def test_dimensions_that_do_not_fit_are_said_in_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\[model\]: .*{said}") as caught:
        SizeSettings(size="mini", **wrong).model_config_for(256)
    assert "\n" not in str(caught.value)


def test_a_size_nobody_knows_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="'tiny', 'mini', 'small', 'base', 'medium', 'large' or 'auto', not 'huge'"):
        build_settings(SizeSettings, {"size": "huge"})


@pytest.mark.parametrize("dimensions", SHAPES)
def test_flops_of_a_step_are_those_a_counter_counts(
    dimensions: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one query at a time, exactly the pairs that causal attention needs are multiplied and counted."""
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", 1)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    config = tiny_config(**dimensions)
    model, length = GPT(config), config.context_length
    ids_BT = torch.zeros(1, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.loss(ids_BT, ids_BT).backward()
    half_a_diagonal = 6 * config.n_layer * config.n_head * config.head_dim * length  # pairs: T (T + 1) / 2, not T T / 2
    assert counter.get_total_flops() == length * training_flops_per_token(config) + half_a_diagonal


def test_flops_of_a_token_worked_by_hand() -> None:
    config = ModelConfig(
        vocab_size=10, context_length=8, n_layer=1, n_embd=8, n_head=2, n_kv_head=1, head_dim=4, n_ff=3
    )
    # q 8x8, k 8x4, v 8x4, o 8x8; gate, up, down 8x3; head 8x10; 2 heads x 4 x (8 / 2 pairs) x 2 products
    matrices, head, pairs = 64 + 32 + 32 + 64 + 3 * 24, 80, 2 * 4 * 4 * 2
    assert training_flops_per_token(config) == 3 * 2 * (matrices + head + pairs)


@given(
    name=st.sampled_from(["vocab_size", "n_layer", "n_embd", "n_head", "head_dim", "n_ff"]),
    more=st.integers(1, 5),
    tokens=st.integers(1, 10_000),
)
@settings(max_examples=60)
def test_a_larger_step_takes_more_memory(name: str, more: int, tokens: int) -> None:
    config = tiny_config()
    larger = tiny_config(**{name: getattr(config, name) + 2 * more})
    needed = training_bytes(config, tokens_per_step=tokens)
    assert needed < training_bytes(larger, tokens_per_step=tokens)
    assert needed < training_bytes(config, tokens_per_step=tokens + more)
    assert training_bytes(config, tokens_per_step=tokens, bytes_per_value=2) < needed
    # weights, gradients and two moments are there whatever is read
    assert needed > 16 * sum(weight.numel() for weight in built(config).parameters())

"""Both graphs are the network of training, in the operators of this library's sessions and in those of the standard."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.engine.fused_graph import FusedGraph
from movieplotgpt.engine.graph import rotary_table
from movieplotgpt.engine.model_config import ModelConfig, graph_bytes
from movieplotgpt.engine.plain_graph import PlainGraph, bfloat16, eight_bits
from movieplotgpt.engine.session import Engine
from movieplotgpt.errors import ConfigError
from movieplotgpt.model.checkpoints import Checkpoint

Make: TypeAlias = Callable[..., Checkpoint]
SomeIds: TypeAlias = Callable[..., torch.Tensor]


def run_plain(model: Checkpoint, parts: list[torch.Tensor], kind: Any = "f32") -> npt.NDArray[np.float32]:
    """The logits of all parts, read one after the other."""
    graph = PlainGraph(model.config, model.weights(), kind).model()
    onnx.checker.check_model(graph)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    shapes = {each.name: each.shape for each in session.get_inputs() if each.name != "input_ids"}
    past = {name: np.zeros((len(parts[0]), k, 0, d), np.float32) for name, (_, k, _, d) in shapes.items()}
    found = []
    for part in parts:
        logits_BTV, *present = session.run(None, {"input_ids": part.numpy(), **past})
        past = dict(zip(past, present, strict=True))
        found.append(logits_BTV)
    return np.concatenate(found, 1)


@torch.no_grad()
def test_both_are_the_network(dimensions: dict[str, Any], text_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = text_model(**dimensions), some_ids(3, 32)
    expected = model.model(ids_BT).numpy()
    plain = run_plain(model, [*ids_BT.split([11, 1, 1, 19], dim=1)])
    engine = Engine(model, precision="float32")
    fused = np.stack([engine.logits(ids) for ids in ids_BT.tolist()])
    np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fused, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_positions_far_away_are_turned_alike(text_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = text_model(context_length=600, rope_theta=1e6), some_ids(1, 600)
    expected = model.model(ids_BT).numpy()
    np.testing.assert_allclose(run_plain(model, [ids_BT]), expected, rtol=0, atol=1e-4)
    found = Engine(model, precision="float32").logits(ids_BT[0].tolist())
    np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_the_size_of_a_graph_is_known_before(text_model: Make, precision: Any, tied: bool) -> None:
    model = text_model(tie_embeddings=tied, n_embd=256, n_ff=512, vocab_size=512, head_dim=64)
    size = len(FusedGraph(model.config, model.weights(), precision).model().SerializeToString())
    assert 1 < size / graph_bytes(model.config, precision) < 1.05  # names, scales and norms besides


@torch.no_grad()
def test_angles_are_those_of_the_network(text_model: Make) -> None:
    for changes in ({}, {"head_dim": 22}, {"rope_theta": 1e6}):
        model = text_model(context_length=2048, **changes)
        half = model.config.head_dim // 2
        for ours, theirs in zip(rotary_table(model.config), (model.model.cos_TD, model.model.sin_TD), strict=True):
            assert ours.dtype == np.float32 and ours.shape == (2048, half)
            np.testing.assert_allclose(ours, theirs.numpy()[:, half:], rtol=0, atol=2e-4)


@pytest.mark.parametrize("theta", [1e300, 1e-300])
def test_a_rotary_base_beyond_float32_warns_nobody(theta: float) -> None:
    config = ModelConfig(vocab_size=64, context_length=8, rope_theta=theta)
    assert rotary_table(config)[0].shape == (8, 64)


bits = st.integers(0, 2**32 - 1)


@given(
    bits=st.lists(bits | st.sampled_from([0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 1, 0x80000001]), min_size=1)
)
def test_bfloat16_is_rounded_as_in_torch(bits: list[int]) -> None:
    numbers = np.array(bits, np.uint32).view(np.float32)
    numbers = numbers[~np.isnan(numbers)]
    theirs = torch.from_numpy(numbers.copy()).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(bfloat16(numbers), theirs)


def test_infinity_stays_infinite_and_the_largest_becomes_it() -> None:
    numbers = np.array([math.inf, -math.inf, np.finfo(np.float32).max], np.float32)
    assert bfloat16(numbers).tolist() == [0x7F80, 0xFF80, 0x7F80]


def test_eight_bits_are_those_of_gguf() -> None:
    gguf = pytest.importorskip("gguf")
    matrix = np.random.default_rng(2).normal(0, 1, (7, 96)).astype(np.float32)
    matrix[3, 32:64] = 0
    whole, scales = eight_bits(matrix)
    kind = gguf.GGMLQuantizationType.Q8_0
    theirs = gguf.dequantize(gguf.quantize(matrix, kind), kind)
    assert np.array_equal((whole * scales.astype(np.float32)).reshape(7, 96), theirs)


def test_rows_that_make_no_blocks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^q8_0 needs rows of a multiple of 32 weights, not 48; take f16$"):
        eight_bits(np.zeros((2, 48), np.float32))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "near"), [("f16", 2e-3), ("bf16", 2e-2), ("q8_0", 5e-2)])
def test_fewer_bits_stay_near(text_model: Make, some_ids: SomeIds, kind: str, near: float) -> None:
    model, ids_BT = text_model(n_ff=64), some_ids(1, 20)
    expected = model.model(ids_BT).numpy()
    found = run_plain(model, [ids_BT], kind)
    assert 0 < np.linalg.norm(found - expected) < near * np.linalg.norm(expected)

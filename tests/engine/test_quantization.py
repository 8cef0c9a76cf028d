"""A matrix comes back from its bytes to within half a step of each row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.engine.quantization import LARGEST, SCALE, from_bytes, quantize, to_bytes


@given(
    rows=st.integers(1, 9), columns=st.integers(1, 70), seed=st.integers(0, 99), scale=st.sampled_from([1e-6, 1, 1e4])
)
def test_bytes_are_within_half_a_step(rows: int, columns: int, seed: int, scale: float) -> None:
    matrix = np.random.default_rng(seed).normal(0, scale, (rows, columns)).astype(np.float32)
    whole, scales = quantize(matrix)
    assert whole.dtype == np.int8 and whole.min() >= -LARGEST
    assert (np.abs(whole).max(1) == LARGEST).all()
    assert (np.abs(whole * scales[:, None] - matrix) <= scales[:, None] * 0.501).all()


def test_rows_do_not_depend_on_each_other() -> None:
    matrix = np.random.default_rng(0).normal(0, 1, (4, 9)).astype(np.float32)
    whole, scales = quantize(matrix)
    for row in range(4):
        alone, scale = quantize(matrix[row : row + 1])
        assert np.array_equal(alone[0], whole[row]) and scale[0] == scales[row]


def test_nothing_is_nothing() -> None:
    whole, scales = quantize(np.zeros((2, 8), np.float32))
    assert not whole.any() and np.isfinite(scales).all()


def test_bytes_of_bytes_are_the_same() -> None:
    weights = {"a": np.random.default_rng(0).normal(0, 1, (5, 7)).astype(np.float32), "b": np.ones(3, np.float32)}
    packed = to_bytes(weights)
    assert {name: values.dtype.str for name, values in packed.items()} == {"a": "|i1", f"a{SCALE}": "<f4", "b": "<f4"}
    once = from_bytes(packed)
    twice = from_bytes(to_bytes(once))
    assert once.keys() == weights.keys() and np.array_equal(once["b"], weights["b"])
    assert np.array_equal(once["a"], twice["a"])


@pytest.mark.parametrize("scale", [None, np.ones(4, np.float32), np.ones((5, 1), np.float32)])
def test_each_row_needs_its_scale(scale: np.ndarray | None) -> None:
    packed = {"a": np.zeros((5, 7), np.int8), **({} if scale is None else {f"a{SCALE}": scale})}
    with pytest.raises(ValueError, match=r"^a has no scale for each row$"):
        from_bytes(packed)

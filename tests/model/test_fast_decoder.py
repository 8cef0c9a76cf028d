"""Products by bytes stay near the exact ones, alone and in a batch; what is compiled is what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from movieplotgpt.errors import CheckpointError
from movieplotgpt.model import fast_decoder
from movieplotgpt.model.decoder import Decoder
from movieplotgpt.model.fast_decoder import DecodingStep, FastDecoder, compiled, product
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.kv_cache import KVCache
from movieplotgpt.model.quantization import quantize

Make: TypeAlias = Callable[..., GPT]
SomeIds: TypeAlias = Callable[..., Tensor]
PROMPTS = (7, 3, 11)


def distance(found: Tensor, exact: Tensor) -> float:
    """Of their norms."""
    return float((found - exact).norm() / exact.norm())


def written(model: GPT, decoder: FastDecoder) -> FastDecoder:
    """The same decoder with steps as they are written, not compiled."""
    step = DecodingStep(model.config)

    def run(tensors: list[Tensor]) -> list[Tensor]:
        layers = model.config.n_layer
        ids_B, ends_B, positions_T, *others = tensors
        keys, values, weights = others[:layers], others[layers : 2 * layers], others[2 * layers :]
        return [step(ids_B, ends_B, positions_T, keys, values, weights)]

    decoder.__dict__["_steps"] = (run, run)
    return decoder


def reading(decoder: Decoder, texts: list[Tensor], tokens: int) -> Tensor:
    """Prompts of different lengths, each in its own row, then ``tokens`` of each: the last logits."""
    cache = decoder.new_cache(len(texts))
    for row, (text, length) in enumerate(zip(texts, PROMPTS, strict=False)):
        decoder.read(text[None, :length], cache.row(row))
    for at in range(tokens):
        ids_B = torch.stack([text[length + at] for text, length in zip(texts, PROMPTS, strict=False)])
        logits_BV = decoder.next_logits(ids_B, cache)
    assert cache.lengths.tolist() == [length + tokens for length, _ in zip(PROMPTS, texts, strict=False)]
    return logits_BV


@given(batch=st.integers(1, 5), seed=st.integers(0, 99), scale=st.sampled_from([1e-6, 1.0, 1e4]))
def test_a_product_of_bytes_is_near_the_product_and_the_same_alone(batch: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_BM, weight_NM = torch.randn(batch, 96, generator=generator) * scale, torch.randn(40, 96, generator=generator)
    found = product(x_BM, *quantize(weight_NM))
    assert distance(found, x_BM @ weight_NM.T) < 0.02
    for row in range(batch):
        assert torch.equal(product(x_BM[row : row + 1], *quantize(weight_NM))[0], found[row])


def test_nothing_times_anything_is_nothing() -> None:
    x_BM, weight_NM = torch.randn(2, 8), torch.randn(3, 8)
    x_BM[1], weight_NM[2] = 0, 0
    found = product(x_BM, *quantize(weight_NM))
    assert not found[1].any() and not found[:, 2].any() and found[0, :2].all()


@torch.no_grad()
def test_a_step_is_near_the_exact_decoder(dimensions: dict[str, Any], tiny_model: Make, some_ids: SomeIds) -> None:
    model, texts = tiny_model(**dimensions), list(some_ids(3, 20))
    found = reading(written(model, FastDecoder(model)), texts, 6)
    assert distance(found, reading(Decoder(model), texts, 6)) < 0.1  # of drawn weights, far worse than trained ones


@torch.no_grad()
def test_a_text_is_written_alone_as_in_a_batch(tiny_model: Make, some_ids: SomeIds) -> None:
    model, texts = tiny_model(), list(some_ids(3, 20))
    decoder = written(model, FastDecoder(model))
    torch.testing.assert_close(reading(decoder, texts, 6)[:1], reading(decoder, texts[:1], 6), rtol=0, atol=0.05)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("heads", [{}, {"n_head": 6, "n_kv_head": 2}])
def test_compiled_is_written(
    heads: dict[str, int], tiny_model: Make, some_ids: SomeIds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = tiny_model(**heads)
    assert not compiled(model.config)
    for texts in (list(some_ids(3, 20)), list(some_ids(1, 20, seed=1))):
        expected = reading(written(model, FastDecoder(model)), texts, 8)
        assert distance(reading(FastDecoder(model), texts, 8), expected) < 0.02
    assert compiled(model.config)
    other, texts = tiny_model(seed=5, **heads), list(some_ids(3, 20))
    expected = reading(written(other, FastDecoder(other)), texts, 8)
    monkeypatch.setattr(fast_decoder, "_compile", None)  # the library of the shape serves other weights
    assert distance(reading(FastDecoder(other), texts, 8), expected) < 0.02


def test_without_a_compiler_it_says_what_to_do(
    tiny_model: Make, some_ids: SomeIds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fast_decoder, "compiler_found", lambda: False)
    decoder = FastDecoder(tiny_model())
    with pytest.raises(CheckpointError, match=r"no C\+\+ compiler is here; install g\+\+ or clang, or leave fast out"):
        decoder.next_logits(some_ids(1), decoder.new_cache(1))


def test_the_context_ends_where_it_ends(tiny_model: Make, some_ids: SomeIds) -> None:
    decoder = FastDecoder(tiny_model())
    cache: KVCache = decoder.new_cache(1)
    decoder.read(some_ids(1, 32), cache)
    with pytest.raises(AssertionError, match="33 tokens in a context of 32"):
        decoder.next_logits(some_ids(1), cache)

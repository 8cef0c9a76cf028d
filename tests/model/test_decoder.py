"""What is read token by token, in chunks, in rows of different lengths, is what the network says of the whole at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from movieplotgpt.model.decoder import Decoder
from movieplotgpt.model.gpt import GPT

Make: TypeAlias = Callable[..., GPT]
SomeIds: TypeAlias = Callable[..., torch.Tensor]
CONTEXT = 32  # of tiny_model


@torch.no_grad()
def test_prompt_then_token_by_token_is_the_whole_at_once(
    dimensions: dict[str, Any], tiny_model: Make, some_ids: SomeIds
) -> None:
    model, ids_BT = tiny_model(**dimensions), some_ids(3, CONTEXT)
    decoder = Decoder(model)
    cache = decoder.new_cache(3)
    parts = [decoder(ids_BT[:, :11], cache)]
    parts += [decoder(ids_BT[:, at : at + 1], cache) for at in range(11, CONTEXT)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids_BT), rtol=0, atol=2e-5)
    assert cache.lengths.tolist() == [CONTEXT] * 3


@given(chunks=st.lists(st.integers(1, 13), min_size=1, max_size=8), n_kv_head=st.sampled_from([1, 4]))
@settings(max_examples=40)
@torch.no_grad()
def test_a_prompt_read_in_chunks_is_the_whole_at_once(
    chunks: list[int], n_kv_head: int, tiny_model: Make, some_ids: SomeIds
) -> None:
    model = tiny_model(n_head=4, n_kv_head=n_kv_head)
    ids_BT = some_ids(2, min(sum(chunks), CONTEXT))
    decoder = Decoder(model)
    cache = decoder.new_cache(2)
    parts = [decoder(part, cache) for part in ids_BT.split(chunks_within(chunks, ids_BT.shape[1]), dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids_BT), rtol=0, atol=2e-5)


def chunks_within(chunks: list[int], total: int) -> list[int]:
    """The same chunks, the last ones cut so that they sum to ``total``."""
    sizes: list[int] = []
    for size in chunks:
        sizes.append(min(size, total - sum(sizes)))
    return [size for size in sizes if size]


@given(
    prompts=st.lists(st.integers(0, 12), min_size=2, max_size=4),
    n_kv_head=st.sampled_from([1, 2]),
    restarted=st.integers(0, 3),
    leaving=st.integers(0, 3),
)
@settings(max_examples=40)
@torch.no_grad()
def test_texts_of_different_lengths_are_each_read_as_if_alone(
    prompts: list[int], n_kv_head: int, restarted: int, leaving: int, tiny_model: Make, some_ids: SomeIds
) -> None:
    """As decoding does: each prompt through its own row, then one token of each; one starts anew, one leaves."""
    model = tiny_model(n_kv_head=n_kv_head)
    decoder = Decoder(model)
    cache = decoder.new_cache(len(prompts))
    texts = [some_ids(length, seed=row) for row, length in enumerate(prompts)]
    new = iter(some_ids(200, seed=99).tolist())

    def read(row: int) -> None:
        if len(texts[row]):
            decoder.read(texts[row][None], cache.row(row))

    def step() -> None:
        ids_B = torch.tensor([next(new) for _ in texts])
        logits_BV = decoder(ids_B[:, None], cache)[:, -1]
        for row, token in enumerate(ids_B):
            texts[row] = torch.cat([texts[row], token[None]])
            torch.testing.assert_close(logits_BV[row], model(texts[row][None])[0, -1], rtol=0, atol=2e-5)

    for row in range(len(texts)):
        read(row)
    step()
    step()
    row = restarted % len(texts)
    cache.row(row).reset()
    texts[row] = some_ids(5, seed=50)
    read(row)
    step()
    going_on = [row for row in range(len(texts)) if row != leaving % len(texts)]
    texts = [texts[row] for row in cache.keep(going_on)]
    step()
    assert cache.lengths.tolist() == [len(text) for text in texts]


@torch.no_grad()
def test_what_lay_in_a_cache_before_it_was_reset_is_never_seen(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(), some_ids(2, 9)
    decoder = Decoder(model)
    cache = decoder.new_cache(2)
    cache.keys.fill_(math.nan)
    cache.values.fill_(math.nan)
    torch.testing.assert_close(decoder(ids_BT, cache), model(ids_BT), rtol=0, atol=2e-5)
    cache.reset()
    torch.testing.assert_close(decoder(ids_BT.flip(1), cache), model(ids_BT.flip(1)), rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_cache_in_bfloat16_stays_near_float32(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(), some_ids(2, CONTEXT)
    expected = model(ids_BT)
    model.compute_dtype = torch.bfloat16
    decoder = Decoder(model)
    cache = decoder.new_cache(2)
    assert cache.keys.dtype == torch.bfloat16
    parts = [decoder(part, cache) for part in ids_BT.split([10, 10, *[1] * 12], dim=1)]
    assert (torch.cat(parts, 1) - expected).norm() < 0.03 * expected.norm()


@torch.no_grad()
def test_a_decoder_keeps_the_weights_it_was_made_of(tiny_model: Make, some_ids: SomeIds) -> None:
    model, ids_BT = tiny_model(dropout=0.5), some_ids(1, 6)
    decoder, expected = Decoder(model), model(ids_BT)
    model.train()
    torch.testing.assert_close(decoder(ids_BT, decoder.new_cache(1)), expected, rtol=0, atol=2e-5)


def test_no_gradients_are_kept_and_no_room_is_left_behind_the_context(tiny_model: Make, some_ids: SomeIds) -> None:
    decoder = Decoder(tiny_model())
    cache = decoder.new_cache(1)
    assert not decoder(some_ids(1, CONTEXT), cache).requires_grad
    with pytest.raises(AssertionError, match="33 tokens in a context of 32"):
        decoder(some_ids(1, 1), cache)

"""A cache gives back what was put into it, text by text, whatever was read, left or forgotten meanwhile."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from movieplotgpt.model.kv_cache import KVCache

LAYERS, HEADS, ROOM, SIZE = 2, 3, 20, 4


def empty(batch: int, *, dtype: torch.dtype = torch.float32) -> KVCache:
    return KVCache(LAYERS, batch, HEADS, ROOM, SIZE, dtype=dtype)


def keys_and_values(batch: int, tokens: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Of each layer."""
    shape = (2, batch, HEADS, tokens, SIZE)
    return [(k, v) for k, v in (torch.randn(shape, generator=generator) for _ in range(LAYERS))]


class Beside:
    """The oracle: a cache, and beside it what each text was given, in plain lists of tokens."""

    def __init__(self, batch: int) -> None:
        self.cache = empty(batch)
        self.texts: list[list[Tensor]] = [[] for _ in range(batch)]  # of each token: (LAYERS, 2, HEADS, SIZE)
        self.generator = torch.Generator().manual_seed(0)

    def read(self, tokens: int, row: int | None = None) -> None:
        """Feed all texts, or one alone, as the network does: layer by layer, then ``advance``."""
        texts = self.texts if row is None else [self.texts[row]]
        cache = self.cache if row is None else self.cache.row(row)
        if max(map(len, texts)) + tokens > ROOM:
            return
        fed = keys_and_values(len(texts), tokens, self.generator)
        for i, text in enumerate(texts):
            text += [
                torch.stack([torch.stack([kv[i, :, at] for kv in layer]) for layer in fed]) for at in range(tokens)
            ]
        longest = max(map(len, texts))
        for layer, (k_BKTD, v_BKTD) in enumerate(fed):
            all_k, all_v = cache.extend(layer, k_BKTD, v_BKTD)
            assert all_k.shape == all_v.shape == (len(texts), HEADS, longest, SIZE)
            for i, text in enumerate(texts):
                expected = torch.stack(text, -2)[layer]  # (2, HEADS, T, SIZE)
                assert torch.equal(all_k[i, :, : len(text)], expected[0])
                assert torch.equal(all_v[i, :, : len(text)], expected[1])
        cache.advance(tokens)

    def check(self) -> None:
        lengths = [len(text) for text in self.texts]
        assert self.cache.lengths.tolist() == lengths
        assert self.cache.length == max(lengths)
        assert self.cache.even == (len(set(lengths)) == 1)
        for i, text in enumerate(self.texts):
            view = self.cache.row(i)
            assert (view.length, view.even, view.max_length) == (len(text), True, ROOM)
            for at, token in enumerate(text):
                assert torch.equal(view.keys[:, 0, :, at], token[:, 0])
                assert torch.equal(view.values[:, 0, :, at], token[:, 1])


operations = st.one_of(
    st.tuples(st.just("read"), st.integers(1, 6)),
    st.tuples(st.just("read row"), st.integers(0, 3), st.integers(1, 6)),
    st.tuples(st.just("forget row"), st.integers(0, 3)),
    st.tuples(st.just("forget"), st.just(0)),
    st.tuples(st.just("copy"), st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("keep"), st.permutations([0, 1, 2, 3]), st.integers(1, 4)),
    st.tuples(st.just("add"), st.just(0)),
)


@given(batch=st.integers(1, 4), done=st.lists(operations, max_size=14))
@settings(max_examples=150)
def test_each_text_has_what_it_was_given(batch: int, done: list[tuple]) -> None:
    beside = Beside(batch)
    for name, *of in done:
        rows = len(beside.texts)
        match name:
            case "read":
                beside.read(of[0] if beside.cache.even else 1)
            case "read row":
                beside.read(of[1], of[0] % rows)
            case "forget row":
                beside.cache.row(of[0] % rows).reset()
                beside.texts[of[0] % rows] = []
            case "forget":
                beside.cache.reset()
                beside.texts = [[] for _ in range(rows)]
            case "keep":
                kept = [row for row in of[0] if row < rows][: of[1]]
                order = beside.cache.keep(kept)
                assert sorted(order) == sorted(kept)
                beside.texts = [beside.texts[row] for row in order]
            case "add":
                if rows < batch:
                    assert beside.cache.add() == rows
                    beside.texts.append([])
            case "copy":
                source, row = (number % rows for number in of)
                beside.cache.copy(source, row)
                beside.texts[row] = [*beside.texts[source]]
        beside.check()


def test_nothing_counts_as_read_before_every_layer_has_it() -> None:
    cache = empty(2)
    for layer, (k_BKTD, v_BKTD) in enumerate(keys_and_values(2, 3, torch.Generator().manual_seed(0))):
        cache.extend(layer, k_BKTD, v_BKTD)
        assert cache.length == 0
    cache.advance(3)
    assert cache.lengths.tolist() == [3, 3]


def test_a_row_and_its_batch_share_memory_and_lengths() -> None:
    cache = empty(3)
    row = cache.row(1)
    for layer, (k_BKTD, v_BKTD) in enumerate(keys_and_values(1, 4, torch.Generator().manual_seed(0))):
        row.extend(layer, k_BKTD, v_BKTD)
        assert torch.equal(cache.keys[layer, 1, :, :4], k_BKTD[0])
        assert torch.equal(cache.values[layer, 1, :, :4], v_BKTD[0])
    row.advance(4)
    assert cache.lengths.tolist() == [0, 4, 0]
    cache.advance(1)
    assert row.length == 5
    row.reset()
    assert cache.lengths.tolist() == [1, 0, 1]
    assert not cache.keys[:, [0, 2]].any()


def test_resetting_frees_no_memory_and_asks_for_none() -> None:
    cache = empty(2)
    cache.advance(5)
    keys, values = cache.keys, cache.values
    cache.reset()
    assert cache.length == 0
    assert cache.keys is keys and cache.values is values


def test_texts_of_different_lengths_take_one_token_at_a_time() -> None:
    cache = empty(2)
    cache.row(0).advance(2)
    [(k_BKTD, v_BKTD), _] = keys_and_values(2, 2, torch.Generator().manual_seed(0))
    with pytest.raises(AssertionError, match="one token at a time"):
        cache.extend(0, k_BKTD, v_BKTD)


def test_the_buffer_is_of_the_asked_precision() -> None:
    cache = empty(2, dtype=torch.bfloat16)
    assert cache.keys.dtype == cache.values.dtype == torch.bfloat16
    assert cache.keys.shape == (LAYERS, 2, HEADS, ROOM, SIZE)

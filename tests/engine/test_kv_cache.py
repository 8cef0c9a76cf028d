"""A cache gives back what was put into it, row by row, whatever was read, left or forgotten meanwhile."""

from __future__ import annotations

import mmap
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movieplotgpt.engine.kv_cache import KVCache
from movieplotgpt.engine.model_config import ModelConfig, Precision, kv_cache_bytes
from movieplotgpt.errors import CheckpointError

ROOM = 20
CONFIG = ModelConfig(
    vocab_size=64, context_length=ROOM, n_layer=2, n_embd=32, n_head=6, n_kv_head=3, head_dim=16, n_ff=32
)
PARTS = 2 * CONFIG.n_layer


def memory(cache: KVCache, row: int) -> list[npt.NDArray[np.float32]]:
    """Key and value of each layer of one row, (K, R, D), as a session sees them."""
    return [value.numpy()[0] for value in cache.values(row, row + 1)]


class Beside:
    """The oracle: a cache, and beside it what each text was given, in plain lists of tokens."""

    def __init__(self, batch: int) -> None:
        self.cache = KVCache(CONFIG, batch, "float32")
        self.texts: list[list[float]] = [[] for _ in range(batch)]
        self.given = 0.0

    def read(self, tokens: int, row: int) -> None:
        """Write into the memory of a row and lengthen it, as the session does."""
        text = self.texts[row]
        for _ in range(min(tokens, ROOM - len(text))):
            self.given += 1
            for number, part in enumerate(self.cache._parts):
                part[row, :, len(text)] = self.given + number / 10
            text.append(self.given)
        self.cache.lengths[row] = len(text)

    def check(self) -> None:
        assert self.cache.lengths.tolist() == [len(text) for text in self.texts]
        for row, text in enumerate(self.texts):
            for number, part in enumerate(memory(self.cache, row)):
                expected = np.array([value + number / 10 for value in text], np.float32)
                assert (part[:, : len(text)] == expected[None, :, None]).all()


operations = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 3), st.integers(1, 6)),
    st.tuples(st.just("shorten"), st.integers(0, 3), st.integers(0, 6)),
    st.tuples(st.just("copy"), st.integers(0, 3), st.integers(0, 3), st.none() | st.integers(0, ROOM)),
    st.tuples(st.just("exchange"), st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("keep"), st.permutations([0, 1, 2, 3]), st.integers(0, 4)),
    st.tuples(st.just("add")),
)


@given(batch=st.integers(1, 4), done=st.lists(operations, max_size=14))
@settings(max_examples=150)
def test_each_text_has_what_it_was_given(batch: int, done: list[tuple[Any, ...]]) -> None:
    beside = Beside(batch)
    for name, *of in done:
        rows = len(beside.texts)
        match name:
            case "read" if rows:
                beside.read(of[1], of[0] % rows)
            case "shorten" if rows:
                text = beside.texts[of[0] % rows]
                del text[of[1] :]
                beside.cache.lengths[of[0] % rows] = len(text)
            case "copy" if rows:
                source, row = (number % rows for number in of[:2])
                length = None if of[2] is None else min(of[2], len(beside.texts[source]))
                beside.cache.copy(source, row, length)
                beside.texts[row] = beside.texts[source][:length]
            case "exchange" if rows:
                first, second = (number % rows for number in of)
                beside.cache.exchange(first, second)
                texts = beside.texts
                texts[first], texts[second] = texts[second], texts[first]
            case "keep":
                kept = [row for row in of[0] if row < rows][: of[1]]
                order = beside.cache.keep(kept)
                assert sorted(order) == sorted(kept)
                beside.texts = [beside.texts[row] for row in order]
            case "add" if rows < batch:
                assert beside.cache.add() == rows
                beside.texts.append([])
        beside.check()


def test_rows_that_stay_in_place_are_not_moved() -> None:
    cache = KVCache(CONFIG, 5, "float32")
    assert cache.keep([0, 1, 4]) == [0, 1, 4]
    assert cache.keep([2, 0]) == [0, 2]


def test_a_session_writes_into_the_cache_itself() -> None:
    cache = KVCache(CONFIG, 3, "float32")
    for value in cache.values(1, 3):
        assert value.shape() == [2, CONFIG.n_kv_head, ROOM, CONFIG.head_dim]
    assert [value.data_ptr() for value in cache.values(1, 3)] == [part[1].ctypes.data for part in cache._parts]


def test_room_for_no_text_is_no_mistake() -> None:
    cache = KVCache(CONFIG, 0, "float32")
    assert cache.lengths.tolist() == [] and cache.keep([]) == []


@pytest.mark.parametrize("head_dim", [2, 16, 22])
@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("batch", [1, 5])
def test_bytes_are_those_of_its_memory(head_dim: int, precision: Precision, batch: int) -> None:
    config = CONFIG.model_copy(update={"head_dim": head_dim})
    parts = KVCache(config, batch, precision)._parts
    assert kv_cache_bytes(config, precision, batch=batch) == sum(part.nbytes for part in parts)


def test_memory_that_is_not_there_is_said() -> None:
    config = CONFIG.model_copy(update={"context_length": 1 << 20, "n_kv_head": 1 << 20})
    said = r"^64 texts with a context of 1,048,576 tokens need 1801439\d* \S+ of memory, more than is free; write fewer"
    with pytest.raises(CheckpointError, match=said.replace(r" \S+", r"\.\d GB")):
        KVCache(config, 64, "float32")


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory"), OverflowError()])
def test_a_system_that_refuses_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(mmap, "mmap", refuse)
    said = "^2 texts with a context of 20 tokens need 0.0 GB of memory, more than is free; write fewer at once$"
    with pytest.raises(CheckpointError, match=said):
        KVCache(CONFIG, 2, "float32")


def test_the_last_rows_close_the_gaps_and_a_new_row_is_empty() -> None:
    beside = Beside(6)
    for row in range(6):
        beside.read(3 + row, row)
    for kept, order in (([5, 0, 4], [0, 4, 5]), ([2], [2])):
        assert beside.cache.keep(kept) == order
        beside.texts = [beside.texts[row] for row in order]
        beside.check()
    for row in (1, 2):
        assert beside.cache.add() == row
        beside.texts.append([])
        beside.check()
        beside.read(2, row)
    beside.check()
    assert beside.cache.keep([]) == [] and beside.cache.lengths.tolist() == []
    assert beside.cache.add() == 0 and beside.cache.lengths.tolist() == [0]

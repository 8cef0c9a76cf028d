"""What a compressor is charged: the held-out bodies and their end marks, after the training text."""

from __future__ import annotations

import lzma
import sys
from collections.abc import Callable

import pytest

from movieplotgpt.errors import MissingExtraError
from movieplotgpt.evaluation import compressors
from movieplotgpt.evaluation.compressors import CACHE, PPMD, XZ, Ppmd, Xz, price, score_compressor
from movieplotgpt.text.token_files import PreparedCorpus

CorpusOf = Callable[..., PreparedCorpus]
FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 24}]


class Counting:
    """A compressor that compresses nothing, and remembers what it was given."""

    given: list[bytes]

    def __init__(self) -> None:
        Counting.given = []

    def add(self, data: bytes) -> int:
        self.given.append(data)
        return len(data)

    def settle(self) -> int:
        self.given.append(b"<settled>")
        return 0


def xz_size(data: bytes) -> int:
    return len(lzma.compress(data, lzma.FORMAT_ALONE, filters=FILTERS))


@pytest.fixture
def small_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressors, "_DICTIONARY", 1 << 24)
    monkeypatch.setattr(compressors, "_PPMD_MEMORY", 1 << 24)


@pytest.mark.usefixtures("small_dictionary")
@pytest.mark.parametrize("held_out", [2_000, 40_000])
def test_xz_in_one_pass_is_what_two_passes_say(text_of: Callable[[int], str], held_out: int) -> None:
    text = text_of(200_000 + held_out).encode()
    train, test = text[:200_000], text[200_000:]
    in_two = xz_size(train + test) - xz_size(train)
    assert in_two <= price(Xz(), [train[:150_000], train[150_000:]], [test]) <= in_two + 150


@pytest.mark.usefixtures("small_dictionary")
def test_ppmd_in_one_pass_is_what_two_passes_say(text_of: Callable[[int], str]) -> None:
    pyppmd = pytest.importorskip("pyppmd")
    text = text_of(120_000).encode()
    train, test = text[:100_000], text[100_000:]

    def size(data: bytes) -> int:
        encoder = pyppmd.Ppmd7Encoder(12, 1 << 24)
        return len(encoder.encode(data)) + len(encoder.flush())

    assert price(Ppmd(), [train], [test]) == pytest.approx(size(train + test) - size(train), abs=8)


def test_bodies_and_end_marks_are_charged(corpus_of: CorpusOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compressors.COMPRESSORS, "counting", Counting)
    corpus = corpus_of("bpe", folded=False)
    part = corpus.split("test")
    bodies = [corpus.tokenizer.decode(part.body(i)) for i in range(part.n_documents)]
    score = score_compressor("counting", corpus)
    assert b"<settled>" in Counting.given and Counting.given.index(b"<settled>") > 0
    assert Counting.given[Counting.given.index(b"<settled>") + 1] == "".join(f"{body}\0" for body in bodies).encode()
    assert score.bytes == sum(len(body.encode()) + 1 for body in bodies)
    assert score.characters == sum(map(len, bodies)) < score.bytes - len(bodies)  # beyond ASCII: more bytes
    assert score.bits_per_character == 8 * score.bytes / score.characters


def test_the_result_is_kept_beside_the_corpus(corpus_of: CorpusOf, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of("byte")
    monkeypatch.setitem(compressors.COMPRESSORS, "counting", Counting)
    first, some = score_compressor("counting", corpus), score_compressor("counting", corpus, documents=2)
    assert first.documents > some.documents == 2
    monkeypatch.setitem(compressors.COMPRESSORS, "counting", lambda: pytest.fail("measured again"))
    assert score_compressor("counting", corpus) == first
    assert score_compressor("counting", corpus, documents=2) == some


@pytest.mark.parametrize("damage", ["{", '{"corpus_hash": "another", "scores": {}}'])
def test_a_cache_that_is_damaged_or_of_another_corpus_is_as_none(
    corpus_of: CorpusOf, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setitem(compressors.COMPRESSORS, "counting", Counting)
    corpus = corpus_of("byte")
    first = score_compressor("counting", corpus)
    (corpus.folder / CACHE).write_text(damage, encoding="utf-8")
    Counting.given = []
    assert score_compressor("counting", corpus).bytes == first.bytes
    assert Counting.given


@pytest.mark.usefixtures("small_dictionary")
@pytest.mark.parametrize("name", [XZ, PPMD])
def test_the_compressors_know_english_from_noise(corpus_of: CorpusOf, name: str) -> None:
    if name == PPMD:
        pytest.importorskip("pyppmd")
    told: list[tuple[int, int]] = []
    corpus = corpus_of("char")
    score = score_compressor(name, corpus, progress=lambda stage, *done: told.append(done))
    assert 0.4 < score.bits_per_character < 4
    total = corpus.split("train").n_documents + corpus.split("test").n_documents
    assert told[-1] == (total, total)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    with pytest.raises(MissingExtraError, match=r"pyppmd.*movieplotgpt\[evaluate\]"):
        Ppmd()

"""What general compressors, and counting n-grams, make of the same bodies: the floor that a model has to be under.

A compressor reads the training bodies, then the held-out ones, each body followed by a one-byte end mark; what the
held-out ones add to its output is their price. It goes on learning from them, which neither a model
does nor the n-grams do.
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from movieplotgpt.errors import DataError, StorageError, optional
from movieplotgpt.evaluation.held_out import draw_documents
from movieplotgpt.evaluation.ngrams import ORDER, Ngrams
from movieplotgpt.progress_bars import StageReport, silent
from movieplotgpt.records import Record
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit

END_MARK = "\0"
CACHE = "compressors.json"
XZ, PPMD, NGRAMS = "xz -9e", "PPMd order 12", f"{ORDER}-grams of bytes"

_DICTIONARY = 1 << 27  # bytes xz looks back: more than the published corpora hold
_PPMD_ORDER = 12
_PPMD_MEMORY = 1 << 31
_BODIES_AT_ONCE = 256


class CompressorScore(Record):
    """Bits per character of a compressor on held-out bodies after the training text; ``bytes`` is what they cost."""

    name: str
    bits_per_character: float
    bytes: int
    characters: int
    documents: int
    seconds: float


class Compressor(Protocol):
    """Something that compresses a stream."""

    def add(self, data: bytes) -> int:
        """Take ``data`` in; returns how many bytes came out."""

    def settle(self) -> int:
        """Push out what was taken in but not written yet; returns how many bytes came out."""


class Xz:
    """LZMA at its strongest, as ``xz -9e``, in the container that writes as it goes (xz itself writes in blocks)."""

    def __init__(self) -> None:
        filters = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": _DICTIONARY}]
        self._compressor = lzma.LZMACompressor(lzma.FORMAT_ALONE, filters=filters)

    def add(self, data: bytes) -> int:
        """Take ``data`` in."""
        return len(self._compressor.compress(data))

    def settle(self) -> int:
        """Feed zeros, which cost next to nothing (some 50 bytes), until the encoder no longer looks at text ahead."""
        return sum(self.add(bytes(4096)) for _ in range(4))


class Ppmd:
    """PPMd, variant H as in 7-Zip, order 12 (extra ``evaluate``).

    Raises:
        MissingExtraError: pyppmd is not installed.
    """

    def __init__(self) -> None:
        self._encoder = optional("pyppmd", "evaluate").Ppmd7Encoder(_PPMD_ORDER, _PPMD_MEMORY)

    def add(self, data: bytes) -> int:
        """Take ``data`` in."""
        return len(self._encoder.encode(data))

    def settle(self) -> int:
        """Nothing waits but the arithmetic coder's last few bytes."""
        return 0


COMPRESSORS: dict[str, Callable[[], Compressor]] = {XZ: Xz, PPMD: Ppmd, NGRAMS: Ngrams}


def score_compressor(
    name: str,
    corpus: PreparedCorpus,
    *,
    split: Split = "test",
    documents: int | None = None,
    seed: int = 0,
    progress: StageReport = silent,
) -> CompressorScore:
    """Score the bodies ``evaluate`` scores; minutes for a large corpus, so the result is kept in the prepared folder.

    Raises:
        DataError: the corpus has no such split.
        MissingExtraError: the compressor is not installed.
    """
    key = f"{name}, {split}, {'all' if documents is None else f'{documents} by seed {seed}'}"
    kept = _read_cache(corpus)
    if key not in kept:
        part = corpus.split(split)
        rows = draw_documents(part, documents, seed).tolist()
        kept[key] = _score(name, corpus, part, rows, progress)
        with suppress(StorageError):  # a folder that may only be read: the next call measures again
            _Cache(corpus_hash=corpus.manifest.corpus_hash, scores=kept).write(corpus.folder / CACHE)
    return kept[key]


def price(compressor: Compressor, training: Iterable[bytes], held_out: Iterable[bytes]) -> int:
    """Bytes that ``held_out`` adds to the compressed ``training``."""
    for data in training:
        compressor.add(data)
    compressor.settle()
    return sum(compressor.add(data) for data in held_out) + compressor.settle()


def _score(
    name: str, corpus: PreparedCorpus, part: PreparedSplit, rows: list[int], progress: StageReport
) -> CompressorScore:
    train, began = corpus.split("train"), time.monotonic()
    done, total = 0, train.n_documents + len(rows)

    def counted(chunks: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
        nonlocal done
        for count, data in chunks:
            yield data
            done += count
            progress(name, done, total)

    bodies = (_bodies(corpus, train, range(train.n_documents)), _bodies(corpus, part, rows))
    size, characters = price(COMPRESSORS[name](), *map(counted, bodies)), int(part.n_characters[rows].sum())
    return CompressorScore(
        name=name,
        bits_per_character=8 * size / characters,
        bytes=size,
        characters=characters,
        documents=len(rows),
        seconds=round(time.monotonic() - began, 2),
    )


def _bodies(corpus: PreparedCorpus, part: PreparedSplit, rows: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Bodies and their end marks as UTF-8, some documents at a time, and how many these are."""
    decode = corpus.tokenizer.decode
    for first in range(0, len(rows), _BODIES_AT_ONCE):
        some = rows[first : first + _BODIES_AT_ONCE]
        yield len(some), "".join(decode(part.body(i)) + END_MARK for i in some).encode()


def _read_cache(corpus: PreparedCorpus) -> dict[str, CompressorScore]:
    """Return the cached scores of this corpus; nothing if the file is missing, damaged or of another corpus."""
    with suppress(DataError):
        cache = _Cache.load(corpus.folder / CACHE, missing="", damaged="")
        if cache.corpus_hash == corpus.manifest.corpus_hash:
            return cache.scores
    return {}


class _Cache(Record):
    corpus_hash: str
    scores: dict[str, CompressorScore]

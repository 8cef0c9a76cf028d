"""What general compressors, and counting n-grams, make of the same bodies: the floor that a model has to be under.

A compressor reads the training bodies, then the held-out ones, each body followed by a one-byte end mark; what the
held-out ones add to its output is their price. It goes on learning from them, which neither a model
does nor the n-grams do.
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from movieplotgpt import atomic
from movieplotgpt.errors import MissingExtraError, StorageError
from movieplotgpt.evaluation.held_out import draw_documents
from movieplotgpt.evaluation.ngrams import ORDER, Ngrams
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit

END_MARK = "\0"
CACHE = "compressors.json"
XZ, PPMD, NGRAMS = "xz -9e", "PPMd order 12", f"{ORDER}-grams of bytes"

_DICTIONARY = 1 << 27  # bytes xz looks back: more than the published corpora hold
_PPMD_ORDER = 12
_PPMD_MEMORY = 1 << 31
_BODIES_AT_ONCE = 256

Progress: TypeAlias = Callable[[str, int, int], None]


class CompressorScore(BaseModel):
    """Bits per character of a compressor on held-out bodies after the training text; ``bytes`` is what they cost."""

    model_config = ConfigDict(frozen=True)

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
        try:
            from pyppmd import Ppmd7Encoder
        except ImportError:
            raise MissingExtraError("pyppmd", "evaluate") from None
        self._encoder: Any = Ppmd7Encoder(_PPMD_ORDER, _PPMD_MEMORY)

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
    progress: Progress | None = None,
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
        kept[key] = _score(name, corpus, part, rows, progress or (lambda stage, done, total: None))
        _write_cache(corpus, kept)
    return kept[key]


def price(compressor: Compressor, training: Iterable[bytes], held_out: Iterable[bytes]) -> int:
    """Bytes that ``held_out`` adds to the compressed ``training``."""
    for data in training:
        compressor.add(data)
    compressor.settle()
    return sum(compressor.add(data) for data in held_out) + compressor.settle()


def _score(
    name: str, corpus: PreparedCorpus, part: PreparedSplit, rows: list[int], progress: Progress
) -> CompressorScore:
    compressor = COMPRESSORS[name]()
    train = corpus.split("train")
    began, total = time.monotonic(), train.n_documents + len(rows)
    done = 0

    def counted(chunks: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
        nonlocal done
        for count, data in chunks:
            yield data
            done += count
            progress(name, done, total)

    bodies = (_bodies(corpus, train, range(train.n_documents)), _bodies(corpus, part, rows))
    size = price(compressor, *map(counted, bodies))
    characters = int(part.n_characters[rows].sum())
    return CompressorScore(
        name=name,
        bits_per_character=8 * size / characters,
        bytes=size,
        characters=characters,
        documents=len(rows),
        seconds=round(time.monotonic() - began, 2),
    )


def _bodies(corpus: PreparedCorpus, part: PreparedSplit, rows: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Bodies and their end marks as UTF-8, some documents at a time, and how many these are."""
    decode = corpus.tokenizer.decode
    rows = list(rows)
    for first in range(0, len(rows), _BODIES_AT_ONCE):
        some = rows[first : first + _BODIES_AT_ONCE]
        yield len(some), "".join(decode(part.body(i)) + END_MARK for i in some).encode()


def _read_cache(corpus: PreparedCorpus) -> dict[str, CompressorScore]:
    """What is known of this very corpus; a file that is not, or is another's, is as none."""
    try:
        cache = _Cache.model_validate_json(_cache_path(corpus).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return {}
    return cache.scores if cache.corpus_hash == corpus.manifest.corpus_hash else {}


def _write_cache(corpus: PreparedCorpus, scores: dict[str, CompressorScore]) -> None:
    cache = _Cache(corpus_hash=corpus.manifest.corpus_hash, scores=scores)
    try:
        atomic.write_text(_cache_path(corpus), cache.model_dump_json(indent=2) + "\n")
    except StorageError:  # a folder that may only be read: the next call measures again
        return


def _cache_path(corpus: PreparedCorpus) -> Path:
    return corpus.folder / CACHE


class _Cache(BaseModel):
    corpus_hash: str
    scores: dict[str, CompressorScore]

"""Which documents are the same work: exact copies, remakes, near-duplicates.

Four links join documents into groups: the same body, the same page, the same normalised title, and shared *shingles*
(runs of 13 words, or of as much text where a script has no spaces between words). Shingles are hashed with numpy alone, so
that the same text gives the same groups on every machine.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from movieplotgpt.config import Settings
from movieplotgpt.text.formatting import Document

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

U8 = npt.NDArray[np.uint8]

_BASE = 0x9E3779B97F4A7C15  # odd, so that powers can be divided out again
_BATCH = 1 << 17  # characters
_LONGEST = 1 << 22  # characters; of a longer document only the beginning is compared
_WORD = 4  # the weight of a word of a script with spaces; in others each character is a unit, of part of a word:
_UNSPACED = {
    # about two characters a word: ideographs, kana, Yi
    2: (
        (0x3005, 0x3007),
        (0x3041, 0x30FF),
        (0x31F0, 0x31FF),
        (0x3400, 0x4DBF),
        (0x4E00, 0xA4CF),
        (0xF900, 0xFAFF),
        (0x1B000, 0x1B16F),
        (0x20000, 0x3FFFF),
    ),
    # about four: Thai and Lao, Myanmar, Khmer, Tai, Javanese, Balinese
    1: (
        (0x0E00, 0x0EFF),
        (0x1000, 0x109F),
        (0x1780, 0x17FF),
        (0x1950, 0x19DF),
        (0x1A20, 0x1AAF),
        (0x1B00, 0x1B7F),
        (0xA980, 0xA9FF),
        (0xAA60, 0xAADF),
    ),
}
_CODE_POINTS = 0x40000  # there are no letters beyond


class DuplicateSettings(Settings):
    """When two texts count as the same; chosen by reading the pairs around the threshold."""

    shingle_words: int = Field(13, ge=2, description="Words in a shingle: 26 characters of Chinese, 52 of Thai.")
    shared: float = Field(0.01, gt=0, le=1, description="Share of the smaller document's shingles the other must hold.")
    at_least: int = Field(3, ge=1, description="Shared shingles needed at the least.")
    common: int = Field(20, ge=2, description="A shingle in more documents than this is a stock phrase and ignored.")
    largest_group: int = Field(60, ge=2, description="Shingles never join groups to more than this: no runaway chains.")


@dataclass(frozen=True, slots=True)
class Groups:
    """Documents sorted into works.

    ``of`` is the group of each document, numbered from 0 in the order of first appearance; ``keys`` holds a name per
    group that does not depend on the order of rows; ``links`` counts what joined them; ``refused`` is how many links
    by shingles would have made too large a group.
    """

    of: I64
    keys: list[str]
    links: dict[str, int]
    refused: int

    def largest(self) -> list[int]:
        """The documents of the largest group, the first one if there are several."""
        return np.flatnonzero(self.of == np.argmax(np.bincount(self.of))).tolist()


def drop_repeats(documents: Sequence[Document]) -> tuple[list[Document], int]:
    """Leave out rows that repeat an earlier title *and* body; untitled documents are kept as they are."""
    seen: set[tuple[str, bytes]] = set()
    kept = []
    for document in documents:
        key = (normalise_title(document.title), _digest(document.body))
        if not document.title or key not in seen:
            kept.append(document)
        seen.add(key)
    return kept, len(documents) - len(kept)


def group_documents(documents: Sequence[Document], settings: DuplicateSettings, *, names: bool = True) -> Groups:
    """Join documents that are the same work; without ``names`` by their text alone, not by title or page."""
    bodies = [_digest(document.body) for document in documents]
    titles = [normalise_title(document.title) if names else "" for document in documents]
    union = _Union(len(documents))
    links = {
        "same text": union.join_equal(bodies),
        "same page": union.join_equal(document.page if names else "" for document in documents),
        "same title": union.join_equal(titles),
    }
    pairs = shingle_pairs([document.body for document in documents], settings)
    joined = [union.join(i, j, settings.largest_group) for i, j in pairs]
    links["shared shingles"] = joined.count(True)
    called = [f"title {title}" if title else f"text {body.hex()}" for title, body in zip(titles, bodies, strict=True)]
    roots = [union.root(i) for i in range(len(called))]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    key_of: dict[int, str] = {}
    for root, name in zip(roots, called, strict=True):
        key_of[root] = min(key_of.get(root, name), name)
    of = np.array([numbers[root] for root in roots], np.int64)
    return Groups(of, list(key_of.values()), links, joined.count(None))


def normalise_title(title: str) -> str:
    """Return what titles of remakes share: lower case, without year, "(film)", punctuation and article."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    lowered = re.sub(r"\([^()]*(?:\bfilm\b|\bmovie\b|\b\d{4}\b)[^()]*\)", " ", folded)
    letters = re.sub(r"['’]", "", lowered)
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in letters).split()
    if len(words) > 1 and words[0] in ("the", "a", "an"):
        words = words[1:]
    return " ".join(words)


def shingle_pairs(bodies: Sequence[str], settings: DuplicateSettings) -> list[tuple[int, int]]:
    """Pairs of documents that share enough shingles, the closest first."""
    if len(bodies) < 2:
        return []
    hashes, owners, totals = _shared_shingles(bodies, settings.shingle_words)
    pairs = _pairs_in_runs(hashes, owners, settings.common)
    keys, shared = np.unique(pairs[:, 0] * len(bodies) + pairs[:, 1], return_counts=True)
    first, second = keys // len(bodies), keys % len(bodies)
    share = shared / np.minimum(totals[first], totals[second])
    close = (share >= settings.shared) & (shared >= settings.at_least)
    order = np.argsort(-share[close], kind="stable")
    return list(zip(first[close][order].tolist(), second[close][order].tolist(), strict=True))


def _shared_shingles(bodies: Sequence[str], n_words: int) -> tuple[U64, I64, I64]:
    """Shingles that occur more than once, sorted, with their documents; and how many each document has in all."""
    batches = list(_shingles(bodies, n_words))
    hashes = np.concatenate([batch[0] for batch in batches])
    owners = np.concatenate([batch[1] for batch in batches])
    totals = np.bincount(owners, minlength=len(bodies))
    repeated = _repeated(hashes)
    hashes, owners = hashes[repeated], owners[repeated]
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(hashes), bool)  # a document counts a shingle once
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[new], owners[new], totals


def _repeated(hashes: U64) -> npt.NDArray[np.bool_]:
    """Return which hashes occur twice, and a few others: sorting the unique ones, nearly all, is spared."""
    in_order = np.sort(hashes)
    seen = np.zeros(1 << 24, bool)
    seen[in_order[1:][in_order[1:] == in_order[:-1]] >> np.uint64(40)] = True
    return np.asarray(seen[hashes >> np.uint64(40)])


def _pairs_in_runs(hashes: U64, owners: I64, common: int) -> I64:
    """Every pair of documents within each run of equal hashes of 2 to ``common`` documents."""
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])) if len(hashes) else np.empty(0, int)
    lengths = np.diff(np.append(starts, len(hashes)))
    found = [np.empty((0, 2), np.int64)]
    for length in range(2, common + 1):
        runs = owners[starts[lengths == length][:, None] + np.arange(length)]
        left, right = np.triu_indices(length, k=1)
        found.append(np.stack([runs[:, left].ravel(), runs[:, right].ravel()], axis=1))
    return np.concatenate(found)


def _shingles(bodies: Sequence[str], n_words: int) -> Iterator[tuple[U64, I64]]:
    """(hash, document) of every run that weighs ``n_words`` words, in batches."""
    for first, texts in _batches(bodies):
        starts = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])])
        words, at, weights = _word_hashes(" ".join(texts))
        owners = np.searchsorted(starts, at, side="right") - 1
        before = np.concatenate([[0], np.cumsum(weights, dtype=np.int64)])
        stops = np.searchsorted(before, before[:-1] + n_words * _WORD)
        begins = np.flatnonzero(stops <= len(words))
        begins = begins[owners[begins] == owners[stops[begins] - 1]]
        yield _hashes_of_runs(words, begins, stops[begins]), first + owners[begins]


def _batches(bodies: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    batch: list[str] = []
    size = first = 0
    for i, body in enumerate(bodies):
        text = unicodedata.normalize("NFKC", body[:_LONGEST].lower())
        if batch and size + len(text) > _BATCH:
            yield first, batch
            batch, size, first = [], 0, i
        batch.append(text)
        size += len(text)
    yield first, batch


def _word_hashes(text: str) -> tuple[U64, I64, U8]:
    """Hash, position and weight of every word: a run of letters, marks and digits, or one character where none are spaced."""
    plain = text.isascii()
    encoding, dtype = ("ascii", "u1") if plain else ("utf-32-le", "<u4")
    codes: npt.NDArray[Any] = np.frombuffer(text.encode(encoding), dtype)
    weights = np.zeros(len(codes) + 2, np.uint8)
    own = weights[1:-1]
    _weights(plain).take(codes, out=own, mode="clip")
    borders = (weights[1:] != weights[:-1]) | ((weights[1:] > 0) & (weights[1:] < _WORD))
    starts, stops = np.flatnonzero(borders[:-1] & (own > 0)), np.flatnonzero(borders[1:] & (own > 0)) + 1
    return _hashes_of_runs(codes.astype(np.uint64) + np.uint64(1), starts, stops), starts, own[starts]


@lru_cache(maxsize=2)
def _weights(ascii_only: bool) -> U8:
    """Weight of each code point: 0 outside words, ``_WORD`` in words between spaces, less for a unit of its own."""
    count = 0x80 if ascii_only else _CODE_POINTS
    weights = np.array([_WORD * (unicodedata.category(chr(code))[0] in "LMN") for code in range(count)], np.uint8)
    for weight, ranges in _UNSPACED.items():
        for first, last in ranges:
            weights[first : last + 1] = np.minimum(weights[first : last + 1], weight)
    return weights


def _hashes_of_runs(values: U64, starts: I64, stops: I64) -> U64:
    """Hash of each run ``values[start:stop]``.

    The hash of v0 v1 ... is the sum of v_i * base**i, taken for all runs at once as differences of one cumulative sum,
    shifted to the run's start by dividing powers out (arithmetic modulo 2**64).
    """
    powers, inverse = _powers(max(2 * _BATCH, 1 << len(values).bit_length()))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return _mixed((sums[stops] - sums[starts]) * inverse[starts])


@lru_cache(maxsize=1)
def _powers(length: int) -> tuple[U64, U64]:
    """The first powers of the base and of its inverse modulo 2**64."""
    forward, backward = (np.array([1] + [b] * (length - 1), np.uint64) for b in (_BASE, pow(_BASE, -1, 2**64)))
    return np.cumprod(forward, dtype=np.uint64), np.cumprod(backward, dtype=np.uint64)


def _mixed(hashes: U64) -> U64:
    """Spread every bit over all of them (the finaliser of splitmix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class _Union:
    """Disjoint sets that know their sizes."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))
        self.size = [1] * count

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int, largest: int | None = None) -> bool | None:
        """Join two sets: True if they were apart, False if not, None if the union were larger than ``largest``."""
        i, j = self.root(i), self.root(j)
        if i == j:
            return False
        if largest is not None and self.size[i] + self.size[j] > largest:
            return None
        i, j = min(i, j), max(i, j)
        self.parent[j] = i
        self.size[i] += self.size[j]
        return True

    def join_equal(self, values: Iterable[object]) -> int:
        """Join what shares a value that is not empty; returns how many sets vanished."""
        first: dict[object, int] = {}
        return sum(bool(value) and self.join(first.setdefault(value, i), i) is True for i, value in enumerate(values))

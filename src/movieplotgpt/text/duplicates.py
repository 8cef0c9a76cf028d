"""Which documents are the same work: exact copies, remakes, near-duplicates.

Four links join documents into groups: the same body, the same page, the same normalised title, and shared *shingles*
(runs of 13 words). Shingles are hashed with numpy alone, so that the same text gives the same groups on every machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from pydantic import Field

from movieplotgpt.config import Settings
from movieplotgpt.text.formatting import Document

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_WORD_BASE, _SHINGLE_BASE = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F  # odd, so that powers can be divided out again
_BATCH_BYTES = 1 << 17
_LONGEST_BYTES = 1 << 22  # of a longer document only the beginning is compared


class DuplicateSettings(Settings):
    """When two texts count as the same; chosen by reading the pairs around the threshold."""

    shingle_words: int = Field(13, ge=2, description="Words in a shingle.")
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


def group_documents(documents: Sequence[Document], settings: DuplicateSettings) -> Groups:
    """Join documents that are the same work."""
    bodies = [_digest(document.body) for document in documents]
    titles = [normalise_title(document.title) for document in documents]
    union = _Union(len(documents))
    links = {
        "same text": union.join_equal(bodies),
        "same page": union.join_equal(document.page for document in documents),
        "same title": union.join_equal(titles),
    }
    pairs = shingle_pairs([document.body for document in documents], settings)
    joined = [union.join(i, j, settings.largest_group) for i, j in pairs]
    links["shared shingles"] = joined.count(True)
    names = [f"title {title}" if title else f"text {body.hex()}" for title, body in zip(titles, bodies, strict=True)]
    roots = [union.root(i) for i in range(len(names))]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    key_of: dict[int, str] = {}
    for root, name in zip(roots, names, strict=True):
        key_of[root] = min(key_of.get(root, name), name)
    of = np.array([numbers[root] for root in roots], np.int64)
    return Groups(of, list(key_of.values()), links, joined.count(None))


def normalise_title(title: str) -> str:
    """What remakes share: lower case, no year or "(film)", no punctuation, no article in front."""
    lowered = re.sub(r"\([^()]*(?:\bfilm\b|\bmovie\b|\b\d{4}\b)[^()]*\)", " ", title.casefold())
    words = re.sub(r"[^\w\s]|_", " ", re.sub(r"['’]", "", lowered)).split()
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
    """Where a hash that occurs twice stands; a few others pass too. Spares sorting what is unique, nearly all."""
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
    """(hash, document) of every run of ``n_words`` words, in batches."""
    for first, texts in _batches(bodies):
        joined = b" ".join(texts)
        starts = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])])
        words, at = _word_hashes(joined)
        owners = np.searchsorted(starts, at, side="right") - 1
        count = max(0, len(words) - n_words + 1)
        hashes = np.zeros(count, np.uint64)
        for i in range(n_words):
            hashes = hashes * np.uint64(_SHINGLE_BASE) + words[i : i + count]
        inside = owners[:count] == owners[n_words - 1 :] if count else np.zeros(0, bool)
        yield _mixed(hashes[inside]), first + owners[:count][inside]


def _batches(bodies: Sequence[str]) -> Iterator[tuple[int, list[bytes]]]:
    batch: list[bytes] = []
    size = first = 0
    for i, body in enumerate(bodies):
        data = body[:_LONGEST_BYTES].lower().encode()
        if batch and size + len(data) > _BATCH_BYTES:
            yield first, batch
            batch, size, first = [], 0, i
        batch.append(data)
        size += len(data)
    yield first, batch


def _word_hashes(data: bytes) -> tuple[U64, I64]:
    """Hash and position of every word: a run of ASCII letters and digits, or of anything outside ASCII.

    The hash of bytes b0 b1 ... is the sum of b_i * base**i, taken for all words at once as differences of one
    cumulative sum, shifted to the word's start by dividing powers out (arithmetic modulo 2**64).
    """
    codes = np.frombuffer(data, np.uint8)
    inside = np.concatenate([[False], _WORD_BYTES[codes], [False]])
    starts = np.flatnonzero(inside[1:] & ~inside[:-1])
    ends = np.flatnonzero(~inside[1:] & inside[:-1])
    powers, inverse = _powers(max(_BATCH_BYTES, 1 << len(codes).bit_length()))
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    return _mixed((sums[ends] - sums[starts]) * inverse[starts]), starts


_WORD_BYTES = np.array([code >= 128 or chr(code).isalnum() for code in range(256)])


@lru_cache(maxsize=1)
def _powers(length: int) -> tuple[U64, U64]:
    """The first powers of the base and of its inverse modulo 2**64."""
    bases = (_WORD_BASE, pow(_WORD_BASE, -1, 2**64))
    forward, backward = (np.array([1] + [base] * (length - 1), np.uint64) for base in bases)
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

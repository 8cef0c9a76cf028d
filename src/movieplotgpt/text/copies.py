"""Was this copied? Every run of characters that a text shares with the training text, and the work it comes from.

The training text, normalised (lower case, white space as one blank), is cut into blocks of eight characters, and the
index keeps sixteen bits of each, and a hash of each word: two bytes for eight characters, no text, small enough to travel
beside the weights. A run of 50 characters holds five whole blocks in a row, 80 bits that agree, wherever it begins, and
every run of 31 holds three. With the prepared corpus at hand the text they lead to is read, and runs are exact; without
it they are known to within seven characters at either end.

Source: fixed blocks against a rolling window as in rsync (Tridgell 1999); winnowing (Schleimer 2003) was the other way.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from movieplotgpt import atomic
from movieplotgpt.errors import ConfigError, DataError, StorageError
from movieplotgpt.text.duplicates import I64
from movieplotgpt.text.sentences import lower_case_words
from movieplotgpt.text.token_files import PreparedCorpus

COPIES = "copies.npz"
FORMAT_VERSION = 1
BLOCK = 8  # characters
SLACK = BLOCK - 1  # how much of a run may hang over its whole blocks at either end
EVIDENCE = 50  # characters: other plots share 25 by chance, hardly ever 50
LEAST = 3 * BLOCK + SLACK  # the shortest run that is always seen: two blocks in a row agree by chance

_AT_ONCE = 2_000_000  # pairs of a place and a block that are looked at together
_SEPARATOR = "\n"  # between documents; no normalised text holds it

U16: TypeAlias = npt.NDArray[np.uint16]
U32: TypeAlias = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Copy:
    """A passage that a text shares with the training text.

    ``text[start:stop]`` is the run; ``length`` counts it normalised. ``source`` is the same passage as the training text
    has it, None without the corpus: then ``length`` is what is certain, up to 14 less than the truth.
    """

    start: int
    stop: int
    length: int
    title: str
    text: str
    source: str | None = None


@dataclass(frozen=True)
class CopyReport:
    """What of one text was copied.

    ``longest`` is the longest shared run in characters (0 where none has 31), ``share`` the part of the text inside
    runs of ``at_least`` characters, ``copies`` these runs in the order of the text. ``exact`` says that the corpus was
    read.
    """

    longest: int
    share: float
    at_least: int
    exact: bool
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    """Characters [start, stop) of the normalised text, those from ``place`` on in ``document``."""

    start: int
    stop: int
    document: int
    place: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(eq=False)
class CopyIndex:
    """The blocks of one corpus's training split, and where in them a text is found again.

    ``words`` are the hashes of its words in small letters. ``corpus`` is the prepared corpus, where it is at hand.
    """

    blocks: U16
    starts: I64
    words: U32
    titles: Sequence[str]
    corpus_hash: str
    corpus: PreparedCorpus | None = None

    def __post_init__(self) -> None:
        self._document = lru_cache(maxsize=512)(self._read_document)

    @cached_property
    def _places(self) -> tuple[U32, I64, I64]:
        """The blocks' numbers sorted by their bits; where those of each value begin, and how many there are."""
        order = np.argsort(self.blocks, kind="stable").astype(np.uint32)  # a radix sort: 0.1 s for 10 million
        many = np.bincount(self.blocks, minlength=1 << 16)
        return order, np.cumsum(many) - many, many

    @classmethod
    def build(cls, texts: Iterable[str], titles: Sequence[str], corpus_hash: str) -> CopyIndex:
        """Index ``texts``, whose works are called ``titles``."""
        words: set[str] = set()
        blocks, lengths = _blocks_of(texts, words)
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return cls(blocks, starts, np.unique(_word_hashes(words)), titles, corpus_hash)

    @classmethod
    def of_corpus(cls, corpus: PreparedCorpus) -> CopyIndex:
        """The index of a prepared corpus, which is built, and kept in its folder where it may be, if it is not there yet.

        Raises:
            DataError: the index there is damaged, or belongs to another corpus.
        """
        path = corpus.folder / COPIES
        if not path.exists():
            split = corpus.split("train")
            texts = (corpus.tokenizer.decode(split.body(i)) for i in range(split.n_documents))
            titles = [title or key for title, key in zip(split.titles, split.keys, strict=True)]
            built = cls.build(texts, titles, corpus.manifest.corpus_hash)
            try:
                built.save(path)
            except StorageError:  # a folder that may only be read
                built.corpus = corpus
                return built
        return cls.load(path, corpus)

    @classmethod
    def load(cls, path: Path, corpus: PreparedCorpus | None = None) -> CopyIndex:
        """Read the index at ``path``.

        Raises:
            DataError: it is missing, damaged, of another format version, or belongs to another corpus.
        """
        with _opened(path) as (named, file):
            titles, corpus_hash = named["titles"], named["corpus_hash"]
            blocks, starts, words = file["blocks"], file["starts"], file["words"]
        if len(titles) != len(starts) - 1:
            raise DataError(f"the copy index {path} is damaged ({len(titles)} titles); make it again")
        if corpus and corpus_hash != corpus.manifest.corpus_hash:
            raise DataError(f"{path} is the copy index of another corpus than {corpus.folder}; remove it")
        return cls(blocks, starts, words, titles, corpus_hash, corpus)

    def save(self, path: Path) -> None:
        """Write the index, whole or not at all.

        Raises:
            StorageError: the disk is full or refuses.
        """
        named = {"version": FORMAT_VERSION, "corpus_hash": self.corpus_hash, "titles": list(self.titles)}
        about = np.frombuffer(json.dumps(named).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, about=about, blocks=self.blocks, starts=self.starts, words=self.words)
        atomic.write_bytes(path, file.getvalue())

    def report(self, text: str, at_least: int = EVIDENCE) -> CopyReport:
        """Every run of at least ``at_least`` characters (normalised) that ``text`` shares with the training text.

        A passage inside a longer one is not listed again.

        Raises:
            ConfigError: ``at_least`` is under 31, which the index cannot see.
        """
        if at_least < LEAST:
            raise ConfigError(f"a copy of {at_least} characters is too short to be found; ask for {LEAST} at least")
        whole, places = normalised(text), positions(text)
        runs = _outermost(self._runs(whole, at_least))  # in the order of the text
        longest = max((run.length for run in runs), default=0)
        told = [run for run in runs if run.length + self._unsure >= at_least]
        inside = np.zeros(len(whole), bool)
        for run in told:
            inside[run.start : run.stop] = True
        return CopyReport(
            longest=longest,
            share=float(inside.mean()) if len(whole) else 0.0,
            at_least=at_least,
            exact=self.corpus is not None,
            copies=tuple(self._copy(run, text, places) for run in told),
        )

    def reaching_into(self, text: str, new: int) -> int:
        """Return how long a run that reaches into the last ``new`` characters of ``text`` is; without the corpus, may be."""
        whole, before = normalised(text), len(normalised(text[: len(text) - new]))
        known = before - (0 if self.corpus else SLACK)
        longest = max((run.length for run in self._runs(whole, LEAST) if run.stop > known), default=0)
        return longest + self._unsure if longest else 0

    def invented(self, text: str) -> list[str]:
        """The words of ``text`` in small letters that the training text does not have."""
        asked = lower_case_words(text)
        unknown = ~np.isin(_word_hashes(asked), self.words)
        return [word for word, is_unknown in zip(asked, unknown.tolist(), strict=True) if is_unknown]

    @property
    def _unsure(self) -> int:
        """Return by how many characters a passage may be longer than found."""
        return 0 if self.corpus else 2 * SLACK

    def _copy(self, run: _Run, text: str, places: Sequence[int]) -> Copy:
        start, stop = places[run.start], places[run.stop - 1] + 1
        source = None
        if self.corpus:
            body, where = self._body(run.document), positions(self._body(run.document))
            source = body[where[run.place] : where[run.place + run.length - 1] + 1]
        return Copy(start, stop, run.length, self.titles[run.document], text[start:stop], source)

    def _runs(self, whole: str, at_least: int) -> list[_Run]:
        chains = [chain for chain in self._chains(whole) if chain[2] >= LEAST // BLOCK]
        return list(self._read(whole, chains, at_least) if self.corpus else self._guessed(chains))

    def _chains(self, whole: str) -> Iterator[tuple[int, int, int]]:
        """Yield where consecutive blocks agree: (place in the text, first block, blocks), at least two."""
        if len(whole) < 2 * BLOCK:
            return
        order, firsts, counts = self._places
        hashes_N = _hashes(np.lib.stride_tricks.sliding_window_view(_codes(whole), BLOCK))
        pairs_N = np.cumsum(counts[hashes_N])
        cuts = np.searchsorted(pairs_N, np.arange(_AT_ONCE, pairs_N[-1] + _AT_ONCE, _AT_ONCE), side="left") + 1
        for first, stop in pairwise(np.unique([0, *cuts.clip(max=len(hashes_N)), len(hashes_N)]).tolist()):
            asked_N = hashes_N[first:stop]
            low_N, many_N = firsts[asked_N], counts[asked_N]
            places_M = np.repeat(np.arange(first, first + len(asked_N)), many_N)
            within_M = np.arange(len(places_M)) - np.repeat(np.cumsum(many_N) - many_N, many_N)
            blocks_M = order[np.repeat(low_N, many_N) + within_M].astype(np.int64)
            goes_on = self._agree(hashes_N, places_M + BLOCK, blocks_M + 1)
            places_M, blocks_M = places_M[goes_on], blocks_M[goes_on]
            begins = ~self._agree(hashes_N, places_M - BLOCK, blocks_M - 1)
            places_M, blocks_M = places_M[begins], blocks_M[begins]
            lengths_M = np.full(len(places_M), 2)
            alive = np.arange(len(places_M))
            while len(alive):
                steps = lengths_M[alive]
                alive = alive[self._agree(hashes_N, places_M[alive] + BLOCK * steps, blocks_M[alive] + steps)]
                lengths_M[alive] += 1
            yield from zip(places_M.tolist(), blocks_M.tolist(), lengths_M.tolist(), strict=True)

    def _agree(self, hashes_N: U16, places_M: I64, blocks_M: I64) -> npt.NDArray[np.bool_]:
        """Return whether the window at each place equals the block; False if either does not exist."""
        there = (places_M >= 0) & (places_M < len(hashes_N)) & (blocks_M >= 0) & (blocks_M < len(self.blocks))
        same = hashes_N[np.where(there, places_M, 0)] == self.blocks[np.where(there, blocks_M, 0)]
        agree: npt.NDArray[np.bool_] = there & same
        return agree

    def _guessed(self, chains: Iterable[tuple[int, int, int]]) -> Iterator[_Run]:
        for place, block, many in chains:
            document = int(np.searchsorted(self.starts, BLOCK * block, side="right")) - 1
            yield _Run(place, place + BLOCK * many, document, BLOCK * block - int(self.starts[document]))

    def _read(self, whole: str, chains: list[tuple[int, int, int]], at_least: int) -> Iterator[_Run]:
        """The exact runs: of each text that a chain leads to, all that is the same along the same diagonal.

        Chains that can hold neither a run of ``at_least`` nor the longest one are not followed.
        """
        codes_N, seen, longest = _codes(whole), set(), 0
        for place, block, many in sorted(chains, key=lambda chain: -chain[2]):
            if many < (at_least - SLACK) // BLOCK and BLOCK * many + 2 * SLACK <= longest:
                return
            document = int(np.searchsorted(self.starts, BLOCK * block, side="right")) - 1
            shift = BLOCK * block - int(self.starts[document]) - place
            if (document, shift) in seen:
                continue
            seen.add((document, shift))
            for run in _same(codes_N, self._document(document), document, shift):
                longest = max(longest, run.length)
                yield run

    def _body(self, document: int) -> str:
        assert self.corpus is not None
        return self.corpus.tokenizer.decode(self.corpus.split("train").body(document))

    def _read_document(self, document: int) -> U32:
        return _codes(normalised(self._body(document)))


def _blocks_of(texts: Iterable[str], words: set[str]) -> tuple[U16, list[int]]:
    """Return the hashes of the blocks of ``texts``, one after the other, and their lengths; add their words to ``words``."""
    blocks, lengths, rest = [], [], ""
    for text in texts:
        words.update(lower_case_words(text))
        whole = normalised(text) + _SEPARATOR
        lengths.append(len(whole))
        rest += whole
        if len(rest) > 1 << 20:
            cut = len(rest) // BLOCK * BLOCK
            blocks.append(_hashes(_codes(rest[:cut]).reshape(-1, BLOCK)))
            rest = rest[cut:]
    rest += _SEPARATOR * (-len(rest) % BLOCK)
    blocks.append(_hashes(_codes(rest).reshape(-1, BLOCK)))
    return np.concatenate(blocks), lengths


def corpus_of_index(path: Path) -> str:
    """The hash of the corpus whose index lies at ``path``.

    Raises:
        DataError: it is missing, damaged or of another format version.
    """
    with _opened(path) as (named, _):
        return str(named["corpus_hash"])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Mapping[str, npt.NDArray[Any]]]]:
    """The header of an index and its arrays, which are read on first use."""
    try:
        with np.load(path, allow_pickle=False) as file:
            named = json.loads(file["about"].tobytes())
            if named["version"] != FORMAT_VERSION:
                raise DataError(f"{path} is of another version of the copy index; make it again")
            yield named, file
    except FileNotFoundError:
        raise DataError(f"there is no copy index {path}; `movieplotgpt prepare` makes one") from None
    except (BadZipFile, EOFError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"the copy index {path} is damaged ({error}); make it again") from None


def normalised(text: str) -> str:
    """Lower case, every run of white space one blank, none at the ends."""
    return " ".join(text.lower().split())


def positions(text: str) -> list[int]:
    """For each character of ``normalised(text)`` the place in ``text`` it comes from."""
    found: list[int] = []
    blank = None
    for i, character in enumerate(text):
        if character.isspace():
            blank = i if blank is None and found else blank
            continue
        if blank is not None:
            found.append(blank)
            blank = None
        found += [i] * len(character.lower())
    return found


def _word_hashes(words: Collection[str]) -> U32:
    return np.fromiter((zlib.crc32(word.encode()) for word in words), np.uint32, len(words))


def _codes(text: str) -> U32:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _hashes(codes_NB: npt.NDArray[Any]) -> U16:
    """Sixteen bits of each row of BLOCK characters."""
    mixed_N = np.zeros(len(codes_NB), np.uint64)
    for column in range(BLOCK):
        mixed_N = mixed_N * np.uint64(0x9E3779B97F4A7C15) + codes_NB[:, column]
    mixed_N = (mixed_N ^ (mixed_N >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (mixed_N >> np.uint64(48)).astype(np.uint16)


def _same(codes_N: U32, source_N: U32, document: int, shift: int) -> Iterator[_Run]:
    """The runs of LEAST characters and more that are alike where place i of the text meets i + ``shift``."""
    start, stop = max(0, -shift), min(len(codes_N), len(source_N) - shift)
    alike = np.zeros(max(0, stop - start) + 2, np.int8)
    alike[1:-1] = codes_N[start:stop] == source_N[start + shift : stop + shift]
    edges = np.diff(alike)
    begins, ends = np.flatnonzero(edges == 1) + start, np.flatnonzero(edges == -1) + start
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if end - begin >= LEAST:
            yield _Run(begin, end, document, begin + shift)


def _outermost(runs: Iterable[_Run]) -> list[_Run]:
    """Leave out what lies inside a longer run; of runs over the same place the first found stays."""
    kept: list[_Run] = []
    furthest = -1
    for run in sorted(runs, key=lambda run: (run.start, -run.stop)):
        if run.stop > furthest:
            kept.append(run)
            furthest = run.stop
    return kept

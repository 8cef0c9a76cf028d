"""What the settings of a request mean for one tokenizer: looked up once, shared by all texts of the request.

No look-up here takes longer for a longer text.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.text.tokenizer import Tokenizer

BREAKERS = '\n.,"'  # DRY sees no repetition across them
CAST = "("  # opens the name of an actor
_GAP = b"\xff"  # between tokens: UTF-8 never contains it
_KEPT = 16  # look-ups of what would complete a banned text


class Rules:
    """The settings of a request as one tokenizer spells them; ``dry`` is whether repetitions are punished by DRY."""

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str], banned: Sequence[str], must_mention: Sequence[str], dry: bool
    ) -> None:
        self.vocabulary = vocabulary(tokenizer)
        self.stops = (*stop, tokenizer.end)  # the end marker spelled letter by letter ends a text as well
        self.banned = Endings(banned)
        self.open = Endings((*self.stops, *banned))
        never = self.vocabulary.holding(text.encode() for text in banned)
        pad = [] if tokenizer.pad_id == tokenizer.end_id else [tokenizer.pad_id]
        self.never = np.union1d(never, np.array(pad, np.int64))
        breakers = self.vocabulary.holding(each.encode() for each in BREAKERS) if dry else ()
        self.breakers = frozenset(map(int, breakers))
        self.wishes = tuple(Wish.of(tokenizer, text) for text in must_mention)
        self._completing: dict[str, frozenset[int]] = {}

    def completing(self, text: str) -> frozenset[int]:
        """Return the tokens that begin with the rest of a banned text which the end of ``text`` has begun."""
        begun = text[len(text) - self.banned.begun(text) :]
        if not begun:
            return frozenset()
        if begun not in self._completing:
            if len(self._completing) >= _KEPT:
                self._completing.clear()
            rests = self.banned.rests(begun, self.vocabulary.longest)
            self._completing[begun] = frozenset(
                id_ for rest in rests for id_ in self.vocabulary.beginning(rest.encode())
            )
        return self._completing[begun]


class Endings:
    """Texts that the end of a growing text may hold or begin."""

    def __init__(self, texts: Collection[str]) -> None:
        self.texts = tuple(dict.fromkeys(texts))
        self.longest = max(map(len, self.texts), default=0)
        self._sorted = sorted(self.texts)
        self._first = {text[0] for text in self.texts}

    def begun(self, text: str) -> int:
        """Return how many characters at the end of ``text`` begin one of the texts, which is longer."""
        for size in range(min(len(text), self.longest - 1), 0, -1):
            if text[-size] in self._first and self._begins(text[-size:]):
                return size
        return 0

    def rests(self, text: str, longest: int) -> Iterable[str]:
        """Yield what is missing of each text that the end of ``text`` has begun, if that is ``longest`` at most."""
        for size in range(1, min(len(text), self.longest - 1) + 1):
            begun = text[-size:]
            place = bisect_right(self._sorted, begun)
            while place < len(self._sorted) and self._sorted[place].startswith(begun):
                if len(self._sorted[place]) - size <= longest:
                    yield self._sorted[place][size:]
                place += 1

    def held_at_end(self, text: str, new: int) -> str | None:
        """Return the first of the texts that the last ``new`` characters of ``text`` complete."""
        return next(
            (each for each in self.texts if text.find(each, max(0, len(text) - new - len(each) + 1)) >= 0), None
        )

    def _begins(self, begun: str) -> bool:
        place = bisect_right(self._sorted, begun)
        return place < len(self._sorted) and self._sorted[place].startswith(begun)


@dataclass(frozen=True, eq=False)
class Wish:
    """A word that a text must mention, perhaps in its plural; ``ids`` are its tokens within a text."""

    text: str
    ids: tuple[int, ...]
    mention: re.Pattern[str]
    at_end: re.Pattern[str]  # group 1: the ending of the plural

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str) -> Wish:
        """Compile a wish."""
        word = rf"(?<!\w){re.escape(text)}"
        return cls(
            text,
            tuple(tokenizer.encode(f" {text}").tolist()),
            re.compile(rf"{word}(?:s|es|'s)?(?!\w)", re.IGNORECASE),
            re.compile(rf"{word}(s|es)?\Z", re.IGNORECASE),
        )

    @property
    def reach(self) -> int:
        """Return the length of the longest mention, and of a character around it."""
        return len(self.text) + 3


class Vocabulary:
    """The tokens of a tokenizer by their spelling, special tokens excluded."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = {tokenizer.end_id, tokenizer.pad_id}
        ids = [id_ for id_ in range(tokenizer.vocab_size) if id_ not in special]
        self._spelled = sorted((tokenizer.token_bytes(id_), id_) for id_ in ids)
        self._joined = _GAP.join(spelled for spelled, _ in self._spelled) + _GAP
        self._starts = [*accumulate((len(spelled) + 1 for spelled, _ in self._spelled), initial=0)]
        self.longest = max(len(spelled) for spelled, _ in self._spelled)

    def beginning(self, spelling: bytes) -> list[int]:
        """Return the tokens that begin with ``spelling``."""
        first = bisect_left(self._spelled, (spelling, -1))
        found = []
        for spelled, id_ in self._spelled[first:]:
            if not spelled.startswith(spelling):
                break
            found.append(id_)
        return found

    def holding(self, spellings: Iterable[bytes]) -> npt.NDArray[np.int64]:
        """Return the tokens that hold one of ``spellings``."""
        held = np.zeros(len(self._spelled), bool)
        for spelling in spellings:
            place = self._joined.find(spelling)
            while place >= 0:
                number = bisect_right(self._starts, place) - 1
                held[number] = True
                place = self._joined.find(spelling, self._starts[number + 1])
        return np.array([self._spelled[number][1] for number in np.flatnonzero(held)], np.int64)

    @cached_property
    def letters(self) -> frozenset[int]:
        """Return the tokens that would lengthen a word."""
        return self._matching(r"\w")

    @cached_property
    def plurals(self) -> frozenset[int]:
        """Return the tokens that make a plural."""
        return frozenset(id_ for spelled, id_ in self._spelled if spelled in (b"s", b"es"))

    @cached_property
    def words(self) -> frozenset[int]:
        """Return the tokens that begin a word after a blank."""
        return self._matching(r" \w")

    @cached_property
    def small_letters(self) -> frozenset[int]:
        """Return the tokens that would open a text with a small letter, which hardly any text of most corpora does."""
        spellings = ((spelled.decode(errors="ignore"), id_) for spelled, id_ in self._spelled)
        return frozenset(id_ for spelling, id_ in spellings if spelling[:1].islower())

    @cached_property
    def commas(self) -> frozenset[int]:
        """Return the tokens that hold a comma."""
        return frozenset(map(int, self.holding([b","])))

    def _matching(self, pattern: str) -> frozenset[int]:
        return frozenset(id_ for spelled, id_ in self._spelled if re.match(pattern, spelled.decode(errors="ignore")))


def rules_of(tokenizer: Tokenizer, config: SamplingConfig) -> Rules:
    """Return the rules of ``config``, made once for requests that ask for the same."""
    return _rules(tokenizer, config.stop, config.banned, config.must_mention, config.cast, bool(config.dry_multiplier))


@lru_cache(maxsize=16)
def _rules(
    tokenizer: Tokenizer,
    stop: tuple[str, ...],
    banned: tuple[str, ...],
    must_mention: tuple[str, ...],
    cast: bool | None,
    dry: bool,
) -> Rules:
    return Rules(tokenizer, stop, banned if cast in (None, True) else (*banned, CAST), must_mention, dry)


@lru_cache(maxsize=16)
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """Return the vocabulary of ``tokenizer``, made once."""
    return Vocabulary(tokenizer)

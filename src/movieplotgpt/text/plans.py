"""The plan of a text: the names that return in it, and the words that tell what it is about.

``names: Edward Lyle, Brill; words: lawyer, tape, agency`` stands as a hint line before the sentence (``Plan: ...``), so
that a model sees in every window who and what its text is about, and can be told so. It is counted, not written by a
model, with what the training split says about words: which are names, and which are rare.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from movieplotgpt.text.formatting import PLAN, Document, one_line
from movieplotgpt.text.sentences import HONORIFICS

MOST_NAMES = MOST_WORDS = 6
_LONGEST_NAME = 3  # words
_KNOWN = (5, 0.001)  # a word that fewer documents have, or a smaller share of them, tells nothing to a small model
_SHORTEST_WORD = 4  # letters
_THE = 0.3  # share of a name's uses behind an article: "the American", "the King"; people have under 0.05
_ASIDE = re.compile(r"\([^()]*\)")  # who plays whom
_SMALL = re.compile(r"(?<![\w'-])[a-z]{2,}(?![\w'-])")  # no part of a word with a hyphen
_CAPITAL = re.compile(r"(?<=[a-z,;] )[A-Z][a-z][\w'-]*")
_BEHIND_ARTICLE = re.compile(r"\b(?:the|an?) ([A-Z][a-z][\w'-]*)")
_WORD = re.compile(r"(?<![\w'-])[^\W\d_a-z][\w'-]*")  # with a capital, or in a script without
_PART = re.compile(r"\b(names|words):((?:(?!\b(?:names|words):).)*)", re.IGNORECASE)


@dataclass(frozen=True)
class Planner:
    """Makes plans by what one collection of texts says of words.

    ``capital`` counts a word's uses with a capital within a sentence, ``small`` those in small letters, ``behind_article``
    those of the first that follow an article; ``documents`` is how many texts have a word in small letters.
    """

    capital: Counter[str]
    small: Counter[str]
    behind_article: Counter[str]
    documents: Counter[str]
    n_documents: int

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Planner:
        """Count the words of the training split."""
        capital, small, behind_article, documents = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        n_documents = 0
        for text in texts:
            capital.update(map(_bare, _CAPITAL.findall(text)))
            behind_article.update(map(_bare, _BEHIND_ARTICLE.findall(text)))
            counts = Counter(_SMALL.findall(text))
            small.update(counts)
            documents.update(counts.keys())
            n_documents += 1
        return cls(capital, small, behind_article, documents, n_documents)

    def plan(self, text: str) -> str:
        """Return the plan of ``text``; nothing where no name returns in it and no word tells of it."""
        return lay_out_plan(self.names(text), self.words(text))

    def names(self, text: str) -> list[str]:
        """Return the names mentioned most, twice at least, in the order of their first mentions and as written there."""
        runs = list(self._runs(_ASIDE.sub(" ", text)))
        mentions = Counter(word for run in runs for word in dict.fromkeys(run))
        names: dict[str, int] = {}
        known: set[str] = set()
        for run in runs:
            if known.isdisjoint(run) and (most := max(mentions[word] for word in run)) > 1:
                names[" ".join(run)] = most
                known.update(run)
        kept = set(sorted(names, key=lambda name: -names[name])[:MOST_NAMES])
        return [name for name in names if name in kept]

    def words(self, text: str) -> list[str]:
        """Return the words in small letters that tell the text from others (tf-idf), in the order they come."""
        counts, known = Counter(_SMALL.findall(text)), max(_KNOWN[0], _KNOWN[1] * self.n_documents)
        weights = {
            word: count * math.log(self.n_documents / self.documents[word])
            for word, count in counts.items()
            if len(word) >= _SHORTEST_WORD and self.documents[word] >= known
        }
        best = set(sorted(weights, key=lambda word: -weights[word])[:MOST_WORDS])
        return [word for word in counts if word in best]

    def _runs(self, text: str) -> Iterator[tuple[str, ...]]:
        """Names as they stand: words with capitals one behind the other."""
        own = Counter(map(_bare, _CAPITAL.findall(text)))
        run: list[str] = []
        goes_on = -1  # where the next word of a name would stand
        for found in _WORD.finditer(text):
            word = _bare(found[0])
            if not self._is_name(word, own):
                continue
            if run and not (found.start() == goes_on and text[goes_on - 1] in " -"):
                yield tuple(run[:_LONGEST_NAME])
                run = []
            run.append(word)
            goes_on = found.end() + 1 if word == found[0] else -1
        if run:
            yield tuple(run[:_LONGEST_NAME])

    def _is_name(self, word: str, own: Counter[str]) -> bool:
        if len(word) < 2 or not word[0].isupper() or word in HONORIFICS:
            return False
        capital = self.capital[word] + own[word]
        return capital > self.small[word.lower()] and self.behind_article[word] < _THE * capital


def plan_parts(plan: str) -> tuple[list[str], list[str]]:
    """Return the names and the words of a plan; one without labels is read by its capitals: ``Ann, island``."""
    text = one_line(plan)
    labelled = {found[1].lower(): _items(found[2]) for found in _PART.finditer(text)}
    if labelled:
        return labelled.get("names", []), labelled.get("words", [])
    items = _items(text)
    return [item for item in items if item[0].isupper()], [item for item in items if not item[0].isupper()]


def lay_out_plan(names: Sequence[str], words: Sequence[str]) -> str:
    """Return a plan as models know it: ``names: Ann, Bert; words: island, storm``."""
    return "; ".join(f"{label}: {', '.join(found)}" for label, found in (("names", names), ("words", words)) if found)


def with_plans(documents: Sequence[Document], planner: Planner) -> list[Document]:
    """The documents, each with its plan among its hints."""
    planned = ((document, planner.plan(document.body)) for document in documents)
    return [replace(own, hints={**own.hints, PLAN: plan}) if plan else own for own, plan in planned]


def _items(text: str) -> list[str]:
    return [item.strip() for item in re.split(r"[,;]", text) if item.strip()]


def _bare(word: str) -> str:
    """Without the ending of a possessive."""
    return word.removesuffix("'s").removesuffix("'")

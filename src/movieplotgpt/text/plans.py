"""The plan of a text: its recurring names and its most characteristic words.

``names: Edward Lyle, Brill; words: lawyer, tape, agency`` becomes the hint line ``Plan: ...`` before the header sentence, so
that every window shows the model who and what the text is about, and a person can set it when generating. Plans are
computed from word counts of the training split; no model is involved.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from movieplotgpt.text.formatting import PLAN, Document, one_line
from movieplotgpt.text.sentences import ASIDE, HONORIFICS

MOST_ITEMS = 6  # names, and words
_LONGEST_NAME = 3  # words
_KNOWN = (5, 0.001)  # words in fewer documents, or in a smaller share of them, mean little to a small model
_SHORTEST_WORD = 4  # letters
_THE = 0.3  # maximum share of uses that follow an article ("the American", "the King"); names of people have under 0.05
_SMALL = re.compile(r"(?<![\w'-])[a-z]{2,}(?![\w'-])")  # not a part of a hyphenated word
_CAPITAL = re.compile(r"(?<=[a-z,;] )[A-Z][a-z][\w'-]*")
_AFTER_ARTICLE = re.compile(r"\b(?:the|an?) ([A-Z][a-z][\w'-]*)")
_WORD = re.compile(r"(?<![\w'-])[^\W\d_a-z][\w'-]*")  # capitalised, or in a script without case
_PART = re.compile(r"\b(names|words):((?:(?!\b(?:names|words):).)*)", re.IGNORECASE)


@dataclass(frozen=True)
class Planner:
    """Makes plans from the word counts of one collection of texts.

    ``capital`` counts capitalised uses within a sentence, ``small`` lower-case uses, ``after_article`` capitalised uses
    after an article; ``documents`` counts the texts that contain a lower-case word.
    """

    capital: Counter[str]
    small: Counter[str]
    after_article: Counter[str]
    documents: Counter[str]
    n_documents: int

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Planner:
        """Count the words of the training split."""
        capital, small, after_article, documents = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        n_documents = 0
        for text in texts:
            capital.update(map(_bare, _CAPITAL.findall(text)))
            after_article.update(map(_bare, _AFTER_ARTICLE.findall(text)))
            counts = Counter(_SMALL.findall(text))
            small.update(counts)
            documents.update(counts.keys())
            n_documents += 1
        return cls(capital, small, after_article, documents, n_documents)

    def plan(self, text: str) -> str:
        """Return the plan of ``text``, or an empty string if it has neither recurring names nor characteristic words."""
        return lay_out_plan(self.names(text), self.words(text))

    def names(self, text: str) -> list[str]:
        """Return the most mentioned names (at least twice), as first written and in order of first mention."""
        runs = list(self._runs(ASIDE.sub(" ", text)))
        mentions = Counter(word for run in runs for word in dict.fromkeys(run))
        names: dict[str, int] = {}
        known: set[str] = set()
        for run in runs:
            if known.isdisjoint(run) and (most := max(mentions[word] for word in run)) > 1:
                names[" ".join(run)] = most
                known.update(run)
        kept = set(sorted(names, key=lambda name: -names[name])[:MOST_ITEMS])
        return [name for name in names if name in kept]

    def words(self, text: str) -> list[str]:
        """Return the lower-case words with the highest tf-idf, in order of first occurrence."""
        counts, known = Counter(_SMALL.findall(text)), max(_KNOWN[0], _KNOWN[1] * self.n_documents)
        weights = {
            word: count * math.log(self.n_documents / self.documents[word])
            for word, count in counts.items()
            if len(word) >= _SHORTEST_WORD and self.documents[word] >= known
        }
        best = set(sorted(weights, key=lambda word: -weights[word])[:MOST_ITEMS])
        return [word for word in counts if word in best]

    def _runs(self, text: str) -> Iterator[tuple[str, ...]]:
        """Yield each name as a run of adjacent capitalised words."""
        own = Counter(map(_bare, _CAPITAL.findall(text)))
        run: list[str] = []
        goes_on = -1  # where the next word of the run would start
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
        return capital > self.small[word.lower()] and self.after_article[word] < _THE * capital


def plan_parts(plan: str) -> tuple[list[str], list[str]]:
    """Return the names and the words of a plan; without labels, capitals tell names from words (``Ann, island``)."""
    text = one_line(plan)
    labelled = {found[1].lower(): _items(found[2]) for found in _PART.finditer(text)}
    if labelled:
        return labelled.get("names", []), labelled.get("words", [])
    items = _items(text)
    return [item for item in items if item[0].isupper()], [item for item in items if not item[0].isupper()]


def lay_out_plan(names: Sequence[str], words: Sequence[str]) -> str:
    """Return a plan in the form that models are trained on: ``names: Ann, Bert; words: island, storm``."""
    return "; ".join(f"{label}: {', '.join(found)}" for label, found in (("names", names), ("words", words)) if found)


def with_plans(documents: Sequence[Document], planner: Planner) -> list[Document]:
    """Return the documents with their plans added to their hints."""
    planned = ((document, planner.plan(document.body)) for document in documents)
    return [replace(own, hints={**own.hints, PLAN: plan}) if plan else own for own, plan in planned]


def _items(text: str) -> list[str]:
    return [item.strip() for item in re.split(r"[,;]", text) if item.strip()]


def _bare(word: str) -> str:
    """Strip a possessive ending."""
    return word.removesuffix("'s").removesuffix("'")

"""Exchange the people of a text: each name consistently for another of the same gender and origin.

A small model memorises which names go together. Texts whose people have other names each time they are shown teach it who
does what instead. Which words are names of people, and of which gender and origin, is counted in the training split: the
pronouns that follow a name, and the ``Origin`` hint of the texts that have it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from movieplotgpt.text.formatting import Document
from movieplotgpt.text.sentences import HONORIFICS

ORIGIN = "Origin"  # the hint that tells where a text is from
_TEXTS = 3  # minimum number of texts with a name
_PRONOUNS = 8  # minimum number of pronouns after a name
_FEMALE, _MALE = 0.6, 0.75  # minimum share of pronouns: there are more men in films
_ALONE = 0.4  # minimum share of uses that do not follow another name: not "Sunset Boulevard"
_COMMON = 0.1  # maximum share of lower-case uses: "uncle", "captain", "rose"
_PLACE = 0.2  # maximum share of uses after "in", "to", "the", ...
_POOL = 20  # minimum number of names of one kind
_DRAWS = 8  # for one name, before it is kept
_NAME = re.compile(r"(?<=[a-z,;)] )([A-Z][a-z]{2,})(?: ([A-Z][a-z]{2,}))?(?![\w-])")
_PRONOUN = re.compile(r"[^.!?]{0,60}?\b(?:(she|her)|he|his|him)\b")
_AFTER_PLACE_WORD = re.compile(r"\b(?:in|at|to|from|near|into|of|the|an?) ([A-Z][a-z]{2,})")
_SMALL = re.compile(r"(?<![\w'-])[a-z]{3,}(?![\w'-])")
_WORD = re.compile(r"(?<![\w-])[A-Z][a-z]{2,}(?![\w-])")


@dataclass(frozen=True)
class People:
    """Names of people, each with its kind: ``female American``, ``male Tamil``."""

    kinds: Mapping[str, str]

    @classmethod
    def learn(cls, documents: Iterable[Document]) -> People:
        """Count who is called what in the training split."""
        uses, texts, after_name, placed, small = (Counter[str]() for _ in range(5))
        pronouns: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])  # her, him
        origins: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for document in documents:
            text = document.body
            here = set()
            for found in _NAME.finditer(text):
                first, last = found.groups()
                uses[first] += 1
                here.add(first)
                if last:
                    uses[last] += 1
                    after_name[last] += 1
                    here.add(last)
                if pronoun := _PRONOUN.match(text, found.end()):
                    pronouns[last or first][pronoun[1] is None] += 1
                    if last:
                        pronouns[first][pronoun[1] is None] += 1
            texts.update(here)
            placed.update(_AFTER_PLACE_WORD.findall(text))
            small.update(_SMALL.findall(text))
            for name in here:
                origins[name][document.hints.get(ORIGIN, "")] += 1
        kinds = {}
        for name, count in uses.items():
            she, he = pronouns[name]
            known = texts[name] >= _TEXTS and she + he >= _PRONOUNS and name not in HONORIFICS
            if not known or small[name.lower()] > _COMMON * count or placed[name] > _PLACE * count:
                continue
            gender = "female" if she > _FEMALE * (she + he) else "male" if he > _MALE * (she + he) else ""
            if gender and count - after_name[name] > _ALONE * count:
                kinds[name] = f"{gender} {origins[name].most_common(1)[0][0]}".rstrip()
        return cls(kinds)

    @cached_property
    def pools(self) -> dict[str, list[str]]:
        """The names of each kind that has enough to choose from."""
        pools: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(self.kinds):
            pools[self.kinds[name]].append(name)
        return {kind: names for kind, names in pools.items() if len(names) >= _POOL}

    def exchanged(self, text: str, title: str, random: np.random.Generator) -> Callable[[str], str]:
        """Return a function that replaces the people of ``text`` in any text; words of ``title`` keep their names."""
        title_words = {word.casefold() for word in re.findall(r"\w+", title)}
        others: dict[str, str] = {}
        found = dict.fromkeys(_WORD.findall(text))
        taken = set(found)
        for name in found:
            pool = self.pools.get(self.kinds.get(name, ""), [])
            if pool and name.casefold() not in title_words:
                drawn = (pool[i] for i in random.integers(len(pool), size=_DRAWS))
                free = (other for other in drawn if other not in taken and other.casefold() not in title_words)
                others[name] = next(free, name)
                taken.add(others[name])
        return lambda text: _WORD.sub(lambda word: others.get(word[0], word[0]), text)

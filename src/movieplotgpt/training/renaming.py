"""Training documents whose people have other names: drawn anew each epoch, encoded when the epoch begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from movieplotgpt.text.formatting import PLAN, Document
from movieplotgpt.text.people import People
from movieplotgpt.text.token_files import PreparedCorpus

Ids = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Renamed:
    """The body and the plan line of a document, with other names; the plan is empty if it has none."""

    body: Ids
    plan: Ids


class Renaming:
    """Exchanges the people of a training split; which words are their names is counted when it is made."""

    def __init__(self, corpus: PreparedCorpus) -> None:
        self._tokenizer, split = corpus.tokenizer, corpus.split("train")
        bodies = (self._tokenizer.decode(split.body(i)) for i in range(split.n_documents))
        self._documents = [Document(*each) for each in zip(bodies, split.titles, split.hints, strict=True)]
        self._people = People.learn(self._documents)

    def draw(self, documents: Sequence[int], seed: Sequence[int]) -> dict[int, Renamed]:
        """Return the documents with other names, by their numbers; the same for the same seed."""
        bodies, plans = [], []
        for i in documents:
            own = self._documents[i]
            exchange = self._people.exchanged(own.body, own.title, np.random.default_rng([*seed, i]))
            bodies.append(exchange(own.body))
            plans.append(f"{PLAN}: {exchange(own.hints[PLAN])}\n" if PLAN in own.hints else "")
        encoded = zip(*map(self._tokenizer.encode_batch, (bodies, plans)), strict=True)
        return {i: Renamed(body, plan) for i, (body, plan) in zip(documents, encoded, strict=True)}

"""Held-out documents as one model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.intervals import I64
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.scoring import Scores, score_documents
from movieplotgpt.progress_bars import CountReport
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit
from movieplotgpt.text.tokenizer import Ids, Tokenizer


@dataclass(frozen=True)
class HeldOut:
    """Documents of a split: bodies in the model's tokens, no end tokens; a plan is empty where a document has none."""

    titles: list[str]
    groups: list[str]
    bodies: list[Ids]
    n_characters: I64
    plans: list[str] = field(default_factory=list)

    def rows(self, numbers: Sequence[int]) -> HeldOut:
        """Return the documents at these positions."""
        return HeldOut(
            titles=[self.titles[i] for i in numbers],
            groups=[self.groups[i] for i in numbers],
            bodies=[self.bodies[i] for i in numbers],
            n_characters=self.n_characters[[*numbers]],
            plans=[self.plans[i] for i in numbers],
        )

    def score(
        self,
        checkpoint: Checkpoint,
        titles: list[str],
        progress: CountReport | None,
        *,
        with_plans: bool = False,
    ) -> Scores:
        """Return the nats of each document under the plain prompt with the title given for it, after its plan if asked."""
        tokenizer, layout = checkpoint.tokenizer, checkpoint.format
        texts = [layout.sentence(title) for title in titles]
        if with_plans:
            texts = [f"{PLAN}: {plan}\n{text}" for plan, text in zip(self.plans, texts, strict=True)]
        headers = tokenizer.encode_batch(texts)
        documents = list(zip(headers, self.bodies, strict=True))
        return score_documents(checkpoint.model, documents, tokenizer.end_id, progress=progress)


def read_held_out(
    checkpoint: Checkpoint, corpus: PreparedCorpus, split: Split, documents: int | None = None, seed: int = 0
) -> HeldOut:
    """The documents of a split in the checkpoint's tokens; encoded anew where the corpus has another tokenizer.

    Raises:
        DataError: the corpus has no such split.
    """
    part = corpus.split(split)
    rows = draw_documents(part, documents, seed)
    bodies, characters = [part.body(i) for i in rows], part.n_characters[rows]
    if corpus.tokenizer.to_json() != checkpoint.tokenizer.to_json():
        texts, tokenizer = [corpus.tokenizer.decode(body) for body in bodies], checkpoint.tokenizer
        bodies = tokenizer.encode_batch(texts)
        kept = [tokenizer.characters(text, body) for text, body in zip(texts, bodies, strict=True)]
        characters = np.array(kept, np.int64)
    titles, groups = ([names[i] for i in rows] for names in (part.titles, part.groups))
    plans = [part.hints[i].get(PLAN, "") for i in rows] if corpus.format.has_plan else [""] * len(rows)
    return HeldOut(titles, groups, bodies, characters, plans)


def draw_documents(part: PreparedSplit, documents: int | None, seed: int) -> I64:
    """Rows of ``documents`` documents drawn without replacement, in their order; all of them for None."""
    if documents is None or documents >= part.n_documents:
        return np.arange(part.n_documents)
    return np.sort(np.random.default_rng(seed).choice(part.n_documents, documents, replace=False))


def other_works(groups: list[str], rng: np.random.Generator) -> I64:
    """For each document one of another group, each document used once: a derangement of works.

    Groups lie side by side in a random order, and all move on by the size of the largest.

    Raises:
        DataError: one group holds more than half of the documents.
    """
    names, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if 2 * sizes.max() > len(groups):
        raise DataError(
            f"it needs titles of other works, and more than half of these {len(groups)} documents are one work; take more "
            "documents"
        )
    order = np.lexsort((rng.random(len(groups)), rng.permutation(len(names))[group_of]))
    other = np.empty(len(groups), np.int64)
    other[order] = np.roll(order, -sizes.max())
    return other


def characters_of_tokens(tokenizer: Tokenizer) -> I64:
    """Return how many characters begin in each token: all but the continuation bytes of UTF-8 begin one."""
    tokens = map(tokenizer.token_bytes, range(tokenizer.vocab_size))
    return np.array([sum(byte & 0xC0 != 0x80 for byte in token) for token in tokens], np.int64)


def character_offsets(body: Ids, characters: I64) -> I64:
    """Return where each token of ``body`` starts in its text, and where the text ends, given each token's ``characters``."""
    return np.concatenate([[0], np.cumsum(characters[body])])

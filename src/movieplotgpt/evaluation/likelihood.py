"""Bits per character, the one number that no tokenizer can flatter, and what the true title saves of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict

from movieplotgpt.errors import DataError
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.scoring import Scores, score_documents
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit
from movieplotgpt.training.hardware import device_name

Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
F64: TypeAlias = npt.NDArray[np.float64]
I64: TypeAlias = npt.NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]
Progress: TypeAlias = Callable[[str, int, int], None]

PLAIN_PROMPT = "plain: the sentence with the title, no hint lines"
NO_PROMPT = "none: the begin of sequence alone"
RESAMPLES = 2_000


class TitleLift(BaseModel):
    """Bits per character that the true title saves: against another document's, and against the empty one.

    Intervals (95 %) resample documents, both scores of each together. ``share_helped`` is the share of pairs (a
    document, another's title) in which the true title is the better one; by chance it is 0.5.
    """

    model_config = ConfigDict(frozen=True)

    bits_per_character: float
    interval: Interval | None
    against_empty: float
    against_empty_interval: Interval | None
    share_helped: float
    others: int
    seconds: float


class LikelihoodReport(BaseModel):
    """How well a model predicts held-out documents, with all that the number depends on.

    ``bits_per_character`` counts body and end token over all characters, ``macro`` is its mean over documents,
    ``body_bits_per_character`` leaves the end token out; ``end_bits`` and ``header_bits`` are per document.
    """

    model_config = ConfigDict(frozen=True)

    bits_per_character: float
    interval: Interval | None
    macro: float
    body_bits_per_character: float
    end_bits: float
    header_bits: float | None
    split: Split
    prompt: str
    documents: int
    characters: int
    tokens: int
    title_lift: TitleLift | None
    corpus_hash: str
    split_hash: str
    cleaner_hash: str
    source: str
    seed: int
    resamples: int
    seconds: float
    device: str
    precision: str
    threads: int
    torch: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """Documents of a split as one model reads them: bodies in its tokens, no end tokens."""

    titles: list[str]
    groups: list[str]
    bodies: list[Ids]
    n_characters: I64

    def score(self, checkpoint: Checkpoint, titles: list[str], progress: Callable[[int, int], None] | None) -> Scores:
        """Nats of each document under the plain prompt with the title given for it."""
        tokenizer = checkpoint.tokenizer
        headers = tokenizer.encode_batch([checkpoint.format.sentence(title) for title in titles])
        documents = list(zip(headers, self.bodies, strict=True))
        return score_documents(checkpoint.model, documents, tokenizer.end_id, progress=progress)


def evaluate(
    checkpoint: Checkpoint,
    corpus: PreparedCorpus,
    *,
    split: Split = "test",
    documents: int | None = None,
    others: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> LikelihoodReport:
    """Score a split, or ``documents`` of it drawn by ``seed``; the corpus may be prepared with another tokenizer.

    The title lift sets each document against ``others`` other titles; 0 leaves it out, as does a model without titles.

    Raises:
        DataError: the corpus has no such split, or too few works to exchange titles between.
    """
    progress = progress or (lambda stage, done, total: None)
    held_out = read_held_out(checkpoint, corpus, split, documents, seed)
    began = time.monotonic()
    scores = held_out.score(checkpoint, held_out.titles, partial(progress, "bits per character"))
    seconds = time.monotonic() - began
    lift = None
    if others and checkpoint.format.header:
        lift = title_lift(
            checkpoint, held_out, scores, others=others, resamples=resamples, seed=seed, progress=progress
        )
    manifest = corpus.manifest
    return LikelihoodReport(
        **_numbers(held_out, scores, resamples, seed),
        **_machine(checkpoint.model),
        split=split,
        prompt=PLAIN_PROMPT if checkpoint.format.header else NO_PROMPT,
        title_lift=lift,
        corpus_hash=manifest.corpus_hash,
        split_hash=manifest.split_hash,
        cleaner_hash=manifest.cleaner_hash,
        source=manifest.source.name,
        seconds=round(seconds, 2),
        notes=_notes(checkpoint, corpus),
    )


def title_lift(
    checkpoint: Checkpoint,
    held_out: HeldOut,
    own: Scores,
    *,
    others: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> TitleLift:
    """What the true title saves, ``own`` being the scores under it: each body is scored under other titles as well.

    Raises:
        DataError: there are too few works to exchange titles between.
    """
    progress = progress or (lambda stage, done, total: None)
    began = time.monotonic()
    rng = np.random.default_rng(seed)
    saved = np.zeros((others, len(held_out.titles)))
    for k in range(others):
        titles = [held_out.titles[i] for i in other_works(held_out.groups, rng)]
        scores = held_out.score(checkpoint, titles, partial(progress, f"other titles {k + 1}"))
        saved[k] = scores.body - own.body
    empty = held_out.score(checkpoint, [""] * len(held_out.titles), partial(progress, "empty title"))
    ratio = partial(bits_per_character, n_characters=held_out.n_characters)
    interval = partial(bootstrap_interval, n_characters=held_out.n_characters, resamples=resamples, seed=seed)
    return TitleLift(
        bits_per_character=ratio(saved.mean(0)),
        interval=interval(saved.mean(0)),
        against_empty=ratio(empty.body - own.body),
        against_empty_interval=interval(empty.body - own.body),
        share_helped=float(((saved > 0) + 0.5 * (saved == 0)).mean()),
        others=others,
        seconds=round(time.monotonic() - began, 2),
    )


def read_held_out(
    checkpoint: Checkpoint, corpus: PreparedCorpus, split: Split, documents: int | None = None, seed: int = 0
) -> HeldOut:
    """The documents of a split in the checkpoint's tokens; encoded anew where the corpus has another tokenizer.

    Raises:
        DataError: the corpus has no such split.
    """
    part = corpus.split(split)
    rows = draw_documents(part, documents, seed)
    bodies = [part.body(i) for i in rows]
    if corpus.tokenizer.to_json() != checkpoint.tokenizer.to_json():
        bodies = checkpoint.tokenizer.encode_batch([corpus.tokenizer.decode(body) for body in bodies])
    titles, groups = ([names[i] for i in rows] for names in (part.titles, part.groups))
    return HeldOut(titles, groups, bodies, part.n_characters[rows])


def draw_documents(part: PreparedSplit, documents: int | None, seed: int) -> I64:
    """Rows of ``documents`` documents drawn without replacement, in their order; all of them for None."""
    if documents is None or documents >= part.n_documents:
        return np.arange(part.n_documents)
    return np.sort(np.random.default_rng(seed).choice(part.n_documents, documents, replace=False))


def score_split(
    model: GPT, split: PreparedSplit, end_id: int, *, progress: Callable[[int, int], None] | None = None
) -> Scores:
    """Nats of every document of a split, in its own tokens, under the plain prompt: for use while training."""
    documents = [(split.sentence(i), split.body(i)) for i in range(split.n_documents)]
    return score_documents(model, documents, end_id, progress=progress)


def bits_per_character(nats: F64, n_characters: I64) -> float:
    """Nats of bodies and end tokens over the code points of the cleaned bodies."""
    return float(nats.sum() / math.log(2) / n_characters.sum())


def bootstrap_interval(nats: F64, n_characters: I64, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """The middle 95 % of bits per character when documents are drawn anew with replacement; None for fewer than two."""
    n = len(nats)
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = (rng.integers(n, size=n) for _ in range(resamples))
    low, high = np.quantile([bits_per_character(nats[row], n_characters[row]) for row in rows], [0.025, 0.975])
    return float(low), float(high)


def other_works(groups: list[str], rng: np.random.Generator) -> I64:
    """For each document one of another group, each document used once: a derangement of works.

    Groups lie side by side in a random order, and all move on by the size of the largest.

    Raises:
        DataError: one group holds more than half of the documents.
    """
    names, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if 2 * sizes.max() > len(groups):
        raise DataError(
            f"the title lift needs titles of other works, and half or more of these {len(groups)} documents are one "
            "work; leave the lift out or take more documents"
        )
    order = np.lexsort((rng.random(len(groups)), rng.permutation(len(names))[group_of]))
    other = np.empty(len(groups), np.int64)
    other[order] = np.roll(order, -sizes.max())
    return other


def _numbers(held_out: HeldOut, scores: Scores, resamples: int, seed: int) -> dict[str, Any]:
    characters, n = held_out.n_characters, len(held_out.bodies)
    header_bits = scores.header.sum() / math.log(2) / n
    return {
        "bits_per_character": bits_per_character(scores.body, characters),
        "interval": bootstrap_interval(scores.body, characters, resamples=resamples, seed=seed),
        "macro": float((scores.body / math.log(2) / characters).mean()),
        "body_bits_per_character": bits_per_character(scores.body - scores.end, characters),
        "end_bits": float(scores.end.sum() / math.log(2) / n),
        "header_bits": float(header_bits) if header_bits else None,
        "documents": n,
        "characters": int(characters.sum()),
        "tokens": sum(len(body) + 1 for body in held_out.bodies),
        "seed": seed,
        "resamples": resamples,
    }


def _machine(model: GPT) -> dict[str, Any]:
    return {
        "device": device_name(model.model.embed_tokens.weight.device),
        "precision": str(model.compute_dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
    }


def _notes(checkpoint: Checkpoint, corpus: PreparedCorpus) -> tuple[str, ...]:
    """What keeps the number from being set beside others."""
    notes = []
    if checkpoint.cleaning.hash() != corpus.manifest.cleaner_hash:
        notes.append(
            f"{corpus.folder} was cleaned by other rules than the model's training text: the number is not comparable "
            "with those of its own corpus"
        )
    trained_on = checkpoint.info.get("corpus", {}).get("hash")
    if trained_on != corpus.manifest.corpus_hash:
        what = "on another corpus or split" if trained_on else "on a corpus it does not name"
        notes.append(f"the model was trained {what}: it may have seen documents of this split")
    return tuple(notes)


def validation_scorer(corpus: PreparedCorpus) -> Callable[[GPT], float]:
    """The function a training run is handed: bits per character on the whole validation split."""
    split, end_id = corpus.split("validation"), corpus.tokenizer.end_id
    return lambda model: bits_per_character(score_split(model, split, end_id).body, split.n_characters)

"""Bits per character, the one number that no tokenizer can flatter, and what the true title saves of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import read_held_out
from movieplotgpt.evaluation.intervals import RESAMPLES, Interval, bits_per_character, bootstrap_interval
from movieplotgpt.evaluation.plans import PlanLift, plan_lift
from movieplotgpt.evaluation.titles import TitleLift, title_lift
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import device_name
from movieplotgpt.model.scoring import Scores, score_documents
from movieplotgpt.progress_bars import StageReport, silent
from movieplotgpt.records import Record
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit

PLAIN_PROMPT = "plain: the sentence with the title, no hint lines"
NO_PROMPT = "none: the BOS token alone"


class LikelihoodReport(Record):
    """How well a model predicts held-out documents, with all that the number depends on.

    ``bits_per_character`` counts body and end token over all characters, ``macro`` is its mean over documents,
    ``body_bits_per_character`` leaves the end token out; ``end_bits`` and ``header_bits`` are per document.
    ``document_bits`` and ``document_characters`` are those of each document, so that two models can be compared in pairs;
    ``document_works`` has the same number for documents of one work. Intervals of records without it are of documents.
    """

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
    plan_lift: PlanLift | None = None
    document_bits: tuple[float, ...] = ()
    document_characters: tuple[int, ...] = ()
    document_works: tuple[int, ...] = ()

    @property
    def drawn_anew(self) -> str:
        """What intervals are over."""
        return "works" if self.document_works else "documents"


def evaluate(
    checkpoint: Checkpoint,
    corpus: PreparedCorpus,
    *,
    split: Split = "test",
    documents: int | None = None,
    others: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: StageReport = silent,
) -> LikelihoodReport:
    """Score a split, or ``documents`` of it drawn by ``seed``; the corpus may be prepared with another tokenizer.

    The title lift sets each document against ``others`` other titles; 0 leaves it out, as does a model without titles.
    The plan lift is measured where the model was trained with plans and the corpus was prepared with them.

    Raises:
        DataError: the corpus has no such split.
    """
    held_out = read_held_out(checkpoint, corpus, split, documents, seed)
    began = time.monotonic()
    scores = held_out.score(checkpoint, held_out.titles, partial(progress, "bits per character"))
    seconds = time.monotonic() - began
    lift, notes = None, _notes(checkpoint, corpus)
    if others and checkpoint.format.header and any(held_out.titles):
        ask = partial(title_lift, others=others, resamples=resamples, seed=seed, progress=progress)
        try:
            lift = ask(checkpoint, held_out, scores)
        except DataError as error:
            notes = (*notes, f"no title lift: {error}")
    planned = None
    if checkpoint.format.has_plan and any(held_out.plans):
        try:
            planned = plan_lift(checkpoint, held_out, resamples=resamples, seed=seed, progress=progress)
        except DataError as error:
            notes = (*notes, f"no plan lift: {error}")
    manifest, model = corpus.manifest, checkpoint.model
    characters, n = held_out.n_characters, len(held_out.bodies)
    bits = scores.body / math.log(2)
    return LikelihoodReport(
        bits_per_character=bits_per_character(scores.body, characters),
        interval=bootstrap_interval(scores.body, characters, held_out.groups, resamples=resamples, seed=seed),
        macro=float((bits / characters).mean()),
        body_bits_per_character=bits_per_character(scores.body - scores.end, characters),
        end_bits=float(scores.end.sum() / math.log(2) / n),
        header_bits=float(scores.header.sum() / math.log(2) / n) or None,
        split=split,
        prompt=PLAIN_PROMPT if checkpoint.format.header else NO_PROMPT,
        documents=n,
        characters=int(characters.sum()),
        tokens=sum(len(body) + 1 for body in held_out.bodies),
        title_lift=lift,
        corpus_hash=manifest.corpus_hash,
        split_hash=manifest.split_hash,
        cleaner_hash=manifest.cleaner_hash,
        source=manifest.source.name,
        seed=seed,
        resamples=resamples,
        seconds=round(seconds, 2),
        device=device_name(model.model.embed_tokens.weight.device),
        precision=str(model.compute_dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        torch=torch.__version__.partition("+")[0],
        notes=notes,
        plan_lift=planned,
        document_bits=tuple(bits.round(2).tolist()),
        document_characters=tuple(characters.tolist()),
        document_works=tuple(np.unique(held_out.groups, return_inverse=True)[1].tolist()),
    )


def score_split(
    model: GPT, split: PreparedSplit, end_id: int, *, progress: Callable[[int, int], None] | None = None
) -> Scores:
    """Nats of every document of a split, in its own tokens, under the plain prompt: for use while training."""
    documents = [(split.sentence(i), split.body(i)) for i in range(split.n_documents)]
    return score_documents(model, documents, end_id, progress=progress)


def _notes(checkpoint: Checkpoint, corpus: PreparedCorpus) -> tuple[str, ...]:
    """Return what keeps the number from being compared with others."""
    notes = []
    if checkpoint.cleaning.hash() != corpus.manifest.cleaner_hash:
        notes.append(
            f"{corpus.folder} was cleaned by other rules than the model's training text: the number is not comparable "
            "with those of its own corpus"
        )
    trained_on = checkpoint.record.corpus.hash
    if trained_on != corpus.manifest.corpus_hash:
        what = "on another corpus or split" if trained_on else "on a corpus it does not name"
        notes.append(f"the model was trained {what}: it may have seen documents of this split")
    return tuple(notes)


def validation_scorer(corpus: PreparedCorpus) -> Callable[[GPT], float]:
    """The function a training run is handed: bits per character on the whole validation split."""
    split, end_id = corpus.split("validation"), corpus.tokenizer.end_id
    return lambda model: bits_per_character(score_split(model, split, end_id).body, split.n_characters)

"""Does the title steer the plot? What the true title saves, where in the plot, and whether it is distinguished from others."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import HeldOut, character_offsets, characters_of_tokens, other_works
from movieplotgpt.evaluation.intervals import (
    F64,
    I64,
    RESAMPLES,
    Interval,
    bits_per_character,
    bootstrap_interval,
    share_interval,
)
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.scoring import Scores, score_documents
from movieplotgpt.progress_bars import StageReport, silent
from movieplotgpt.records import Record
from movieplotgpt.text.sentences import word_spans
from movieplotgpt.text.tokenizer import Tokenizer

DISTANCES = (0, 100, 200, 400, 800, 1_600)  # characters from the header, each to the next
READ = 500  # characters of a plot that are read to find its title among others
CANDIDATES = 100


class LiftAt(Record):
    """Bits per character saved by the true title between two distances from the header, in characters."""

    begin: int
    end: int | None
    bits_per_character: float
    characters: int


class TitleLift(Record):
    """Bits per character that the true title saves: against another document's, and against the empty one.

    Intervals (95 %) resample works, both scores of each together. ``share_helped`` is the share of pairs (a
    document, another's title) in which the true title is the better one; by chance it is 0.5. ``words_masked`` leaves
    out every token of a word of the true title: what the title reveals beyond its own words.
    """

    bits_per_character: float
    interval: Interval | None
    against_empty: float
    against_empty_interval: Interval | None
    share_helped: float
    others: int
    seconds: float
    words_masked: float | None = None
    words_masked_interval: Interval | None = None
    by_distance: tuple[LiftAt, ...] = ()


class TitleRetrieval(Record):
    """How often the true title is first, and among the ten, of ``candidates`` titles by the likelihood of the plot.

    Only the first characters of each plot are read. By chance the shares are 1 and 10 of the candidates.
    """

    at_1: float
    at_1_interval: Interval | None
    at_10: float
    at_10_interval: Interval | None
    mean_reciprocal_rank: float
    candidates: int
    characters_read: int
    seed: int
    seconds: float


def title_lift(
    checkpoint: Checkpoint,
    held_out: HeldOut,
    own: Scores,
    *,
    others: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: StageReport = silent,
) -> TitleLift:
    """Return what the true title saves, given the scores ``own`` under it: each body is scored under other titles as well.

    Raises:
        DataError: there are too few works to exchange titles between.
    """
    began = time.monotonic()
    rng = np.random.default_rng(seed)
    saved = []  # for each exchange of titles and document: nats of each token
    for k in range(others):
        titles = [held_out.titles[i] for i in other_works(held_out.groups, rng)]
        scores = held_out.score(checkpoint, titles, partial(progress, f"other titles {k + 1}"))
        saved.append([other - true for other, true in zip(scores.bodies, own.bodies, strict=True)])
    empty = held_out.score(checkpoint, [""] * len(held_out.titles), partial(progress, "empty title"))
    sums = np.array([[tokens.sum() for tokens in each] for each in saved])
    mean = [np.mean(tokens, axis=0) for tokens in zip(*saved, strict=True)]
    characters = characters_of_tokens(checkpoint.tokenizer)
    seen, n_seen = _without_title_words(checkpoint.tokenizer, held_out, mean, characters)
    interval = partial(bootstrap_interval, works=held_out.groups, resamples=resamples, seed=seed)
    return TitleLift(
        bits_per_character=bits_per_character(sums.mean(0), held_out.n_characters),
        interval=interval(sums.mean(0), held_out.n_characters),
        against_empty=bits_per_character(empty.body - own.body, held_out.n_characters),
        against_empty_interval=interval(empty.body - own.body, held_out.n_characters),
        share_helped=float(((sums > 0) + 0.5 * (sums == 0)).mean()),
        others=others,
        words_masked=bits_per_character(seen, n_seen),
        words_masked_interval=interval(seen, n_seen),
        by_distance=_by_distance(held_out, own, mean, characters),
        seconds=round(time.monotonic() - began, 2),
    )


def title_retrieval(
    checkpoint: Checkpoint,
    held_out: HeldOut,
    *,
    candidates: int = CANDIDATES,
    seed: int = 0,
    progress: StageReport = silent,
) -> TitleRetrieval:
    """Score the beginnings of ``candidates`` plots, one of a work and drawn by ``seed``, under the titles of all.

    Raises:
        DataError: there are fewer than two works.
    """
    began = time.monotonic()
    _, one_of_each = np.unique(held_out.groups, return_index=True)
    rows = sorted(np.random.default_rng(seed).permutation(one_of_each)[:candidates].tolist())
    if len(rows) < 2:
        raise DataError("distinguishing titles needs at least two works; score more documents or leave this metric out")
    characters = characters_of_tokens(checkpoint.tokenizer)
    bodies = [held_out.bodies[i] for i in rows]
    begun = [body[: np.searchsorted(character_offsets(body, characters)[1:], READ, "right")] for body in bodies]
    headers = checkpoint.tokenizer.encode_batch([checkpoint.format.sentence(held_out.titles[i]) for i in rows])
    scores = score_documents(
        checkpoint.model,
        [(header, body) for body in begun for header in headers],
        checkpoint.tokenizer.end_id,
        progress=partial(progress, "every title for every plot"),
    )
    nats = (scores.body - scores.end).reshape(len(rows), len(rows))  # no plot ends where reading stops
    rank = title_ranks(nats)
    at_1, at_10 = float((rank <= 1).mean()), float((rank <= 10).mean())
    return TitleRetrieval(
        at_1=at_1,
        at_1_interval=share_interval(at_1, len(rows)),
        at_10=at_10,
        at_10_interval=share_interval(at_10, len(rows)),
        mean_reciprocal_rank=float((1 / rank).mean()),
        candidates=len(rows),
        characters_read=READ,
        seed=seed,
        seconds=round(time.monotonic() - began, 2),
    )


def title_ranks(nats: npt.NDArray[np.floating[Any]]) -> F64:
    """The rank of each plot's own title, from 1; ``nats[i, k]`` is of plot i under title k, and ties share ranks."""
    own = np.diagonal(nats)[:, None]
    return np.asarray((nats < own).sum(1) + ((nats == own).sum(1) + 1) / 2, np.float64)


def _without_title_words(tokenizer: Tokenizer, held_out: HeldOut, saved: list[F64], characters: I64) -> tuple[F64, I64]:
    """Nats saved, and characters, per document, of the tokens that touch no word of the title."""
    nats, counts = [], []
    for title, body, tokens in zip(held_out.titles, held_out.bodies, saved, strict=True):
        offsets = character_offsets(body, characters)
        masked = _touching(word_spans(title, tokenizer.decode(body)), offsets)
        nats.append(tokens[:-1][~masked].sum() + tokens[-1])
        counts.append(characters[body][~masked].sum())
    return np.array(nats), np.array(counts)


def _touching(spans: list[tuple[int, int]], offsets: I64) -> npt.NDArray[np.bool_]:
    """Return which tokens hold a character of a span."""
    within = np.zeros(offsets[-1] + 1, np.int64)
    for start, stop in spans:
        within[start + 1 : stop + 1] = 1
    touched = np.diff(np.cumsum(within)[offsets]) > 0
    begins = np.diff(offsets) > 0  # a token that continues a character belongs to the one before it
    return np.asarray(touched[np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))])


def _by_distance(held_out: HeldOut, own: Scores, saved: list[F64], characters: I64) -> tuple[LiftAt, ...]:
    """Return what is saved between each two of DISTANCES."""
    nats, counts = np.zeros(len(DISTANCES)), np.zeros(len(DISTANCES), np.int64)
    for body, window, tokens in zip(held_out.bodies, own.windows, saved, strict=True):
        offsets = character_offsets(body, characters)
        place = np.searchsorted(DISTANCES, offsets - offsets[window], "right") - 1
        np.add.at(nats, place, tokens)
        np.add.at(counts, place[:-1], characters[body])
    ends: list[int | None] = [*DISTANCES[1:], None]
    return tuple(
        LiftAt(begin=begin, end=end, bits_per_character=nat / math.log(2) / count, characters=count)
        for begin, end, nat, count in zip(DISTANCES, ends, nats.tolist(), counts.tolist(), strict=True)
        if count
    )

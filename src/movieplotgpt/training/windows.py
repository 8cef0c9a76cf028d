"""Documents -> training windows; the batch of a step is a pure function of (seed, step, rank).

A window is one row of a batch: the BOS token, then one or more pieces of documents, each after its own header. Long
documents continue in continuation windows (header again, overlap, new tokens), where all but the header and the first
tokens after it is learnt; short ones share a window. Which header a document gets
(hints, plan, title or empty title) is drawn anew each epoch, and so are the names of its people where asked. Some plans are
documents of their own as well, which teach the model to plan from a title.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import Field

from movieplotgpt.config import Settings
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.pieces import Piece, cut_pieces, fit_header, longest_header, overlap_for
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit
from movieplotgpt.training.renaming import Renamed, Renaming

Ids = np.ndarray[Any, Any]
NO_TARGET = -100
CUT_IN = (
    16  # tokens after the header of a continuation window that are not learnt, or the model would start in mid-sentence
)


class WindowSettings(Settings):
    """How often a document is shown without its hints or its title, and what it sees of others in its window."""

    no_title: float = Field(0.1, ge=0, le=1, description="Share of documents under the sentence with an empty title.")
    no_hints: float = Field(0.5, ge=0, le=1, description="Share of documents without any hint line.")
    plan: float = Field(0.75, ge=0, le=1, description="Share of documents shown with their plan, if they have one.")
    plan_alone: float = Field(
        0.5, ge=0, le=1, description="Share of documents whose plan is also trained on: from title to plan."
    )
    rename: float = Field(
        0.0, ge=0, le=1, description="Share of documents whose people get other names, drawn each epoch."
    )
    noise: float = Field(
        0.0, ge=0, lt=1, description="Share of input tokens replaced by others of their row, except in the plain tail."
    )
    separate: bool = Field(True, description="Documents that share a window do not see each other.")
    keep_hint: float = Field(0.7, ge=0, le=1, description="How often each hint of the other documents is kept.")


@dataclass(frozen=True)
class Batch:
    """Token ids, what comes next, and where the document of each token starts, all of shape (B, T).

    Ids and targets are int64, starts int32; targets are -100 where nothing is to be learnt.
    """

    ids_BT: Ids
    targets_BT: Ids
    starts_BT: Ids


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a document, or of its plan, and the header before it."""

    document: int
    piece: Piece
    hints: tuple[int, ...]
    with_title: bool
    of_plan: bool = False
    renamed: Renamed | None = None


Row = list[Part]


@dataclass(frozen=True)
class PlanTokens:
    """Which segment holds the plan line, and how many of its tokens are ``Plan:`` and the line break.

    ``request`` is the line that asks the model for a plan.
    """

    segment: int
    prefix: int
    suffix: int
    request: Ids

    @classmethod
    def of(cls, corpus: PreparedCorpus) -> PlanTokens | None:
        """Return those of a corpus, or None if it has no plans."""
        layout, encode = corpus.format, corpus.tokenizer.encode
        if not layout.has_plan:
            return None
        request = encode(layout.plan_request().removesuffix(layout.sentence()))
        return cls(layout.hints.index(PLAN), len(encode(f"{PLAN}:")), len(encode("\n")), request)


@dataclass(eq=False)
class TrainingWindows:
    """The windows of a training split.

    Raises:
        AssertionError: the context is shorter than the tests of ``RunConfig`` allow.
    """

    split: PreparedSplit
    _: KW_ONLY
    empty_sentence: Ids
    end_id: int
    context_length: int
    settings: WindowSettings
    seed: int
    plans: PlanTokens | None = None
    renaming: Renaming | None = None

    def __post_init__(self) -> None:
        self._first_row_of_epoch = [0]
        self._rows = lru_cache(maxsize=2)(self._make_rows)

    @classmethod
    def of(cls, corpus: PreparedCorpus, context_length: int, settings: WindowSettings, seed: int) -> TrainingWindows:
        """Those of a corpus' training split."""
        return cls(
            corpus.split("train"),
            empty_sentence=corpus.tokenizer.encode(corpus.format.sentence()),
            end_id=corpus.tokenizer.end_id,
            context_length=context_length,
            settings=settings,
            seed=seed,
            plans=PlanTokens.of(corpus),
            renaming=Renaming(corpus) if settings.rename else None,
        )

    def batch(self, step: int, batch_size: int, *, plain: bool = False, rank: int = 0, world_size: int = 1) -> Batch:
        """The share of ``rank`` in the batch of ``step``: rows rank, rank + world_size, ...

        ``plain`` leaves all hints but plans out (the last part of training, so that the plain prompt is at home).
        """
        wanted = range(step * batch_size + rank, (step + 1) * batch_size, world_size)
        ids = np.full((len(wanted), self.context_length + 1), self.end_id, dtype=np.int64)
        targets = np.full_like(ids, NO_TARGET)
        for i, row in enumerate(wanted):
            self._fill(ids[i], targets[i], self._row(row), plain)
            if self.settings.noise and not plain:
                self._disturb(ids[i, :-1], row)
        ids_BT = ids[:, :-1]
        return Batch(ids_BT, targets[:, 1:], self._starts(ids_BT))

    def _disturb(self, ids_T: Ids, row: int) -> None:
        """Replace some tokens, but no BOS tokens, by tokens drawn from the same row; targets stay."""
        random = np.random.default_rng([self.seed, row])
        others = random.choice(ids_T[ids_T != self.end_id], size=len(ids_T))
        chosen = (random.random(len(ids_T)) < self.settings.noise) & (ids_T != self.end_id)
        ids_T[chosen] = others[chosen]

    def _starts(self, ids_BT: Ids) -> Ids:
        """Return where each token's document starts: at its BOS token, which is the end token of the previous one."""
        begins = (ids_BT == self.end_id) & self.settings.separate
        places_T = np.arange(self.context_length, dtype=np.int32)
        return np.maximum.accumulate(np.where(begins, places_T, 0), axis=1, dtype=np.int32)

    def rows_in_epoch(self, epoch: int) -> int:
        """Return how many windows epoch ``epoch`` has."""
        return len(self._rows(epoch))

    def epoch_of(self, row: int) -> tuple[int, int]:
        """The epoch that holds the ``row``-th window of the whole training, and the window's number in it."""
        first = self._first_row_of_epoch
        while row >= first[-1]:
            first.append(first[-1] + self.rows_in_epoch(len(first) - 1))
        epoch = bisect_right(first, row) - 1
        return epoch, row - first[epoch]

    def _row(self, row: int) -> Row:
        epoch, index = self.epoch_of(row)
        return self._rows(epoch)[index]

    def _make_rows(self, epoch: int) -> list[Row]:
        random = np.random.default_rng([self.seed, epoch])
        parts = list(self._parts(random, epoch))
        packed = pack([length for _, length in parts], self.context_length)
        rows = [[parts[i][0] for i in row] for row in packed]
        return [rows[i] for i in random.permutation(len(rows))]

    def _parts(self, random: np.random.Generator, epoch: int) -> Iterator[tuple[Part, int]]:
        """The pieces of every document, each with the tokens it takes after the BOS token."""
        settings, plans, n_hints = self.settings, self.plans, len(self.split.hint_names)
        segments_NS = np.diff(self.split.offsets, axis=1)  # tokens of each hint line, of the sentence, of the body
        drawn = random.random((self.split.n_documents, 2 + n_hints + (plans is not None)))
        titled = drawn[:, 0] >= settings.no_title
        hints_NH = drawn[:, 2 : 2 + n_hints]
        kept_NH = (hints_NH < settings.keep_hint) & (drawn[:, 1:2] >= settings.no_hints)
        if plans:
            kept_NH[:, plans.segment] = hints_NH[:, plans.segment] < settings.plan
        kept_NH &= segments_NS[:, :n_hints] > 0
        renamed: dict[int, Renamed] = {}
        if self.renaming:
            chosen = np.flatnonzero(random.random(self.split.n_documents) < settings.rename)
            renamed = self.renaming.draw(chosen.tolist(), [self.seed, epoch])
            for document, other in renamed.items():
                segments_NS[document, -1] = len(other.body)
                if plans:
                    segments_NS[document, plans.segment] = len(other.plan)
        overlap, longest = overlap_for(self.context_length), longest_header(self.context_length)
        columns = (titled.tolist(), kept_NH.tolist(), segments_NS.tolist())
        for document, (with_title, kept, segments) in enumerate(zip(*columns, strict=True)):
            hints = tuple(k for k, keep in enumerate(kept) if keep)
            sentence = segments[n_hints] if with_title else len(self.empty_sentence)
            header = min(longest, sentence + sum(segments[k] for k in hints))
            for piece in cut_pieces(header, segments[-1] + 1, self.context_length, overlap):
                yield (
                    Part(document, piece, hints, with_title, renamed=renamed.get(document)),
                    header + piece.stop - piece.start,
                )
            if plans and segments[plans.segment] and drawn[document, -1] < settings.plan_alone:
                header = min(longest, sentence + len(plans.request))
                plan = segments[plans.segment] - plans.prefix - plans.suffix + 1
                piece = Piece(0, 0, min(plan, self.context_length - header))
                part = Part(document, piece, (), with_title, of_plan=True, renamed=renamed.get(document))
                yield part, header + piece.stop

    def _header(self, part: Part, plain: bool) -> Ids:
        if part.of_plan:
            assert self.plans is not None
            lines = [self.plans.request]
        else:
            shown = (k for k in part.hints if not plain or self._is_plan(k))
            lines = [self._plan(part) if self._is_plan(k) else self.split.segment(part.document, k) for k in shown]
        sentence = self.split.sentence(part.document) if part.with_title else self.empty_sentence
        return fit_header(np.concatenate([*lines, sentence]), self.context_length)

    def _body(self, part: Part) -> Ids:
        if not part.of_plan:
            return part.renamed.body if part.renamed else self.split.body(part.document)
        assert self.plans is not None
        return self._plan(part)[self.plans.prefix : -self.plans.suffix]

    def _is_plan(self, segment: int) -> bool:
        return self.plans is not None and segment == self.plans.segment

    def _plan(self, part: Part) -> Ids:
        """The tokens of the plan line."""
        assert self.plans is not None
        return part.renamed.plan if part.renamed else self.split.segment(part.document, self.plans.segment)

    def _fill(self, ids: Ids, targets: Ids, row: Row, plain: bool) -> None:
        """Lay the parts of a row one after the other; position 0 is the BOS token, which the row came with."""
        at = 1
        for part in row:
            header, body = self._header(part, plain), self._body(part)
            piece, at_body = part.piece, at + len(header)
            stop = at_body + piece.stop - piece.start
            ids[at:at_body] = header
            ids[at_body : at_body + min(piece.stop, len(body)) - piece.start] = body[piece.start : piece.stop]
            # a header is learnt once, an overlap each time it is read, but for the tokens that nothing leads to
            learn_from = at if piece.new == 0 else at_body + min(CUT_IN, piece.new - piece.start)
            targets[learn_from:stop] = ids[learn_from:stop]  # the end token is there already: rows come filled with it
            at = stop


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Put items of these lengths into rows of ``capacity``, longest first, each where it fits tightest.

    Source: best-fit decreasing, as in "Fewer truncations improve language modeling" (arXiv 2404.10830).
    """
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]  # by the room they have left
    rooms = 0  # bit r is set where a row with room r is open
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[item]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(item)
        open_rows[room - length].append(row)
        rooms |= 1 << (room - length)
    return rows


def too_small(corpus: PreparedCorpus, context_length: int) -> str | None:
    """One sentence when the training text does not fill one window, else None."""
    counts = corpus.manifest.splits["train"]
    tokens = counts.body_tokens + counts.header_tokens
    remedy = "give more text or a shorter model.context_length"
    problem = f"the training text has {tokens:,} tokens and a window {context_length:,}; {remedy}"
    return problem if tokens < context_length else None


def share_with_title(split: PreparedSplit, context_length: int) -> float:
    """The share of body tokens that have their whole title in the same window, in the windows as cut with all hints."""
    seen = total = 0
    for document in range(split.n_documents):
        sentence, body = split.sentence(document), split.body(document)
        header_len = len(sentence) + sum(len(split.segment(document, k)) for k in range(len(split.hint_names)))
        kept = min(longest_header(context_length), header_len)
        for piece in cut_pieces(kept, len(body) + 1, context_length, overlap_for(context_length)):
            total += piece.stop - piece.start
            seen += (piece.stop - piece.start) * (kept >= len(sentence) > 0)
    return seen / max(total, 1)

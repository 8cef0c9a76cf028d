"""Nats of a text under a model: the one place that sums a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.pieces import Piece, cut_pieces, fit_header, overlap_for

Ids: TypeAlias = npt.NDArray[np.integer[Any]]
F64: TypeAlias = npt.NDArray[np.float64]
I64: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Nats of documents, float64, token by token.

    ``headers[i]`` has one number for each header token that fits, ``bodies[i]`` one for each body token given the
    header, the end token last; ``windows[i]`` names for each of these the body token its window began with.
    """

    headers: list[F64]
    bodies: list[F64]
    windows: list[I64]

    @cached_property
    def header(self) -> F64:
        """Nats of each document's header."""
        return np.array([nats.sum() for nats in self.headers], np.float64)

    @cached_property
    def body(self) -> F64:
        """Nats of each document's body and end token, given the header."""
        return np.array([nats.sum() for nats in self.bodies], np.float64)

    @cached_property
    def end(self) -> F64:
        """Nats of each document's end token."""
        return np.array([nats[-1] for nats in self.bodies], np.float64)


@dataclass(frozen=True)
class _Row:
    """One window to score: the BOS token, the header, a piece of the body."""

    document: int
    ids: Ids
    header: int
    piece: Piece


@torch.no_grad()
def score_documents(
    model: GPT,
    documents: Sequence[tuple[Ids, Ids]],
    end_id: int,
    *,
    tokens_per_batch: int = 8192,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score each (header ids, body ids), neither holding the end token.

    Long bodies are scored in the windows they are trained in: the header again, then an overlap that is read but not
    counted, then new tokens. Every body token and the end token are counted exactly once. ``progress`` is told how many
    of all windows are done.
    """
    bodies = [np.zeros(len(body) + 1) for _, body in documents]
    headers = [np.zeros(len(fit_header(header, model.config.context_length))) for header, _ in documents]
    began_with = [np.zeros(len(nats), np.int64) for nats in bodies]
    was_training = model.training
    model.eval()
    done = 0
    windows = _rows(model.config.context_length, documents, end_id)
    for rows in _batches(windows, tokens_per_batch):
        for row, nats in zip(rows, _nats(model, [row.ids for row in rows]), strict=True):
            i, piece = row.document, row.piece
            if piece.new == 0:
                headers[i][:] = nats[: row.header]
            bodies[i][piece.new : piece.stop] = nats[row.header + piece.new - piece.start : len(row.ids) - 1]
            began_with[i][piece.new : piece.stop] = piece.start
        done += len(rows)
        if progress:
            progress(done, len(windows))
    model.train(was_training)
    return Scores(headers, bodies, began_with)


def _rows(context_length: int, documents: Sequence[tuple[Ids, Ids]], end_id: int) -> list[_Row]:
    end = np.array([end_id], dtype=np.int64)
    rows = []
    for i, (header_ids, body_ids) in enumerate(documents):
        header = fit_header(header_ids, context_length)
        body = np.concatenate([body_ids, end])
        for piece in cut_pieces(len(header), len(body), context_length, overlap_for(context_length)):
            ids = np.concatenate([end, header, body[piece.start : piece.stop]]).astype(np.int64)
            rows.append(_Row(i, ids, len(header), piece))
    return rows


def _batches(rows: list[_Row], tokens_per_batch: int) -> Iterator[list[_Row]]:
    """Rows of about the same length together, so that little is padding; longest first: memory peaks at once."""
    rows = sorted(rows, key=lambda row: -len(row.ids))
    while rows:
        count = max(1, tokens_per_batch // len(rows[0].ids))
        yield rows[:count]
        rows = rows[count:]


def _nats(model: GPT, rows: list[Ids]) -> F64:
    """Negative log-likelihood (B, T) of each token after the first, float64; padding scores whatever it scores."""
    ids_BT = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row)] = row
    ids = torch.from_numpy(ids_BT).to(model.model.embed_tokens.weight.device)
    logits_BTV = model(ids[:, :-1])
    nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2), ids[:, 1:], reduction="none")
    return np.asarray(nats_BT.cpu().double().numpy())

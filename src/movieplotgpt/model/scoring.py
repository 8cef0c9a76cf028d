"""Nats of a text under a model: the one place that sums a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.formatting import cut_pieces, fit_header, overlap_for

Ids = np.ndarray


@dataclass(frozen=True)
class Scores:
    """Nats per document, float64: of the header; of body and end token given the header; of the end token alone."""

    header: np.ndarray
    body: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class _Row:
    """One window to score: tokens from the begin token on.

    Predictions before ``body_from`` are header; those from there to ``new_from`` are not counted.
    """

    document: int
    ids: np.ndarray
    body_from: int
    new_from: int
    first: bool
    last: bool


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
    header, body, end = np.zeros((3, len(documents)))
    was_training = model.training
    model.eval()
    done = 0
    windows = _rows(model.config.context_length, documents, end_id)
    for rows in _batches(windows, tokens_per_batch):
        nats = _nats(model, [row.ids for row in rows])
        for row, row_nats in zip(rows, nats, strict=True):
            if row.first:
                header[row.document] += row_nats[: row.body_from].sum()
            body[row.document] += row_nats[row.new_from : len(row.ids) - 1].sum()
            if row.last:
                end[row.document] = row_nats[len(row.ids) - 2]
        done += len(rows)
        if progress:
            progress(done, len(windows))
    model.train(was_training)
    return Scores(header, body, end)


def _rows(context_length: int, documents: Sequence[tuple[Ids, Ids]], end_id: int) -> list[_Row]:
    end = np.array([end_id], dtype=np.int64)
    rows = []
    for i, (header_ids, body_ids) in enumerate(documents):
        header = fit_header(header_ids, context_length)
        body = np.concatenate([body_ids, end])
        for piece in cut_pieces(len(header), len(body), context_length, overlap_for(context_length)):
            ids = np.concatenate([end, header, body[piece.start : piece.stop]]).astype(np.int64)
            new_from = len(header) + piece.new - piece.start
            first, last = piece.new == 0, piece.stop == len(body)
            rows.append(_Row(i, ids, len(header), new_from, first, last))
    return rows


def _batches(rows: list[_Row], tokens_per_batch: int) -> Iterator[list[_Row]]:
    """Rows of about the same length together, so that little is padding; longest first: memory peaks at once."""
    rows = sorted(rows, key=lambda row: -len(row.ids))
    while rows:
        count = max(1, tokens_per_batch // len(rows[0].ids))
        yield rows[:count]
        rows = rows[count:]


def _nats(model: GPT, rows: list[np.ndarray]) -> np.ndarray:
    """Negative log-likelihood (B, T) of each token after the first, float64; padding scores whatever it scores."""
    ids_BT = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for i, row in enumerate(rows):
        ids_BT[i, : len(row)] = row
    ids = torch.from_numpy(ids_BT).to(model.model.embed_tokens.weight.device)
    logits_BTV = model(ids[:, :-1])
    nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2), ids[:, 1:], reduction="none")
    return np.asarray(nats_BT.cpu().double().numpy())

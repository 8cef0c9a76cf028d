"""Cut a document's body into pieces that fit the context after their header: for training, scoring and generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

IdsT = TypeVar("IdsT", list[int], np.ndarray[Any, Any])


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document's body (end token counted in) that goes into one window after the header.

    Tokens ``[start, new)`` are the overlap, which scoring does not count again; ``[new, stop)`` are new.
    """

    start: int
    new: int
    stop: int


def overlap_for(context_length: int) -> int:
    """Return how many tokens a continuation window repeats: a quarter of the context."""
    return context_length // 4


def longest_header(context_length: int) -> int:
    """Return how many tokens of a header a window holds: half the context."""
    return context_length // 2


def fit_header(header_ids: IdsT, context_length: int) -> IdsT:
    """Return ``header_ids``, or its last tokens if it is longer than ``longest_header``."""
    return header_ids[-longest_header(context_length) :]


def cut_pieces(header_len: int, body_len: int, context_length: int, overlap: int) -> list[Piece]:
    """Cut a body of ``body_len`` tokens, its end token included, into pieces that fit a context after their header.

    A window is the BOS token, the header, and a piece; a model that reads ``context_length`` tokens predicts the
    last of ``context_length + 1``, so a window may be that long. The first piece opens the body; each later one repeats
    the last ``overlap`` tokens of the piece before.
    """
    room = context_length - header_len
    assert room > overlap >= 0, f"a header of {header_len} tokens leaves no room in {context_length}"
    pieces = [Piece(0, 0, min(room, body_len))]
    while pieces[-1].stop < body_len:
        new = pieces[-1].stop
        start = max(0, new - overlap)
        pieces.append(Piece(start, new, min(start + room, body_len)))
    return pieces

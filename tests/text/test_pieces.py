"""How a body is cut into pieces, and a long header shortened."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.text.pieces import Piece, cut_pieces, fit_header, longest_header, overlap_for

CONTEXTS = st.integers(32, 300)  # ``SizeSettings`` allows no shorter one


@given(st.integers(0, 400), CONTEXTS)
def test_a_long_header_keeps_its_end(length: int, context_length: int) -> None:
    header = list(range(length))
    kept = fit_header(header, context_length)
    assert len(kept) == min(length, longest_header(context_length))
    assert kept == header[length - len(kept) :]
    assert fit_header(np.array(header, dtype=np.uint32), context_length).tolist() == kept


@given(CONTEXTS)
def test_the_longest_header_leaves_room_for_new_tokens(context_length: int) -> None:
    header = longest_header(context_length)
    assert header == context_length // 2
    pieces = cut_pieces(header, 3 * context_length, context_length, overlap_for(context_length))
    assert all(piece.stop > piece.new for piece in pieces)


@pytest.mark.parametrize(
    ("header", "body", "overlap", "pieces"),
    [
        (8, 1, 8, [(0, 0, 1)]),
        (8, 24, 8, [(0, 0, 24)]),  # 32 of context less 8 of header are room for 24
        (8, 25, 8, [(0, 0, 24), (16, 24, 25)]),
        (8, 60, 8, [(0, 0, 24), (16, 24, 40), (32, 40, 56), (48, 56, 60)]),
        (8, 60, 0, [(0, 0, 24), (24, 24, 48), (48, 48, 60)]),
        (0, 70, 8, [(0, 0, 32), (24, 32, 56), (48, 56, 70)]),
    ],
)
def test_pieces_fill_the_room_and_repeat_the_overlap(
    header: int, body: int, overlap: int, pieces: list[tuple[int, int, int]]
) -> None:
    assert cut_pieces(header, body, 32, overlap) == [Piece(*each) for each in pieces]


@given(CONTEXTS, st.data())
def test_every_token_of_a_body_is_new_in_one_piece(context_length: int, data: st.DataObject) -> None:
    header = data.draw(st.integers(0, longest_header(context_length)))
    body, overlap = data.draw(st.integers(1, 5 * context_length)), overlap_for(context_length)
    pieces = cut_pieces(header, body, context_length, overlap)
    assert [place for piece in pieces for place in range(piece.new, piece.stop)] == list(range(body))
    assert pieces[0].start == 0 and all(piece.start == piece.new - overlap for piece in pieces[1:])
    assert all(header + piece.stop - piece.start == context_length for piece in pieces[:-1])
    assert header + pieces[-1].stop - pieces[-1].start <= context_length

"""A header takes half the context at most, and keeps its end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.text.formatting import cut_pieces, fit_header, longest_header, overlap_for

CONTEXTS = st.integers(32, 300)  # ``SizeSettings`` allows no shorter one


@given(st.integers(0, 400), CONTEXTS)
def test_a_header_that_fits_is_kept_whole_and_of_a_longer_one_the_end(length: int, context_length: int) -> None:
    header = list(range(length))
    kept = fit_header(header, context_length)
    assert len(kept) == min(length, longest_header(context_length))
    assert kept == header[length - len(kept) :]
    assert fit_header(np.array(header, dtype=np.uint32), context_length).tolist() == kept


@given(CONTEXTS)
def test_behind_the_longest_header_is_room_for_what_is_new(context_length: int) -> None:
    header = longest_header(context_length)
    assert header == context_length // 2
    pieces = cut_pieces(header, 3 * context_length, context_length, overlap_for(context_length))
    assert all(piece.stop > piece.new for piece in pieces)

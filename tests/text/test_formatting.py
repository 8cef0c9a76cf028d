"""How a document is laid out, and how it is cut: a header takes half the context at most, and keeps its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.config import build_settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.text.formatting import (
    PLAN,
    DocumentFormat,
    Piece,
    cut_pieces,
    fit_header,
    longest_header,
    overlap_for,
)

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


FILMS = DocumentFormat(header="The plot of '{Title}' is:", hints=("Decade", "Genre"))


def test_a_header_is_its_known_hints_and_the_sentence() -> None:
    hints = {"Genre": "crime,\n drama", "Decade": "1970s", "Origin": "French", "Empty": ""}
    assert FILMS.header_lines("Mars,  Texas", hints) == [
        "Decade: 1970s\n",
        "Genre: crime, drama\n",
        "The plot of 'Mars, Texas' is:\n",
    ]
    assert FILMS.header_lines("", {"Decade": ""}) == [FILMS.sentence()] == ["The plot of '' is:\n"]
    assert FILMS.header_text("X", hints) == "".join(FILMS.header_lines("X", hints))
    assert FILMS.title_in(FILMS.header_text("Who's 'X' is:", hints)) == "Who's 'X' is:"
    plain = DocumentFormat()
    assert (plain.title_column, plain.sentence("X"), plain.header_lines("X", hints)) == (None, "", [])
    assert FILMS.title_column == "Title" and not FILMS.has_plan


@pytest.mark.parametrize("ending", ["", " ", "\t ", "\n", " \r\n ", "\\n", " \\n\t"])
@pytest.mark.parametrize("hints", ["", "Genre: crime\n", "Decade: 1970s\nGenre: crime, drama\n"])
def test_a_free_prompt_is_split_after_its_sentence(hints: str, ending: str) -> None:
    for begun in ("A sheriff", "") if ending else ("",):
        prompt = f"  {hints}The plot of 'He said 'no' is: yes' is:{ending}{begun}"
        assert FILMS.split_prompt(prompt) == (f"{hints}The plot of 'He said 'no' is: yes' is:\n", begun)


@pytest.mark.parametrize(
    "prompt", ["A sheriff", "The plot of 'X", "Year: 1970\nThe plot of 'X' is:", "Say: The plot of 'X' is:"]
)
def test_a_prompt_without_the_sentence_is_all_body(prompt: str) -> None:
    assert FILMS.split_prompt(prompt) == ("", prompt)
    assert DocumentFormat().split_prompt(f"The plot of 'X' is: {prompt}") == ("", f"The plot of 'X' is: {prompt}")


def test_a_format_fits_another_table() -> None:
    other = FILMS.for_table("Name", ["Genre", "Decade", "Studio"], plan=True)
    assert (other.header, other.hints) == ("The plot of '{Name}' is:", ("Decade", "Genre", PLAN))
    assert other.has_plan and other.plan_request("X") == "Plan: ?\nThe plot of 'X' is:\n"
    assert other.for_table("Name", [], plan=True).hints == other.for_table("Name", []).hints == (PLAN,)
    assert FILMS.for_table(None, []) == FILMS.model_copy(update={"hints": ()})
    assert DocumentFormat().for_table(None, ["Genre"]) == DocumentFormat()
    with pytest.raises(ConfigError, match="this model was trained on text without titles"):
        DocumentFormat().for_table("Title", [])


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"header": "The plot is:"}, "a header needs exactly one {Placeholder} for the title"),
        ({"header": "'{A}' and '{B}' are:"}, "a header needs exactly one {Placeholder} for the title"),
        ({"header": "The plot\nof '{A}' is:"}, "a header is one line without spaces around it"),
        ({"header": "'{A}' is: "}, "a header is one line without spaces around it"),
        ({"hints": [PLAN, "Genre"]}, "must be the last hint"),
        ({"end": ""}, "end"),
    ],
)
def test_a_layout_that_cannot_be_read_back_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_settings(DocumentFormat, values)

"""Hints: how a cell is read, which values are usual, and that none is given twice."""

from __future__ import annotations

import pytest

from movieplotgpt.errors import PromptError
from movieplotgpt.text.hints import (
    LONGEST_USUAL,
    USUAL,
    DecadeHint,
    HintSettings,
    ListHint,
    TextHint,
    hint_settings,
    join_hints,
    usual_values,
)


@pytest.mark.parametrize(
    ("cell", "decade"),
    [("1974", "1970s"), ("1974.0", "1970s"), ("12 May 2001", "2000s"), ("74", ""), ("19745", ""), ("no year", "")],
)
def test_a_year_becomes_its_decade(cell: str, decade: str) -> None:
    assert DecadeHint(column="Year").value(cell) == decade


def test_labels_are_found_by_their_words_in_the_cells_order() -> None:
    hint = ListHint(
        column="Genre",
        most=2,
        labels={"romance": ("romantic",), "comedy": (), "science fiction": ("sci-fi",), "war": ("world war ii",)},
    )
    assert hint.value("Romantic Comedy / war") == "romance, comedy"
    assert hint.value("Sci-Fi") == "science fiction"
    assert hint.value("World War II, war") == "war"
    assert hint.value("warlike") == ""


def test_labels_without_a_list_are_what_commas_and_slashes_divide() -> None:
    assert ListHint(column="Genre", most=3).value("B / a;b ,, C, d") == "b, a, c"


def test_underscores_of_a_text_hint_are_blanks() -> None:
    assert TextHint(column="Origin").value("South_Korean ") == "South Korean"


def test_usual_values_are_the_most_frequent() -> None:
    settings: dict[str, HintSettings] = {
        "Cuisine": TextHint(column="c"),
        "Diet": ListHint(column="d"),
        "Year": DecadeHint(column="y"),
    }
    documents = [
        {"Cuisine": "Thai, Lao", "Diet": "vegan, raw", "Year": "1990s"},
        {"Cuisine": "Thai, Lao", "Diet": "vegan", "Year": "1990s"},
        {"Cuisine": "Greek", "Diet": "raw, vegan", "Year": "1950s"},
        {"Year": "1950s", "Other": "x"},
        {"Year": "1950s", "Other": "x"},
    ]
    assert usual_values(documents, ["Cuisine", "Diet", "Year", "Never"], settings) == {
        "Cuisine": ("Thai, Lao",),  # Greek occurs once
        "Diet": ("vegan", "raw"),
        "Year": ("1950s", "1990s"),
        "Never": (),
    }
    many = [{"Cuisine": str(number)} for number in range(USUAL + 1) for _ in range(2)]
    assert len(usual_values(many, ["Cuisine"], {})["Cuisine"]) == USUAL


@pytest.mark.parametrize("settings", [None, [], {}, {"corpus": None}, {"corpus": {"hints": {"Year": {"kind": "x"}}}}])
def test_settings_that_do_not_say_how_hints_are_read(settings: object) -> None:
    assert hint_settings(settings) == {}


@pytest.mark.parametrize(
    ("values", "order"),
    [
        (("30", "5", "120", "15"), ("5", "15", "30", "120")),
        (("1,200 m", "90 m", "8.5 m"), ("8.5 m", "90 m", "1,200 m")),
        (("30", "five"), ("30", "five")),
    ],
)
def test_usual_values_that_begin_with_numbers_are_in_their_order(
    values: tuple[str, ...], order: tuple[str, ...]
) -> None:
    documents = [{"Minutes": value} for value in values for _ in range(2)]
    assert usual_values(documents, ["Minutes"], {})["Minutes"] == order


def test_a_long_value_is_not_usual() -> None:
    documents = [{"Cuisine": "x" * length} for length in (LONGEST_USUAL + 1, LONGEST_USUAL) for _ in range(3)]
    assert usual_values(documents, ["Cuisine"], {})["Cuisine"] == ("x" * LONGEST_USUAL,)


def test_no_hint_is_given_twice() -> None:
    assert join_hints([("Decade", "1970s"), ("Genre", "crime")]) == {"Decade": "1970s", "Genre": "crime"}
    with pytest.raises(PromptError, match="the hint decade is given twice; give it once"):
        join_hints([("Decade", "1970s"), ("decade", "1980s")])

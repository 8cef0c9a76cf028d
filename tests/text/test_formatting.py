"""How a document is laid out."""

from __future__ import annotations

from typing import Any

import pytest

from movieplotgpt.config import build_settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.text.formatting import PLAN, DocumentFormat

FILMS = DocumentFormat(header="The plot of '{Title}' is:", hints=("Decade", "Genre"))


def test_a_header_is_its_known_hints_and_the_sentence() -> None:
    hints = {"Genre": "crime,\n drama", "Decade": "1970s", "Origin": "French", "Empty": ""}
    assert FILMS.header_lines("Mars,  Texas", hints) == [
        "Decade: 1970s\n",
        "Genre: crime, drama\n",
        "The plot of 'Mars, Texas' is:\n",
    ]
    assert FILMS.header_lines("", {"Decade": "", "Genre": " \n"}) == [FILMS.sentence()] == ["The plot of '' is:\n"]
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

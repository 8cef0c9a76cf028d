"""Cleaning does what its settings say, once: a clean text stays as it is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from movieplotgpt.text import cleaning
from movieplotgpt.text.cleaning import (
    CleaningSettings,
    clean_documents,
    clean_text,
    fold_ascii,
    fold_prompt,
    repair_quotes,
)
from movieplotgpt.text.formatting import END_OF_PLOT, Document

PLOTS = CleaningSettings(ascii=True, footnotes=True)
EVERYTHING = CleaningSettings(ascii=True, footnotes=True, broken_quotes=True)
LOST = "\ufffd" * 3


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("one\r\n\r\ntwo\rthree", "one\ntwo\nthree"),
        ("  a  \n \t\n\n  b\n", "a\n  b"),
        ("He left.[1][23] She stayed [citation needed].", "He left. She stayed."),
        ("x[Note 2] y [nb 1], z [who?] [Better\xa0source\xa0needed]", "x y, z"),
        ("done.[a] to [a] man, [b]oy, [sic] [1984 film]", "done. to [a] man, [b]oy, [sic] [1984 film]"),
        ("caf\u00e9 \u2014 \u201cna\u00efve\u201d\u2026", 'cafe - "naive"...'),
        (f"a{END_OF_PLOT}b", "ab"),
        (f"END_OF{END_OF_PLOT}_PLOT", ""),
        ("END_OF_\u200bPLOT", ""),  # folding makes it one
        ("[1[2]]", ""),
    ],
)
def test_plots_are_cleaned(text: str, cleaned: str) -> None:
    assert clean_text(text, PLOTS) == cleaned


def test_by_default_a_text_in_any_language_keeps_its_characters() -> None:
    text = "\u0130stanbul'da bir g\u00fcn [1]\n\u6620\u753b\u306e\u3042\u3089\u3059\u3058"
    assert clean_text(text, CleaningSettings()) == text


def test_a_protocol_can_keep_every_character() -> None:
    text = " \r\n a \n\n\n b \n"
    assert clean_text(text, CleaningSettings(line_breaks=False, spaces=False)) == text


def test_replacements_come_first_and_changes_are_counted() -> None:
    counts: Counter[str] = Counter()
    settings = EVERYTHING.model_copy(update={"replace": {"clich\ufffd\ufffd": "cliche"}})
    text = clean_text(f"a clich\ufffd\ufffd\r\n\r\nthat{LOST}s \u00e9\u00e9.[1] {END_OF_PLOT}", settings, counts=counts)
    assert text == "a cliche\nthat's ee."
    assert counts == {
        "replacements": 1,
        "line breaks": 2,
        "broken quotes": 1,
        "characters folded": 2,
        "footnote marks": 1,
        "end markers": 1,
        "blank lines": 1,
        "lines with trailing blanks": 0,
    }


@given(
    text=st.text()
    | st.lists(
        st.sampled_from(
            [
                "[1]",
                "[",
                "]",
                "1",
                END_OF_PLOT,
                "END_OF_",
                "PLOT",
                "\n",
                "\r",
                " ",
                "\xa0",
                "\u200b",
                "\u00e9",
                "\ufffd",
                "a",
                ".",
                "\uff3b",
            ]
        )
    ).map("".join)
)
@example(text="[\u200b1]")
@example(text="\x1c\n\x85 ")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean_text(text, EVERYTHING)
    assert clean_text(once, EVERYTHING) == once
    assert once.isascii() and END_OF_PLOT not in once and "\r" not in once and once == once.strip()


@given(text=st.text())
def test_folding_touches_only_what_is_outside_ascii(text: str) -> None:
    folded = fold_ascii(text)
    assert folded.isascii()
    kept = "".join(character for character in text if character.isascii())
    rest = iter(folded)
    assert all(character in rest for character in kept)  # a subsequence


def test_titles_and_hints_are_cleaned_too_on_one_line() -> None:
    document = Document("body", "Am\u00e9lie\r\n(film)[1]", {"Origin": "C\u00f4te  d'Ivoire"})
    [cleaned], counts = clean_documents([document], PLOTS)
    assert cleaned.title == "Amelie (film)"
    assert cleaned.hints == {"Origin": "Cote d'Ivoire"}
    assert counts["footnote marks"] == 1


def test_a_prompt_is_folded_and_says_how() -> None:
    prompt = "The 'Caf\u00e9 \u2018Zo\u00e9\u2019'\r\n"
    assert fold_prompt(prompt, PLOTS) == ("The 'Cafe 'Zoe''\n", ["\u00e9\u2192e", "\u2018\u2192'", "\u2019\u2192'"])
    assert fold_prompt("Zo\u00e9", CleaningSettings()) == ("Zo\u00e9", [])
    assert fold_prompt("plain", PLOTS) == ("plain", [])


@pytest.mark.parametrize(
    ("line", "repaired"),
    [
        ("I don_t know, O_Brien, it_s y_all_s.", "I don't know, O'Brien, it's y'all's."),
        ("C_mon, we_re s_posed to.", "C'mon, we're s'posed to."),
        ("He said _Stop it._ Twice.", 'He said "Stop it." Twice.'),
        ("[sings _Moon_], a _boat_, _what?_", '[sings "Moon"], a "boat", "what?"'),
        ("_Cause I told _em in _95.", "'Cause I told 'em in '95."),
        ("I_m doin_ fine, the kids_ room.", "I'm doin' fine, the kids' room."),
        ("I was just_", "I was just..."),
        ("Um_ I think_I know_ [leaves]", "Um... I think...I know... [leaves]"),
        ("Chapter 2 _ the guests", "Chapter 2 - the guests"),
        ("Ada: _ bad.", "Ada: ... bad."),
        ("a 4_11_ man", "a 4'11' man"),
        ("this is_ great again_ and", "this is... great again... and"),
    ],
)
def test_lost_marks_are_repaired_by_what_stands_around_them(line: str, repaired: str) -> None:
    assert repair_quotes(line.replace("_", LOST)) == repaired


def test_two_lost_bytes_are_a_hard_blank_or_a_letter() -> None:
    two = "\ufffd" * 2
    assert repair_quotes(f"Yes. {two}Well, wait.{two} No. [shuts]{two}door") == "Yes. Well, wait. No. [shuts] door"
    assert repair_quotes(f"se{two}or") == "seor"
    assert repair_quotes(f"ex-fianc{two}{LOST}s") == "ex-fianc's"
    assert repair_quotes(f"left.{two}{two} Then") == "left. Then"


def test_the_hash_follows_the_settings() -> None:
    assert PLOTS.hash() == CleaningSettings(footnotes=True, ascii=True).hash()
    assert PLOTS.hash() != CleaningSettings(ascii=True).hash()


def test_folding_cache_is_bounded_by_characters() -> None:
    before = cleaning._transliterated.cache_info().currsize
    for number in range(1, 50):
        run = "\u03b1\u03bf" * number
        assert fold_ascii(run) == "ao" * number
    after = cleaning._transliterated.cache_info()
    assert after.currsize <= before + 2 and after.maxsize == 65536

"""Names, unknown words, loops and speakers are counted as a reader would."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.errors import MissingExtraError
from movieplotgpt.evaluation import words
from movieplotgpt.text.sentences import lower_case_words, word_spans

PLOT = (
    "Ottoline, a diver, meets Quentin Marsh at the harbour. Later Quentin sells Ottoline's boat (played by Zelda Moor) "
    "to a judge. The judge tells Marsh that I was right. After dawn nobody finds Ottoline."
)


def test_names_are_found_where_a_reader_sees_them() -> None:
    names = words.name_mentions(PLOT)
    assert names == ["Ottoline", "Quentin", "Marsh", "Quentin", "Ottoline", "Marsh", "Ottoline"]
    assert words.name_mentions("After the war. The end. Nobody knows.") == []
    assert words.names_per_text([PLOT, "no name"]).value == 1.5
    assert words.names_that_return([PLOT]).value == 1
    assert words.names_that_return([f"{PLOT} Ines waits."]).value == pytest.approx(7 / 8)
    assert words.names_that_return([]).value == words.names_per_text([]).value == 0


def test_names_that_meet_themselves() -> None:
    met = "Brill tells Brill of Ottoline and Ottoline. Marsh, Marsh's son, sees Marsh. The man meets the man."
    assert words.self_meetings([met]).value == 2
    assert words.self_meetings([PLOT, met]).value == 1
    assert words.self_meetings(["Ann loves Anna. Duran Duran plays New York. Brill tells brill."]).value == 0


def test_sentences_with_one_name_three_times() -> None:
    crowded = "Brill asks Brill why he, Brill, left. Ottoline meets Quentin, who left Ottoline."
    assert words.crowded_sentences([crowded]).value == 0.5
    assert words.crowded_sentences([PLOT]).value == 0
    assert words.crowded_sentences([PLOT, crowded]).value == pytest.approx(1 / 6)


def test_share_of_the_most_frequent_name() -> None:
    assert words.top_name_share([PLOT]).value == pytest.approx(3 / 7)
    assert words.top_name_share([PLOT, "no name", "Then Brill tells Brill."]).value == pytest.approx((3 / 7 + 1) / 2)


def test_shared_openings() -> None:
    texts = ["The story is old.", "The story is new.", "The story was told.", ""]
    assert words.shared_openings(texts).value == 0.5


def test_title_words() -> None:
    titles = ["The Lantern of Mars", "Mars"]
    texts = ["A lantern. Lanterns on mars, a LANTERN.\nThe end. A lantern, a lantern.", "Nobody lives there."]
    found = words.title_words(titles, texts)
    assert found["title_words"].value == pytest.approx(100 * 5 / 16)
    assert found["title_sentences"].value == pytest.approx(3 / 5)
    assert [found[f"title_word_{least}"].value for least in (4, 6, 9)] == [0.5, 0, 0]


def test_words_that_english_lacks() -> None:
    found = lower_case_words("The divver finds a lantern, prostinally broken.")
    assert found == ["divver", "finds", "lantern", "prostinally", "broken"]
    assert words.unknown_to_english(found) == {"divver", "prostinally"}


def test_loops_are_found() -> None:
    loop = "he finds the map and " * 5
    assert words.repeated_spans([loop]).value > 0.7
    assert words.repeated_spans([PLOT]).value == 0
    assert words.repeated_spans(["too short"]).value == words.repeated_spans([]).value == 0


def test_labels_say_who_speaks() -> None:
    assert words.labels("Ada: The map?\n\nBruno: Gone.\nThe lights go out.") == ["Ada", "Bruno", None]


def test_the_words_of_a_title_are_left_out() -> None:
    assert words.without_words_of("Mars, Texas", "On MARS, in Texas: martial law. mars") == "On , in : martial law. "


@given(st.text("ab B,", max_size=8), st.text("ab B,", max_size=30))
def test_only_words_of_the_title_are_left_out(title: str, text: str) -> None:
    kept = words.without_words_of(title, text)
    spans = word_spans(title, text)
    assert len(kept) == len(text) - sum(stop - start for start, stop in spans)
    assert all(text[start:stop].lower() in title.lower() for start, stop in spans)


def test_without_the_library_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(MissingExtraError, match="wordfreq"):
        words.name_mentions(PLOT)

"""The same work under any name lands in one group, and nothing else does."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.text import duplicates
from movieplotgpt.text.duplicates import (
    DuplicateSettings,
    drop_repeats,
    group_documents,
    normalise_title,
    shingle_pairs,
)
from movieplotgpt.text.formatting import Document

SETTINGS = DuplicateSettings()
WORDS = [f"w{i}" for i in range(500)]


def _prose(seed: int, n_words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n_words))


def _groups(documents: list[Document], settings: DuplicateSettings = SETTINGS) -> list[set[int]]:
    groups = group_documents(documents, settings)
    return [set(np.flatnonzero(groups.of == group).tolist()) for group in range(len(groups.keys))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Mummy", "Mummy (1999 film)"),
        ("The Mummy", "the mummy (film)"),
        ("Ocean's Eleven", "Oceans  Eleven!"),
        ("A Star Is Born", "Star Is Born (1937)"),
    ],
)
def test_titles_of_remakes_are_the_same(one: str, other: str) -> None:
    assert normalise_title(one) == normalise_title(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [("\u0926\u093f\u0932", "\u0926\u093e\u0932"), ("\u0e01\u0e34\u0e19", "\u0e01\u0e38\u0e19")],
)
def test_vowel_marks_are_part_of_a_title(one: str, other: str) -> None:
    assert normalise_title(one) != normalise_title(other)


@pytest.mark.parametrize("title", ["1984", "The", "2012 (film)", "A"])
def test_a_title_of_nothing_else_is_kept(title: str) -> None:
    assert normalise_title(title)


def test_titles_that_differ_stay_apart() -> None:
    assert len({normalise_title(t) for t in ["Jaws", "Jaws 2", "Jaws (Part 3)", "\u6620\u753b", "\u706f\u53f0"]}) == 5


def test_each_link_joins() -> None:
    documents = [
        Document(_prose(1), "One"),
        Document(_prose(1), "Same Text As One"),
        Document(_prose(2), "Two", page="http://x"),
        Document(_prose(3), "Same Page As Two", page="http://x"),
        Document(_prose(4), "Four (1931 film)"),
        Document(_prose(5), "Four"),
        Document(_prose(6) + _prose(7), "Six"),
        Document(_prose(8) + " " + _prose(7)[: -len(_prose(7)) // 2], "Shares A Part With Six"),
        Document(_prose(9), "Alone"),
    ]
    assert _groups(documents) == [{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8}]
    groups = group_documents(documents, SETTINGS)
    assert groups.links == {"same text": 1, "same page": 1, "same title": 1, "shared shingles": 1}
    assert groups.largest() == [0, 1]


def test_untitled_documents_without_pages_are_not_one_work() -> None:
    assert len(_groups([Document("short one"), Document("short two")])) == 2


def test_a_changed_word_here_and_there_does_not_hide_a_copy() -> None:
    words = _prose(1, 600).split()
    for i in range(0, 600, 40):
        words[i] = "CHANGED"
    assert _groups([Document(_prose(1, 600)), Document(" ".join(words).upper() + "!")]) == [{0, 1}]


def test_the_order_of_rows_changes_neither_groups_nor_their_names() -> None:
    documents = [Document(_prose(i % 7) + (f" {i}" if i % 3 else ""), f"T{i % 11}") for i in range(40)]
    order = random.Random(0).sample(range(40), 40)
    straight, shuffled = (group_documents(d, SETTINGS) for d in (documents, [documents[i] for i in order]))
    assert [shuffled.keys[g] for g in shuffled.of] == [straight.keys[straight.of[i]] for i in order]


def test_stock_phrases_join_nobody() -> None:
    phrase = _prose(99, 30)
    documents = [Document(f"{_prose(i)} {phrase} {_prose(i + 100)}") for i in range(8)]
    assert len(_groups(documents, SETTINGS)) == 1
    assert len(_groups(documents, SETTINGS.model_copy(update={"common": 7}))) == 8


def test_chains_of_shared_text_stop_at_the_largest_group() -> None:
    documents = [Document(_prose(i, 60) + " " + _prose(i + 1, 60)) for i in range(30)]
    groups = group_documents(documents, SETTINGS.model_copy(update={"largest_group": 5}))
    assert max(np.bincount(groups.of)) <= 5 and groups.refused > 0
    assert len(group_documents(documents, SETTINGS).keys) == 1


def test_thresholds_are_what_they_say() -> None:
    """36 words hold 24 shingles of 13; each document has 200 - 12 of its own."""
    shared = _prose(99, 36)
    bodies = [f"{shared} {_prose(1, 164)}", f"{shared} {_prose(2, 164)}"]
    share = 24 / 188
    for settings, pairs in [
        (DuplicateSettings(shared=share - 1e-6, at_least=24), [(0, 1)]),
        (DuplicateSettings(shared=share + 1e-6, at_least=24), []),
        (DuplicateSettings(shared=share - 1e-6, at_least=25), []),
    ]:
        assert shingle_pairs(bodies, settings) == pairs


@given(
    texts=st.lists(
        st.lists(
            st.sampled_from(["a", "B ", "cc ", "d1", "\u00e9 ", "-", "\u732b", "\u72ac\u3002", "\u0e01"]), max_size=40
        ),
        max_size=8,
    ),
    n_words=st.integers(2, 4),
)
def test_pairs_are_those_of_a_plain_count(texts: list[list[str]], n_words: int) -> None:
    """A Chinese character is half a word, a Thai one a quarter; both are read one by one."""
    settings = DuplicateSettings(shingle_words=n_words, shared=0.3, at_least=1, common=20)
    bodies = ["".join(parts) for parts in texts]
    shingles = []
    totals = []
    for text in bodies:
        units = re.findall(r"[a-z0-9\u00e9]+|[\u732b\u72ac\u0e01]", text.lower())
        weights = [{"\u732b": 2, "\u72ac": 2, "\u0e01": 1}.get(unit, 4) for unit in units]
        stops = [
            next((j for j in range(i + 1, len(units) + 1) if sum(weights[i:j]) >= 4 * n_words), None)
            for i in range(len(units))
        ]
        runs = [tuple(units[i:stop]) for i, stop in enumerate(stops) if stop]
        shingles.append(set(runs))
        totals.append(len(runs))
    expected = {
        (i, j)
        for j in range(len(bodies))
        for i in range(j)
        if (common := len(shingles[i] & shingles[j])) and common / min(totals[i], totals[j]) >= 0.3
    }
    assert set(shingle_pairs(bodies, settings)) == expected


SCRIPTS = {  # first and last letters, and how long words are
    "Chinese": (0x4E00, 0x9000, 2),
    "Japanese": (0x3042, 0x3093, 3),
    "Thai": (0x0E01, 0x0E2E, 5),
    "Khmer": (0x1780, 0x17B3, 5),
}


def _unspaced(script: str, seed: int, n_words: int = 300) -> str:
    """Sentences of invented words without spaces; the words are the same for every seed."""
    first, last, length = SCRIPTS[script]
    letters = random.Random(script)
    words = ["".join(chr(letters.randint(first, last)) for _ in range(length)) for _ in range(400)]
    rng = random.Random(seed)
    return "".join("".join(rng.choices(words, k=15)) + "\u3002" for _ in range(n_words // 15))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_copy_is_found_where_words_have_no_spaces(script: str) -> None:
    copies = [list(_unspaced(script, i)) for i in range(30)]
    for copy in copies:
        for i in range(0, len(copy), 150):
            copy[i] = "x"
    copies = copies[:20] + [copy[: len(copy) // 4] + list(_unspaced(script, 99)) for copy in copies[20:]]
    documents = [Document(_unspaced(script, i), f"Film {i}") for i in range(30)]
    documents += [Document("".join(copy), f"Other {i}") for i, copy in enumerate(copies)]
    settings = SETTINGS.model_copy(update={"common": 5})  # the text that ten copies share joins nobody
    assert _groups(documents, settings) == [{i, i + 30} for i in range(30)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_phrases_without_spaces_join_nobody(script: str) -> None:
    """Two texts may share a phrase of ten words, as in a language with spaces."""
    phrase = _unspaced(script, 99, 15)[: 10 * SCRIPTS[script][2]]
    half = len(_unspaced(script, 0)) // 2
    documents = [Document(_unspaced(script, i)[:half] + phrase + _unspaced(script, i)[half:]) for i in range(20)]
    assert len(_groups(documents)) == 20


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("'don't'", "\u2018don\u2019t\u2019"),
        ('"w1" - w2...', "\u201cw1\u201d \u2014 w2\u2026"),
        ("caf\u00e9", "cafe\u0301"),
        ("W1", "\uff37\uff11"),
        ("\u00e9l\u00e8ve", "\u00c9L\u00c8VE"),
    ],
)
def test_the_same_words_written_otherwise_are_the_same(one: str, other: str) -> None:
    words = _prose(1, 120).split()
    texts = [" ".join(f"{word} {form}" for word in words) for form in (one, other)]
    assert _groups([Document(text) for text in texts]) == [{0, 1}]


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [_prose(i % 5, 150) for i in range(12)]
    whole = shingle_pairs(bodies, SETTINGS)
    monkeypatch.setattr(duplicates, "_BATCH", 700)
    assert shingle_pairs(bodies, SETTINGS) == whole != []


def test_a_row_is_dropped_only_if_title_and_text_repeat() -> None:
    first = Document("text", "The Title", key="row 1")
    documents = [
        first,
        replace(first, title="Title (1950 film)", key="row 2"),
        replace(first, title="Other"),
        replace(first, body="other"),
        replace(first, title=""),
        replace(first, title=""),
    ]
    kept, dropped = drop_repeats(documents)
    assert dropped == 1
    assert kept == [documents[0], *documents[2:]]


def test_invented_films_share_nothing(text_of: Callable[[int], str]) -> None:
    """The fixtures' sentences come from few patterns, and still no two texts count as near."""
    bodies = text_of(60_000).split("\n\n")
    assert shingle_pairs(bodies, SETTINGS) == []


def test_a_group_may_be_as_large_as_allowed_and_no_larger() -> None:
    shared = _prose(99, 60)
    three = [Document(_prose(i) + (shared if i == 2 else ""), page="https://example.org/three") for i in range(3)]
    two = [Document(_prose(i) + (shared if i == 10 else ""), page="https://example.org/two") for i in (10, 11)]
    for largest, sizes, refused in ((5, [5], 0), (4, [3, 2], 1)):
        groups = group_documents(three + two, SETTINGS.model_copy(update={"largest_group": largest}))
        assert np.bincount(groups.of).tolist() == sizes and groups.refused == refused
        assert groups.largest() == [*range(sizes[0])]

"""The same work under any name lands in one group, and nothing else does."""

from __future__ import annotations

import random
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
        st.lists(st.sampled_from(["a", "B", "cc", "d1", "\u00e9", "-"]), max_size=30).map(" ".join), max_size=8
    ),
    n_words=st.integers(2, 4),
)
def test_pairs_are_those_of_a_plain_count(texts: list[str], n_words: int) -> None:
    settings = DuplicateSettings(shingle_words=n_words, shared=0.3, at_least=1, common=20)
    shingles = []
    totals = []
    for text in texts:
        words = text.lower().replace("-", " ").split()
        runs = [tuple(words[i : i + n_words]) for i in range(len(words) - n_words + 1)]
        shingles.append(set(runs))
        totals.append(len(runs))
    expected = {
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if (common := len(shingles[i] & shingles[j])) and common / min(totals[i], totals[j]) >= 0.3
    }
    assert set(shingle_pairs(texts, settings)) == expected


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [_prose(i % 5, 150) for i in range(12)]
    whole = shingle_pairs(bodies, SETTINGS)
    monkeypatch.setattr(duplicates, "_BATCH_BYTES", 700)
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

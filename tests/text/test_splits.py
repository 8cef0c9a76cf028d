"""Remakes never straddle, the order of rows does not matter, and no split is empty."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.config import build_settings
from movieplotgpt.errors import ConfigError, DataError
from movieplotgpt.text.duplicates import group_documents
from movieplotgpt.text.formatting import Document
from movieplotgpt.text.splits import SPLITS, GroupSplit, Split, TailSplit, split_documents

GROUP = GroupSplit()
TAIL = TailSplit()


def _split(documents: list[Document], settings: GroupSplit | TailSplit = GROUP) -> dict[Split, list[Document]]:
    return _split_and_warn(documents, settings)[0]


def _split_and_warn(
    documents: list[Document], settings: GroupSplit | TailSplit = GROUP
) -> tuple[dict[Split, list[Document]], tuple[str, ...]]:
    return split_documents(documents, group_documents(documents, settings.duplicates), settings)


def _bodies(parts: dict[Split, list[Document]]) -> dict[Split, list[str]]:
    return {split: [document.body for document in documents] for split, documents in parts.items()}


def _films(count: int) -> list[Document]:
    return [Document(f"plot {i}", f"Film {i}") for i in range(count)]


def test_shares_are_about_right_and_nothing_is_lost() -> None:
    parts = _split(_films(5000), GroupSplit(validation=0.1, test=0.05))
    assert 400 < len(parts["validation"]) < 600
    assert 180 < len(parts["test"]) < 320
    assert sorted(body for bodies in _bodies(parts).values() for body in bodies) == sorted(
        document.body for document in _films(5000)
    )


def test_the_order_of_rows_does_not_matter() -> None:
    films = _films(300)
    shuffled = random.Random(1).sample(films, len(films))
    straight, other = _bodies(_split(films)), _bodies(_split(shuffled))
    assert {split: set(bodies) for split, bodies in straight.items()} == {s: set(b) for s, b in other.items()}
    assert straight["train"] == [document.body for document in films if document.body in straight["train"]]


def test_more_rows_leave_most_where_they_are() -> None:
    """A hash decides, not a rank: a film that is tested on today is not trained on tomorrow."""
    settings = GroupSplit(validation=0.1, test=0.1)
    before, after = _bodies(_split(_films(1000), settings)), _bodies(_split(_films(1500), settings))
    for split in SPLITS:
        assert set(before[split]) <= set(after[split])


def test_another_seed_draws_other_films() -> None:
    draws = [_bodies(_split(_films(500), GroupSplit(test=0.1, seed=seed)))["test"] for seed in (0, 1)]
    assert draws[0] != draws[1]


def test_planted_remakes_and_copies_land_in_one_split(text_of: Callable[[int], str]) -> None:
    documents = []
    for i in range(120):
        sentences = random.Random(i).sample(text_of(40_000).split(". "), 12)
        documents += [
            Document(". ".join(sentences), f"Original {i}", key=f"work {i}"),
            Document(". ".join([*sentences[:6], f"New end {i}"]), f"Copied {i}", key=f"work {i}"),
            Document(f"a remake {i}", f"The Original {i} (1950 film)", key=f"work {i}"),
        ]
    parts = _split(documents, GroupSplit(validation=0.2, test=0.2))
    works = {split: {document.key for document in part} for split, part in parts.items()}
    assert all(works.values())
    assert not (works["train"] & works["validation"] or works["train"] & works["test"])
    assert not works["validation"] & works["test"]


@pytest.mark.parametrize("count", [3, 4, 10])
def test_a_few_titled_documents_leave_no_split_empty_and_none_cut(count: int) -> None:
    parts = _split(_films(count))
    assert [len(parts[split]) for split in SPLITS] == [count - 2, 1, 1]


def _shares(parts: dict[Split, list[Document]]) -> dict[Split, float]:
    sizes = {split: sum(len(document.body) for document in part) for split, part in parts.items()}
    return {split: size / sum(sizes.values()) for split, size in sizes.items()}


@pytest.mark.parametrize("titles", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_title_that_repeats_does_not_give_the_text_away(titles: int, seed: int) -> None:
    """Documents are drawn by their text; a text that occurs twice stays in one split."""
    documents = [Document(f"recipe {i // 2} " * 20, f"Kind {i // 2 % titles}") for i in range(1_000)]
    parts, warnings = _split_and_warn(documents, GroupSplit(seed=seed))
    assert _shares(parts)["train"] > 0.9 and len(parts["test"]) > 2 and len(parts["validation"]) > 2
    assert sum(map(len, parts.values())) == 1_000
    bodies = _bodies(parts)
    assert not {*bodies["train"]} & {*bodies["test"], *bodies["validation"]}
    assert not {*bodies["test"]} & {*bodies["validation"]}
    assert warnings == (
        f"1,000 documents have only {titles:,} titles or pages, too few to hold some of them out: validation and test have "
        "other texts than training, under the same titles",
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_page_that_all_share_does_not_give_the_text_away(seed: int) -> None:
    documents = [Document(f"line {i} " * 20, page="https://example.org") for i in range(500)]
    parts, warnings = _split_and_warn(documents, GroupSplit(seed=seed))
    assert _shares(parts)["train"] > 0.9 and len(warnings) == 1


@pytest.mark.parametrize("seed", range(8))
def test_one_large_work_is_trained_on(seed: int) -> None:
    """Whatever the hash says: 990 documents of one title, or one long one, beside ten others."""
    short = [Document(f"poem {i}", f"Poem {i}") for i in range(10)]
    for large in ([Document(f"chapter {i}", "Novel") for i in range(990)], [Document("chapter " * 990, "Novel")]):
        parts, warnings = _split_and_warn([*large, *short], GroupSplit(seed=seed))
        assert _shares(parts)["train"] > 0.9 and all(parts[split] for split in SPLITS)
        assert not any(document.title == "Novel" for split in SPLITS[1:] for document in parts[split])
        assert not warnings or warnings[0].startswith("the 11 works differ so much in size that only small ones")


def test_a_large_work_is_named_when_it_was_drawn() -> None:
    large = [Document(f"chapter {i}", "Novel") for i in range(990)]
    short = [Document(f"poem {i}", f"Poem {i}") for i in range(10)]
    found = {_split_and_warn([*large, *short], GroupSplit(seed=seed))[1] for seed in range(30)}
    assert len(found) == 2


def test_works_that_share_their_text_are_cut(text_of: Callable[[int], str]) -> None:
    """Three series of near-duplicates: nothing to draw, so each is cut."""
    sentences = text_of(40_000).split(". ")
    documents = []
    for work in range(3):
        shared = sentences[60 * work : 60 * work + 50]
        documents += [Document(". ".join([*shared, f"End {i}"]), f"Work {work}") for i in range(20)]
    parts, warnings = _split_and_warn(documents)
    assert _shares(parts)["train"] > 0.5 and all(parts[split] for split in SPLITS)
    assert warnings == ("60 documents are only 3 works: each is cut, and parts of it are held out",)


@given(text=st.text(alphabet="ab \n", min_size=3, max_size=400), documents=st.integers(1, 3))
def test_one_or_few_texts_are_cut_in_blocks_without_loss(text: str, documents: int) -> None:
    bodies = [f"{i}{text}" for i in range(documents)]
    parts = _split([Document(body, key=str(i)) for i, body in enumerate(bodies)])
    assert all(parts[split] for split in SPLITS)
    for i, body in enumerate(bodies):
        blocks = [m.body for split in SPLITS for m in parts[split] if m.key == str(i)]
        assert sum(map(len, blocks)) == len(body)
        assert all(block and block in body for block in blocks)


def test_a_tiny_text_has_blocks_of_whole_lines(text_of: Callable[[int], str]) -> None:
    text = text_of(20_000).replace("\n\n", "\n").replace(". ", ".\n")
    parts = _bodies(_split([Document(text)]))
    assert 500 < len(parts["test"][0]) < 3_000
    assert all(block.endswith("\n") or text.endswith(block) for blocks in parts.values() for block in blocks)
    assert len(parts["train"]) <= 3  # neighbours are put together again: long contexts stay long


def test_equal_texts_are_cut_alike_and_do_not_straddle() -> None:
    documents = [Document(f"line {i % 20} " * 40 + "\n", key=str(i % 20)) for i in range(40)]
    parts = _split(documents)
    keys = {split: {document.key for document in part} for split, part in parts.items()}
    assert all(keys.values())
    assert sum(map(len, keys.values())) == 20


def test_a_text_of_two_characters_cannot_be_split() -> None:
    with pytest.raises(DataError, match="the text has 2 characters, too few for a training, a validation"):
        _split([Document("ab")])


def test_the_tail_of_one_text_is_cut_by_characters() -> None:
    text = "".join(random.Random(0).choices("abc \n", k=1_115_394))
    parts = _bodies(_split([Document(text)], TailSplit(validation=0.1, test=0)))
    assert parts == {"train": [text[:1_003_854]], "validation": [text[1_003_854:]], "test": []}


def test_the_tail_of_many_documents_is_whole_documents() -> None:
    documents = [Document(f"{i:04} " * 20, f"Film {i}") for i in range(100)]
    parts = _split(documents, TailSplit(validation=0.1, test=0.05))
    assert [len(parts[split]) for split in SPLITS] == [85, 10, 5]
    assert [replace(document, group="") for split in SPLITS for document in parts[split]] == documents


def test_a_tail_too_small_for_a_split_is_an_error() -> None:
    with pytest.raises(DataError, match="leave no test split; use larger shares"):
        _split(_films(5), TAIL)


def test_shares_out_of_range_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"setting test: .*less than 0.5, not 0.5"):
        build_settings(GroupSplit, {"test": 0.5})
    with pytest.raises(ConfigError, match="leave less than a tenth to train on"):
        build_settings(TailSplit, {"test": 0.49, "validation": 0.49})
    assert build_settings(TailSplit, {"test": 0.45, "validation": 0.45}).test == 0.45


@pytest.mark.parametrize("count", [3, 5, 12])
def test_the_largest_shares_leave_something_to_train_on(count: int) -> None:
    for seed in range(40):
        parts = _split(_films(count), GroupSplit(validation=0.49, test=0.49, seed=seed))
        assert all(parts[split] for split in SPLITS)
        assert sum(map(len, parts.values())) == count

"""Was this copied? Every shared run is found, and nothing else: against a search by all pairs of places."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt import atomic
from movieplotgpt.config import read_settings
from movieplotgpt.errors import ConfigError, DataError, StorageError
from movieplotgpt.text import copies
from movieplotgpt.text.copies import COPIES, LEAST, CopyIndex, normalised, positions
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.token_files import PreparedCorpus

WORDS = "the of and harbour keeper letter storm night finds loses Ada Bruno map boat until they her his in".split()


def _text(seed: int, words: int = 120) -> str:
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) + str(drawn.randrange(10**4)) for _ in range(words))


TEXTS = [_text(seed) for seed in range(40)] + ["short", ""]


class _Bodies:
    """What an index asks of a prepared corpus, over given texts."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.tokenizer = texts, self

    def split(self, name: str) -> _Bodies:
        assert name == "train"
        return self

    def body(self, i: int) -> str:
        return self.texts[i]

    def decode(self, text: str) -> str:
        return text


def _index(texts: list[str], *, corpus: bool) -> CopyIndex:
    index = CopyIndex.build(texts, [f"Film {i}" for i in range(len(texts))], "hash")
    if corpus:
        index.corpus = _Bodies(texts)  # type: ignore[assignment]
    return index


EXACT, BLIND = _index(TEXTS, corpus=True), _index(TEXTS, corpus=False)


@dataclass
class Planted:
    text: str
    run: str
    film: int


@st.composite
def planted(draw: st.DrawFn) -> Planted:
    """A passage of a training text between other words."""
    film = draw(st.integers(0, 39))
    source = TEXTS[film]
    length = draw(st.integers(50, 300))
    start = draw(st.integers(0, len(source) - length))
    run = source[start : start + length].strip()
    before, after = (
        draw(st.sampled_from(["", "Zzz qqq. ", "x" * 13 + " "])),
        draw(st.sampled_from(["", " #!? zz", "~"])),
    )
    return Planted(before + run + after, run, film)


@given(planted())
def test_a_planted_passage_is_found_with_its_film(made: Planted) -> None:
    report = EXACT.report(made.text, at_least=48)
    found = max(report.copies, key=lambda copy: copy.length)
    assert report.exact and found.title == f"Film {made.film}"
    assert made.run in found.text and found.text == made.text[found.start : found.stop]
    assert normalised(found.text) == normalised(found.source or "")
    assert report.longest == found.length >= len(made.run)
    assert report.share == pytest.approx(found.length / len(normalised(made.text)))


@given(planted())
def test_without_the_corpus_ends_are_seven_characters_off(made: Planted) -> None:
    report = BLIND.report(made.text)
    found = max(report.copies, key=lambda copy: copy.length)
    exact = max(EXACT.report(made.text, at_least=48).copies, key=lambda copy: copy.length)
    assert not report.exact and found.title == f"Film {made.film}" and found.source is None
    assert exact.start <= found.start <= exact.start + 7 and exact.stop - 7 <= found.stop <= exact.stop
    assert found.length == report.longest <= exact.length
    begun = made.text[: exact.stop].rstrip()
    size = len(normalised("|" + exact.text)) - 1  # a blank before it is part of it
    assert EXACT.reaching_into(begun, 2) == size <= BLIND.reaching_into(begun, 2) <= size + 14
    assert EXACT.reaching_into(f"{begun}|~|", 2) == 0 < EXACT.reaching_into(f"{begun}|~|", 5)


def _shared_runs(text: str, least: int) -> set[str]:
    """All maximal runs of ``text`` that some training text holds, by trying every place."""
    runs = set()
    for source in map(normalised, TEXTS):
        for start in range(len(text)):
            stop = start
            while stop < len(text) and text[start : stop + 1] in source:
                stop += 1
            if stop - start >= least:
                runs.add((start, stop))
    outer = {a for a in runs if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in runs)}
    return {text[start:stop] for start, stop in outer}


@pytest.mark.parametrize("seed", range(6))
def test_every_run_is_found_and_no_other(seed: int) -> None:
    drawn = random.Random(seed)
    parts = []
    for _ in range(6):
        source = drawn.choice(TEXTS[:40])
        start = drawn.randrange(len(source) - 100)
        parts += [source[start : start + drawn.randrange(20, 100)], _text(drawn.randrange(10**6), 2)]
    text = normalised(" ".join(parts))
    found = {normalised(copy.text) for copy in EXACT.report(text, at_least=LEAST).copies}
    assert found == {run.strip() for run in _shared_runs(text, LEAST)}


def test_case_line_breaks_and_blanks_make_no_difference() -> None:
    passage = TEXTS[3][100:180].strip()
    changed = passage.upper().replace(" ", "\n  \t")
    (copy,) = EXACT.report(f"Then {changed} and so on").copies
    assert (copy.title, copy.text.strip(), (copy.source or "").strip()) == ("Film 3", changed, passage)


def test_words_of_ones_own_are_no_copy() -> None:
    report = EXACT.report(_text(10**6, 300))
    assert (report.copies, report.share) == ((), 0.0) and report.longest < 50
    assert BLIND.report(_text(10**6, 300)).copies == ()


@pytest.mark.parametrize("text", ["", " ", "x", "short", "é" * 200, "\ud800" * 60, "a\x00" * 40])
def test_any_text_can_be_asked_about(text: str) -> None:
    assert EXACT.report(text).copies == BLIND.report(text).copies == ()


def test_words_that_the_training_text_lacks_are_told() -> None:
    index = _index(["The harbour keeps a letter."], corpus=False)
    assert index.invented("A Letter: the harbor keeps letter") == ["the", "harbor"]
    assert index.invented("") == index.invented("42, Ada!") == []


def test_what_is_too_short_to_be_seen_is_said() -> None:
    with pytest.raises(ConfigError, match="a copy of 30 characters is too short to be found; ask for 31 at least"):
        EXACT.report("x", at_least=30)


@given(st.text())
def test_each_normalised_character_knows_its_place(text: str) -> None:
    whole, places = normalised(text), positions(text)
    assert len(whole) == len(places) and places == sorted(places)
    for character, place in zip(whole, places, strict=True):
        assert character in " ςσ" or character in text[place].lower()
        assert character != " " or text[place].isspace()


def test_an_index_is_kept_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / COPIES
    BLIND.save(path)
    again = CopyIndex.load(path)
    assert (again.titles, again.corpus_hash) == (BLIND.titles, "hash")
    assert np.array_equal(again.blocks, BLIND.blocks) and np.array_equal(again.starts, BLIND.starts)
    text = "So " + TEXTS[7][:150]
    assert again.report(text) == BLIND.report(text)


def test_it_takes_two_bytes_for_eight_characters_and_holds_no_text(tmp_path: Path) -> None:
    BLIND.save(tmp_path / COPIES)
    data = (tmp_path / COPIES).read_bytes()
    assert len(data) < sum(map(len, TEXTS)) / 4 + 3_000
    assert not any(TEXTS[i][k : k + 12].encode() in data for i in range(40) for k in range(0, 300, 12))


def test_a_damaged_or_missing_index_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"there is no copy index .*copies.npz; `movieplotgpt prepare` makes one"):
        CopyIndex.load(tmp_path / COPIES)
    path = tmp_path / COPIES
    BLIND.save(path)
    data = path.read_bytes()
    for broken in (b"", data[:100], data[:-50], b"\xff" * 64):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"copy index .* is damaged"):
            CopyIndex.load(path)
    path.write_bytes(data)
    monkeypatch.setattr(copies, "FORMAT_VERSION", 9)
    with pytest.raises(DataError, match="another version"):
        CopyIndex.load(path)


def test_a_prepared_corpus_has_its_index(
    tmp_path: Path, plots_csv: Path, films_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(read_settings(PrepareSettings, films_toml), plots_csv, tmp_path / "data")
    corpus = PreparedCorpus.load(tmp_path / "data")
    made = CopyIndex.of_corpus(corpus)
    split = corpus.split("train")
    body = corpus.tokenizer.decode(split.body(5))
    (copy,) = made.report("Once upon a time, " + body[10:110]).copies
    assert copy.title == split.titles[5] and copy.source == body[10:110].strip()
    (corpus.folder / COPIES).unlink()  # a folder of an earlier version
    built = CopyIndex.of_corpus(corpus)
    assert np.array_equal(built.blocks, made.blocks) and (corpus.folder / COPIES).exists()
    BLIND.save(corpus.folder / COPIES)
    with pytest.raises(DataError, match="is the copy index of another corpus"):
        CopyIndex.of_corpus(corpus)

    def full(path: Path, data: bytes) -> None:
        raise StorageError("the disk is full")

    (corpus.folder / COPIES).unlink()
    monkeypatch.setattr(atomic, "write_bytes", full)
    held = CopyIndex.of_corpus(corpus)
    assert held.report("Once upon a time, " + body[10:110]).exact and not (corpus.folder / COPIES).exists()


def test_a_text_of_one_character_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    index = _index(["-" * 4_000, TEXTS[0]], corpus=False)
    monkeypatch.setattr(copies, "_AT_ONCE", 1_000)
    report = index.report("-" * 200 + " " + TEXTS[0][:120])
    assert [copy.title for copy in report.copies] == ["Film 0", "Film 1"] and report.longest >= 192

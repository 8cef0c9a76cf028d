"""From a source to token arrays and back: nothing is lost, nothing is half written."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movieplotgpt.config import build_settings, read_toml
from movieplotgpt.errors import DataError, StorageError
from movieplotgpt.text import prepare as module
from movieplotgpt.text.cleaning import clean_text
from movieplotgpt.text.prepare import PrepareReport, PrepareSettings, is_prepared, prepare
from movieplotgpt.text.splits import SPLITS
from movieplotgpt.text.token_files import PreparedCorpus, read_manifest

PREPARE = """
import sys
from pathlib import Path
from movieplotgpt.text.prepare import PrepareSettings, prepare

settings, source, out = map(Path, sys.argv[1:])
prepare(PrepareSettings.model_validate_json(settings.read_text(encoding="utf-8")), source, out)
"""
SMALL = {"tokenizer": {"kind": "bpe", "vocab_size": 400}}


def _settings(repository: Path, name: str, **changes: Any) -> PrepareSettings:
    """The sections of a published configuration that prepare a corpus."""
    values = read_toml(repository / "configs" / f"{name}.toml")
    known = {section: values[section] for section in PrepareSettings.model_fields if section in values}
    return build_settings(PrepareSettings, known | changes)


@pytest.fixture
def plots(repository: Path) -> PrepareSettings:
    return _settings(repository, "plots-bpe", **SMALL)


def test_every_row_is_kept_or_accounted_for(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    report = prepare(plots, plots_csv, tmp_path / "out")
    assert report.rows == 60
    assert report.dropped == {"without text": 1, "repeating a title and its text": 1}
    assert report.documents == sum(counts.documents for counts in report.splits.values()) == 58
    assert report.links == {"same text": 1, "same page": 0, "same title": 1, "shared shingles": 0}
    assert (report.groups, report.grouped, report.largest_group.documents) == (56, 4, 2)
    assert report.cleaning["line breaks"] == 4 - 2 and report.cleaning["footnote marks"] == 2
    assert report.non_ascii_before > report.non_ascii_after == 0
    assert report.hints["Decade"] == report.hints["Origin"] == 58
    train = PreparedCorpus.load(tmp_path / "out").split("train")
    recorded = read_manifest(tmp_path / "out").hint_values
    assert [*recorded] == ["Decade", "Origin", "Genre"]
    assert recorded["Decade"] == tuple(sorted({hints["Decade"] for hints in train.hints}))
    assert report.lengths == sorted(report.lengths)
    assert list(report.seconds) == ["read", "clean", "group", "split", "train tokenizer", "encode", "index copies"]
    assert PrepareReport.load(tmp_path / "out" / "report.json", missing="", damaged="") == report


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_the_arrays_hold_the_documents(
    tmp_path: Path, repository: Path, plots_csv: Path, films: list[dict[str, str]], kind: str
) -> None:
    settings = _settings(repository, "plots-bpe", tokenizer={"kind": kind})
    prepare(settings, plots_csv, tmp_path / "out")
    corpus = PreparedCorpus.load(tmp_path / "out")
    decode = corpus.tokenizer.decode
    seen = []
    for name in SPLITS:
        split = corpus.split(name)
        for i in range(split.n_documents):
            row = films[int(split.keys[i].removeprefix("row ")) - 1]
            body = clean_text(row["Plot"], settings.cleaning)
            lines = corpus.format.header_lines(split.titles[i], split.hints[i])
            assert split.titles[i] == row["Title"]
            assert decode(split.body(i)) == body
            assert decode(split.sentence(i)) == corpus.format.sentence(row["Title"])
            assert [decode(split.segment(i, k)) for k in range(3) if len(split.segment(i, k))] == lines[:-1]
            assert decode(split.header(i)) == corpus.format.header_text(split.titles[i], split.hints[i])
            np.testing.assert_array_equal(split.header(i), corpus.tokenizer.encode("".join(lines)))
            assert split.n_characters[i] == len(body)
            seen.append(split.keys[i])
        counts = corpus.manifest.splits[name]
        assert counts.body_tokens == sum(len(split.body(i)) for i in range(split.n_documents))
        assert counts.header_tokens == sum(len(split.header(i)) for i in range(split.n_documents))
        assert counts.characters == split.n_characters.sum()
    assert len(seen) == len(set(seen)) == 58


def test_remakes_share_a_group_and_a_split(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    prepare(plots, plots_csv, tmp_path / "out")
    corpus = PreparedCorpus.load(tmp_path / "out")
    home = {
        key: (name, g)
        for name in SPLITS
        for key, g in zip(corpus.split(name).keys, corpus.split(name).groups, strict=True)
    }
    assert home["row 2"] == home["row 58"]  # the same title
    assert home["row 3"] == home["row 59"]  # the same plot


def test_the_tokenizer_learns_from_the_training_split_only(tmp_path: Path, text_of: Callable[[int], str]) -> None:
    """The last tenth is in Greek; characters trained on the whole text would hold it."""
    source = tmp_path / "text.txt"
    source.write_text(text_of(9_000)[:9_000] + "\u03b1\u03b2\u03b3\u03b4 " * 180, encoding="utf-8")
    settings = build_settings(
        PrepareSettings,
        {
            "corpus": {"kind": "plain"},
            "split": {"kind": "tail", "validation": 0.05, "test": 0.05},
            "tokenizer": {"kind": "char"},
        },
    )
    prepare(settings, source, tmp_path / "out")
    corpus = PreparedCorpus.load(tmp_path / "out")
    assert len(corpus.tokenizer.encode("\u03b1")) == 2  # bytes
    assert set(corpus.tokenizer.decode(corpus.split("test").body(0))) <= set("\u03b1\u03b2\u03b3\u03b4 ")


def test_the_same_twice_gives_the_same_files(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    for name in ("one", "two"):
        prepare(plots, plots_csv, tmp_path / name)
    for path in sorted((tmp_path / "one").iterdir()):
        if path.name != module.REPORT:  # it holds seconds
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_the_order_of_rows_does_not_change_the_splits(
    tmp_path: Path, plots: PrepareSettings, plots_csv: Path, films: list[dict[str, str]]
) -> None:
    shuffled = tmp_path / "shuffled.csv"
    with shuffled.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(films[0]))
        writer.writeheader()
        writer.writerows(random.Random(1).sample(films, len(films)))
    titles = []
    for source in (plots_csv, shuffled):
        prepare(plots, source, tmp_path / "out")
        corpus = PreparedCorpus.load(tmp_path / "out")
        titles.append({name: sorted(corpus.split(name).titles) for name in SPLITS})
    assert titles[0] == titles[1]


def test_what_is_prepared_is_not_prepared_again(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    out = tmp_path / "out"
    assert not is_prepared(plots, plots_csv, out)
    prepare(plots, plots_csv, out)
    assert is_prepared(plots, plots_csv, out)
    packed = tmp_path / "plots.csv.gz"
    packed.write_bytes(gzip.compress(plots_csv.read_bytes()))
    assert is_prepared(plots, packed, out)  # other size and time, the same text
    for section, change in [("cleaning", {"ascii": False}), ("split", {"seed": 1}), ("tokenizer", {"vocab_size": 300})]:
        changed = getattr(plots, section).model_copy(update=change)
        assert not is_prepared(plots.model_copy(update={section: changed}), plots_csv, out)
    plots_csv.write_text(plots_csv.read_text(encoding="utf-8") + "1999,New,,,,,,Another plot.\n", encoding="utf-8")
    assert not is_prepared(plots, plots_csv, out)
    assert not is_prepared(plots, tmp_path / "gone.csv", out)


def test_the_corpus_hash_names_text_and_split_but_not_tokens(
    tmp_path: Path, plots: PrepareSettings, plots_csv: Path
) -> None:
    hashes = {}
    for name, settings in {
        "bpe": plots,
        "char": build_settings(PrepareSettings, plots.model_dump(mode="json") | {"tokenizer": {"kind": "char"}}),
        "other split": plots.model_copy(update={"split": plots.split.model_copy(update={"seed": 1})}),
        "other text": plots.model_copy(update={"cleaning": plots.cleaning.model_copy(update={"ascii": False})}),
    }.items():
        hashes[name] = prepare(settings, plots_csv, tmp_path / "out").corpus_hash
    assert hashes["bpe"] == hashes["char"]
    assert len(set(hashes.values())) == 3


def test_progress_is_told_and_ends(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    told: list[tuple[str, int, int]] = []
    prepare(plots, plots_csv, tmp_path / "out", lambda *event: told.append(event))
    assert ("encode", 58, 58) in told
    assert {stage for stage, done, total in told if done == total} == set(dict.fromkeys(event[0] for event in told))


def test_the_office_becomes_scenes_line_for_line(tmp_path: Path, repository: Path, office_csv: Path) -> None:
    prepare(_settings(repository, "office-bpe", **SMALL), office_csv, tmp_path / "out")
    with office_csv.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["deleted"].lower() != "true"]
    expected: dict[str, list[str]] = {}
    for row in rows:
        line = f"{row['speaker']}: {row['line_text']}".replace("\ufffd\ufffd\ufffd", "'")
        expected.setdefault(f"season {row['season']}, episode {row['episode']}, scene {row['scene']}", []).append(line)
    assert _bodies(tmp_path / "out") == {key: "\n".join(lines) for key, lines in expected.items()}


def test_a_tiny_text_is_prepared(tmp_path: Path, text_of: Callable[[int], str]) -> None:
    source = tmp_path / "tiny.txt"
    source.write_text(text_of(20_000), encoding="utf-8")
    report = prepare(build_settings(PrepareSettings, {"corpus": {"kind": "plain"}, **SMALL}), source, tmp_path / "out")
    assert all(counts.documents and counts.body_tokens > 200 for counts in report.splits.values())


def test_a_split_that_was_not_asked_for_says_so(tmp_path: Path, text_of: Callable[[int], str]) -> None:
    source = tmp_path / "text.txt"
    source.write_text(text_of(5_000), encoding="utf-8")
    settings = {"corpus": {"kind": "plain"}, "split": {"kind": "tail", "test": 0}, **SMALL}
    prepare(build_settings(PrepareSettings, settings), source, tmp_path / "out")
    corpus = PreparedCorpus.load(tmp_path / "out")
    assert corpus.split("validation").n_documents == 1
    with pytest.raises(DataError, match=r"has no test split; prepare it again with split.test above 0"):
        corpus.split("test")


@pytest.mark.parametrize("name", ["manifest.json", "train.tokens.npy", "test.offsets.npy", "train.documents.parquet"])
def test_a_missing_or_cut_file_is_named(tmp_path: Path, plots: PrepareSettings, plots_csv: Path, name: str) -> None:
    out = tmp_path / "out"
    prepare(plots, plots_csv, out)
    data = (out / name).read_bytes()
    if not name.endswith("parquet"):
        (out / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=rf"{re.escape(name)} is damaged.*prepare the corpus again"):
            PreparedCorpus.load(out)
    (out / name).unlink()
    with pytest.raises(DataError, match=rf"{re.escape(name)}( is missing; prepare the corpus again|; run `moviep)"):
        PreparedCorpus.load(out)


def test_arrays_of_another_corpus_do_not_fit(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    out = tmp_path / "out"
    prepare(plots, plots_csv, out)
    shutil.copy(out / "test.tokens.npy", out / "train.tokens.npy")
    with pytest.raises(DataError, match=r"train.tokens.npy does not fit the manifest"):
        PreparedCorpus.load(out)


def test_another_format_version_says_what_to_do(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    out = tmp_path / "out"
    prepare(plots, plots_csv, out)
    manifest = out / "manifest.json"
    text = manifest.read_text(encoding="utf-8").replace('"format_version": 1', '"format_version": 99')
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"has format 99, this version reads 1; prepare the corpus again"):
        PreparedCorpus.load(out)


def test_a_failure_leaves_what_was_there(
    tmp_path: Path, plots: PrepareSettings, plots_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(plots, plots_csv, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_split", full)
    with pytest.raises(StorageError, match=r"no space left on the disk for .*out"):
        prepare(plots, plots_csv, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path, plots: PrepareSettings, plots_csv: Path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(DataError, match="is not empty and holds no prepared corpus; name a new folder"):
        prepare(plots, plots_csv, out)
    assert (out / "letter.txt").exists()


def test_nothing_left_after_cleaning_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text("END_OF_PLOT\n", encoding="utf-8")
    with pytest.raises(DataError, match="no document is left after cleaning"):
        prepare(build_settings(PrepareSettings, {"corpus": {"kind": "plain"}}), source, tmp_path / "out")


def _bodies(folder: Path) -> dict[str, str]:
    corpus = PreparedCorpus.load(folder)
    parts = (corpus.split(name) for name in SPLITS)
    return {split.keys[i]: corpus.tokenizer.decode(split.body(i)) for split in parts for i in range(split.n_documents)}


@pytest.mark.slow
def test_the_real_office_equals_the_published_format_line_for_line(
    tmp_path: Path, repository: Path, shared_data: Path
) -> None:
    source = shared_data / "the-office-lines.csv.gz"
    report = prepare(_settings(repository, "office-char"), source, tmp_path / "out")
    assert report.rows == 59_909 and report.dropped == {"marked deleted": 1_936}
    expected: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(gzip.decompress(source.read_bytes()).decode(), newline="")):
        if row["deleted"] != "True":
            key = f"season {row['season']}, episode {row['episode']}, scene {row['scene']}"
            expected.setdefault(key, []).extend(f"{row['speaker']}: {row['line_text']}".split("\n"))
    bodies = _bodies(tmp_path / "out")
    assert bodies.keys() == expected.keys()
    changed = 0
    for key, lines in expected.items():
        for ours, theirs in zip(bodies[key].split("\n"), lines, strict=True):
            if "\ufffd" in theirs:
                changed += 1
                pattern = ".{0,6}".join(re.escape(part) for part in re.split("\ufffd+", theirs))
                assert re.fullmatch(pattern, ours) or "rg Ro" in theirs
            else:
                assert ours == theirs.rstrip()
    assert changed == 2_583


@pytest.mark.slow
def test_all_real_plots_are_prepared(tmp_path: Path, repository: Path, shared_data: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(_settings(repository, "plots-char").model_dump_json(), encoding="utf-8")
    arguments = [str(settings), str(shared_data / "wiki_movie_plots_deduped.csv.gz"), str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", PREPARE, *arguments], check=True)  # of its own, to see its memory
    report = PrepareReport.load(tmp_path / "out" / "report.json", missing="", damaged="")
    assert report.rows == 34_886
    assert report.documents + sum(report.dropped.values()) == 34_886
    assert report.dropped == {"repeating a title and its text": 598}
    assert report.non_ascii_after == 0
    assert report.largest_group.documents < 20 and report.refused_links == 0
    assert report.hints["Decade"] > 26_000
    for name in ("validation", "test"):
        assert 0.008 < report.splits[name].documents / report.documents < 0.012
    assert report.peak_memory < 2e9

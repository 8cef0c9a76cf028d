"""One JSON for each evaluated model, and RESULTS.md, which is made of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from movieplotgpt import __version__, atomic
from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.compressors import CompressorScore
from movieplotgpt.evaluation.intervals import Interval, bits_per_character, bootstrap_interval
from movieplotgpt.evaluation.likelihood import LikelihoodReport
from movieplotgpt.evaluation.next_sentence import NextSentence
from movieplotgpt.evaluation.samples import SampleReport, SampleScores
from movieplotgpt.evaluation.titles import TitleRetrieval
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.sizes import parameters
from movieplotgpt.model.weight_files import weights_sha256
from movieplotgpt.training.monitors import draw_loss
from movieplotgpt.training.run import RunFolder

RUNS, FIGURES, RESULTS = "runs", "figures", "RESULTS.md"

SCORECARD = (
    "samples",
    "names that return",
    "names",
    "invented words",
    "repeated",
    "similarity lift",
    "told from real",
    "title at 1 / 10 / masked 10",
    "judge, bits",
    "ended",
    "length distance",
    "known speakers",
)

_INTRODUCTION = """# Results

Made by `movieplotgpt report` from the files in `runs/`, each of which `movieplotgpt evaluate ... --out` has written.

**Bits per character**: the nats of body and end token, given the header (not scored), over ln 2 and the Unicode code
points of the cleaned body. Long texts are scored in the windows of training: the header again, an overlap that is read
and not counted, then new tokens. Intervals are 95 %, documents drawn anew. **Title lift**: the bits per character that
the true title saves against the title of another work. The compressors read the whole training text first, then the
same bodies, each with a one-byte end mark.
"""


class Evaluation(BaseModel):
    """What is known of a model: its numbers, how they were measured, how it was trained."""

    model_config = ConfigDict(frozen=True)

    model: str
    weights_sha256: str
    parameters: int
    tokenizer: str
    vocab_size: int
    context_length: int
    training: dict[str, Any]
    trained_before: tuple[dict[str, Any], ...] = ()
    likelihood: LikelihoodReport
    title_retrieval: TitleRetrieval | None = None
    next_sentence: NextSentence | None = None
    samples: SampleReport | None = None
    compressors: tuple[CompressorScore, ...]
    movieplotgpt: str
    commit: str | None

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises:
            StorageError: the disk refuses.
        """
        atomic.write_text(path, self.model_dump_json(indent=2) + "\n")


def describe(
    name: str,
    checkpoint: Checkpoint,
    likelihood: LikelihoodReport,
    compressors: Sequence[CompressorScore] = (),
    commit: str | None = None,
    *,
    title_retrieval: TitleRetrieval | None = None,
    next_sentence: NextSentence | None = None,
    samples: SampleReport | None = None,
) -> Evaluation:
    """Put together what was measured and what the checkpoint, which was loaded from a folder, says of itself."""
    assert checkpoint.folder is not None
    return Evaluation(
        model=name,
        weights_sha256=weights_sha256(checkpoint.folder),
        parameters=parameters(checkpoint.model.config),
        tokenizer=checkpoint.tokenizer.kind,
        vocab_size=checkpoint.tokenizer.vocab_size,
        context_length=checkpoint.model.config.context_length,
        training=checkpoint.info.get("training", {}),
        trained_before=tuple(checkpoint.info.get("trained_before", ())),
        likelihood=likelihood,
        title_retrieval=title_retrieval,
        next_sentence=next_sentence,
        samples=samples,
        compressors=tuple(compressors),
        movieplotgpt=__version__,
        commit=commit,
    )


def read_evaluation(path: Path) -> Evaluation:
    """Read what ``Evaluation.write`` wrote.

    Raises:
        DataError: the file is missing or is none of these.
    """
    try:
        return Evaluation.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"there is no evaluation {path}; write it with `movieplotgpt evaluate ... --out`") from None
    except (ValidationError, UnicodeDecodeError):
        raise DataError(f"{path} is no evaluation, or another version's; run `movieplotgpt evaluate` again") from None


def write_results(results: Path) -> Path:
    """Write RESULTS.md of the evaluations in ``results/runs/``.

    Raises:
        DataError: there are none, or one is damaged.
        StorageError: the disk refuses.
    """
    evaluations = [read_evaluation(path) for path in sorted((results / RUNS).glob("*.json"))]
    if not evaluations:
        raise DataError(f"{results / RUNS} holds no evaluation; write one with `movieplotgpt evaluate ... --out`")
    figures = [path.stem for path in sorted((results / FIGURES).glob("*.svg"))]
    atomic.write_text(results / RESULTS, results_markdown(evaluations, figures))
    return results / RESULTS


def write_figure(results: Path, name: str, run: Path) -> Path:
    """Draw the loss of a run as the figure of the evaluation ``name`` (extra ``plots``).

    Raises:
        DataError: there is no such evaluation, or the run has no metrics.
        MissingExtraError: matplotlib is not installed.
    """
    measured = read_evaluation(results / RUNS / f"{name}.json").likelihood
    folder = RunFolder(run)
    if not folder.metrics.is_file():
        raise DataError(f"{run} has no {folder.metrics.name}; name the folder of a run")
    drawn = draw_loss(folder, measured.tokens / measured.characters)
    figure = results / FIGURES / f"{name}.svg"
    atomic.write_bytes(figure, drawn.read_bytes())
    return figure


def results_markdown(evaluations: Sequence[Evaluation], figures: Sequence[str] = ()) -> str:
    """RESULTS.md: a section for each text that was scored, best model first."""
    ordered = sorted(evaluations, key=lambda e: (*_scored(e), e.likelihood.bits_per_character, e.model))
    sections = [_section(list(same)) for _, same in groupby(ordered, key=_scored)]
    if figures:
        sections.append("## Training\n\n" + "\n\n".join(f"![{name}]({FIGURES}/{name}.svg)" for name in figures) + "\n")
    return "\n".join([_INTRODUCTION, *sections])


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show_interval(interval: Interval | None, digits: int = 3) -> str:
    """``1.291 to 1.312``; a dash where there is none."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else "-"


def show_shares(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """What the model tells apart: each question, the share that is right, its interval, and what chance gives."""
    rows: list[tuple[str, float, Interval, float]] = []
    if found := evaluation.title_retrieval:
        n = found.candidates
        rows.append((f"the title among {n}, by the plot's likelihood", found.at_1, found.at_1_interval, 1 / n))
        rows.append((f"... among its first 10 of {n}", found.at_10, found.at_10_interval, min(1.0, 10 / n)))
    if asked := evaluation.next_sentence:
        named = {
            "another work's": asked.another_work,
            "a later one": asked.later,
            "the next two swapped": asked.swapped,
        }
        for name, choice in named.items():
            rows.append((f"the next sentence from {name}", choice.share, choice.interval, 0.5))
    return [(name, f"{share:.3f}", show_interval(interval), f"{chance:.2f}") for name, share, interval, chance in rows]


def show_samples(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """The rows of the scorecard under SCORECARD; a dash where a question does not fit."""
    return [_sample_row(scores) for scores in evaluation.samples.rows] if evaluation.samples else []


def _sample_row(scores: SampleScores) -> tuple[str, ...]:
    found = scores.titles
    return (
        scores.name,
        _number(scores.names_that_return, "{:.2f}"),
        _number(scores.names_per_text, "{:.1f}"),
        _number(scores.invented, "{:.2%}"),
        _number(scores.repeated, "{:.2%}"),
        _number(scores.similarity_lift, "{:.3f}"),
        _number(scores.told_from_real, "{:.2f}"),
        f"{found.at_1:.2f} / {found.at_10:.2f} / {found.masked_at_10:.2f}" if found else "-",
        _number(scores.judge_bits, "{:.3f}"),
        _number(scores.ended, "{:.0%}"),
        _number(scores.length_distance, "{:.2f}"),
        _number(scores.known_speakers, "{:.1%}"),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value).replace("%", " %")


def _scored(evaluation: Evaluation) -> tuple[str, str, str, int, int]:
    measured = evaluation.likelihood
    return measured.source, measured.corpus_hash, measured.split, measured.documents, measured.characters


def _section(evaluations: list[Evaluation]) -> str:
    first = evaluations[0].likelihood
    compressors = {score.name: score for evaluation in evaluations for score in evaluation.compressors}
    lines = [
        f"## {first.source}: {first.split} split, {first.documents:,} documents, {first.characters:,} characters",
        "",
        f"Prompt form: {first.prompt}. Corpus `{first.corpus_hash[:16]}`, split `{first.split_hash[:16]}`, cleaning "
        f"`{first.cleaner_hash[:16]}` (first 16 digits of SHA-256).",
        "",
        "| model | parameters | bits per character | interval | mean of documents | title lift | interval "
        "| against no title | header, bits |",
        "| --- | ---: | ---: | --- | ---: | ---: | --- | ---: | ---: |",
        *map(_row, evaluations),
        *(f"| {score.name} | - | {score.bits_per_character:.3f} |{' - |' * 6}" for score in compressors.values()),
        "",
        *_in_pairs(evaluations),
        *_titles(evaluations),
        *_told_apart(evaluations),
        *_samples(evaluations),
        *map(_circumstances, evaluations),
        *(f"- {score.name}: {score.bytes:,} bytes, {score.seconds:,.0f} seconds" for score in compressors.values()),
    ]
    return "\n".join(lines) + "\n"


def _in_pairs(evaluations: list[Evaluation]) -> list[str]:
    """What each model takes more than the best, documents in pairs: surer than two intervals side by side."""
    comparable = [one for one in evaluations if one.likelihood.document_bits]
    if len(comparable) < 2:
        return []
    best, *others = comparable
    lines = [f"| more than {best.model}, documents in pairs | bits per character | interval |", "| --- | ---: | --- |"]
    characters = np.array(best.likelihood.document_characters)
    for other in others:
        more = math.log(2) * (np.array(other.likelihood.document_bits) - best.likelihood.document_bits)
        interval = bootstrap_interval(more, characters, seed=best.likelihood.seed)
        lines.append(f"| {other.model} | {bits_per_character(more, characters):.3f} | {show_interval(interval)} |")
    return [*lines, ""]


def _titles(evaluations: list[Evaluation]) -> list[str]:
    """The title lift looked at more closely: without the title's own words, and by the distance from the header."""
    lifts = {one.model: lift for one in evaluations if (lift := one.likelihood.title_lift) and lift.by_distance}
    if not lifts:
        return []
    places = sorted({(at.begin, at.end) for lift in lifts.values() for at in lift.by_distance})
    columns = [f"{begin:,} to {end:,}" if end else f"{begin:,} on" for begin, end in places]
    lines = [
        "Title lift by the distance from the header, in characters; and without every word that stands in the title.",
        "",
        f"| title lift | words left out | interval | {' | '.join(columns)} |",
        f"| --- | ---: | --- |{' ---: |' * len(columns)}",
    ]
    for model, lift in lifts.items():
        at = {(one.begin, one.end): f"{one.bits_per_character:.4f}" for one in lift.by_distance}
        masked = f"{lift.words_masked:.4f} | {show_interval(lift.words_masked_interval, 4)}"
        lines.append(f"| {model} | {masked} | {' | '.join(at.get(place, '-') for place in places)} |")
    return [*lines, ""]


def _told_apart(evaluations: list[Evaluation]) -> list[str]:
    """A table with a column for each question and a row for each model that was asked."""
    asked = {evaluation.model: show_shares(evaluation) for evaluation in evaluations}
    questions = {name: chance for rows in asked.values() for name, _, _, chance in rows}
    if not questions:
        return []
    lines = [f"| what it tells apart | {' | '.join(questions)} |", f"| --- |{' ---: |' * len(questions)}"]
    for model, rows in asked.items():
        cells = {name: f"{share} ({interval})" for name, share, interval, _ in rows}
        lines += [f"| {model} | {' | '.join(cells.get(name, '-') for name in questions)} |"] if cells else []
    return [*lines, f"| by chance | {' | '.join(questions.values())} |", ""]


def _samples(evaluations: list[Evaluation]) -> list[str]:
    """The scorecard of what the models write: the rows that all share once, then each model's."""
    reports = {one.model: one.samples for one in evaluations if one.samples}
    if not reports:
        return []
    first = next(iter(reports.values()))
    rows = {scores.name: scores for report in reports.values() for scores in report.rows}
    judges = " or ".join(sorted({report.judge for report in reports.values() if report.judge})) or "none"
    told = [
        f"What they write: {first.rows[0].texts} texts under test titles, the first {first.characters_read:,} characters of "
        f"each; temperature {first.sampling.temperature}, min-p {first.sampling.min_p}, seed {first.seed}; the judge is "
        f"{judges}. Real A are the test texts of these titles, real B validation texts.",
        "",
        f"| {' | '.join(SCORECARD)} |",
        f"| --- |{' ---: |' * (len(SCORECARD) - 1)}",
        *(f"| {' | '.join(_sample_row(scores))} |" for scores in rows.values()),
        "",
    ]
    return told


def _row(evaluation: Evaluation) -> str:
    measured, lift = evaluation.likelihood, evaluation.likelihood.title_lift
    cells = [
        evaluation.model,
        f"{evaluation.parameters / 1e6:.1f} M",
        f"**{measured.bits_per_character:.3f}**",
        show_interval(measured.interval),
        f"{measured.macro:.3f}",
        f"{lift.bits_per_character:.4f}" if lift else "-",
        show_interval(lift.interval, 4) if lift else "-",
        f"{lift.against_empty:.4f}" if lift else "-",
        f"{measured.header_bits:.1f}" if measured.header_bits else "-",
    ]
    return f"| {' | '.join(cells)} |"


def _circumstances(evaluation: Evaluation) -> str:
    """One line: how it was trained, how and on what it was measured."""
    measured = evaluation.likelihood
    trainings = [
        f"{training['step']:,} steps, {training['tokens'] / 1e6:.1f} M tokens, {training['seconds'] / 60:.0f} minutes on "
        f"{training['device']}, {training['precision']}, threads {training['threads']}"
        for training in (*evaluation.trained_before, evaluation.training)
        if training
    ]
    trained = f"trained {', then '.join(trainings)}" if trainings else "training not recorded"
    line = (
        f"- {evaluation.model}: {evaluation.tokenizer} tokenizer of {evaluation.vocab_size:,}, context "
        f"{evaluation.context_length}; {trained}; measured in {measured.seconds:,.0f} seconds on "
        f"{measured.device}, {measured.precision}, threads {measured.threads}, torch {measured.torch}, movieplotgpt "
        f"{evaluation.movieplotgpt}{f' at {evaluation.commit}' if evaluation.commit else ''}; weights "
        f"`{evaluation.weights_sha256[:16]}`"
    )
    return ". ".join([line, *measured.notes])

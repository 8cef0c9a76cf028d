"""One JSON for each evaluated model, and RESULTS.md, which is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from movieplotgpt import __version__, atomic
from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.compressors import CompressorScore
from movieplotgpt.evaluation.likelihood import Interval, LikelihoodReport
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.sizes import parameters
from movieplotgpt.model.weight_files import weights_sha256
from movieplotgpt.training.monitors import draw_loss
from movieplotgpt.training.run import RunFolder

RUNS, FIGURES, RESULTS = "runs", "figures", "RESULTS.md"

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
        *map(_circumstances, evaluations),
        *(f"- {score.name}: {score.bytes:,} bytes, {score.seconds:,.0f} seconds" for score in compressors.values()),
    ]
    return "\n".join(lines) + "\n"


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

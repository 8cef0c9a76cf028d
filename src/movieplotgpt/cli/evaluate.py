"""``movieplotgpt evaluate``: bits per character beside compressors, and the title lift."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from movieplotgpt.evaluation.compressors import CompressorScore
    from movieplotgpt.evaluation.report import Evaluation
    from movieplotgpt.text.token_files import PreparedCorpus


def evaluate(
    model: str,
    *,
    data: Path,
    split: Literal["train", "validation", "test"] = "test",
    documents: int | None = None,
    compressors: bool = True,
    title_lift: bool = True,
    others: int = 1,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    json: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
) -> None:
    """Score held-out documents: bits per character with its interval, beside xz and PPMd on the same text.

    Args:
        model: A published name, a model folder or a run.
        data: A prepared corpus, with whichever tokenizer.
        split: The documents to score.
        documents: Score only so many, drawn by the seed.
        compressors: Also compress the same text; takes minutes for a large corpus and is kept beside it.
        title_lift: Also score each text under another work's title and under none: three times the work.
        others: How many other titles.
        seed: Draws documents, titles and the resamples of the interval.
        device: Where the model runs.
        precision: Of the model's products; sums are float64 in any case.
        json: Print the evaluation as JSON.
        out: Write the evaluation as JSON, for `movieplotgpt report`.
    """
    import torch

    from movieplotgpt.cli.progress import stage_bars
    from movieplotgpt.errors import ConfigError
    from movieplotgpt.evaluation import likelihood
    from movieplotgpt.evaluation.report import describe
    from movieplotgpt.model.checkpoints import load_checkpoint
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.hardware import choose_hardware
    from movieplotgpt.training.run import TrainingSettings

    for name, value in (("--documents", documents), ("--others", others)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it has to be at least 1")
    corpus = PreparedCorpus.load(data)
    checkpoint = load_checkpoint(model, device=choose_hardware(TrainingSettings(device=device)).device)
    checkpoint.model.compute_dtype = getattr(torch, precision)
    with stage_bars() as progress:
        measured = likelihood.evaluate(
            checkpoint,
            corpus,
            split=split,
            documents=documents,
            others=others if title_lift else 0,
            seed=seed,
            progress=progress,
        )
        scores = _compressed(corpus, split, documents, seed, progress) if compressors else []
    evaluation = describe(Path(model).name, checkpoint, measured, scores, _commit())
    if out:
        evaluation.write(out)
    _say(*measured.notes)
    if json:
        print(evaluation.model_dump_json(indent=2))
    else:
        _show(evaluation)


def _compressed(
    corpus: PreparedCorpus,
    split: Literal["train", "validation", "test"],
    documents: int | None,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> list[CompressorScore]:
    """Each compressor's score; one that is not installed is said to be left out."""
    from movieplotgpt.errors import MissingExtraError
    from movieplotgpt.evaluation.compressors import COMPRESSORS, score_compressor

    scores = []
    for name in COMPRESSORS:
        try:
            scores.append(
                score_compressor(name, corpus, split=split, documents=documents, seed=seed, progress=progress)
            )
        except MissingExtraError as error:
            _say(f"{name} is left out: {error}")
    return scores


def _show(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    measured = evaluation.likelihood
    table = Table(title=f"{evaluation.model} on {measured.source}, {measured.split} split", title_justify="left")
    table.add_column("")
    table.add_column("bits per character", justify="right")
    table.add_column("95 % interval")
    for row in _rows(evaluation):
        table.add_row(*row)
    console = Console(markup=False, emoji=False)  # names are no markup
    console.print(table)
    facts = [
        f"{measured.documents:,} documents, {measured.characters:,} characters, {measured.tokens:,} tokens; prompt "
        f"{measured.prompt}",
        f"mean of documents {measured.macro:.4f}; body alone {measured.body_bits_per_character:.4f}; end token "
        f"{measured.end_bits:.2f} bits each"
        + (f"; header {measured.header_bits:.1f} bits each (not counted)" if measured.header_bits else ""),
        f"corpus {measured.corpus_hash[:16]}, split {measured.split_hash[:16]}; {measured.seconds:.1f} seconds on "
        f"{measured.device}, {measured.precision}, threads {measured.threads}",
    ]
    for fact in facts:
        console.print(fact, markup=False, highlight=False, soft_wrap=True)


def _rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    from movieplotgpt.evaluation.report import show_interval

    measured, lift = evaluation.likelihood, evaluation.likelihood.title_lift
    rows = [(evaluation.model, f"{measured.bits_per_character:.4f}", show_interval(measured.interval, 4))]
    rows += [(score.name, f"{score.bits_per_character:.4f}", "") for score in evaluation.compressors]
    if lift:
        interval, empty = show_interval(lift.interval, 4), show_interval(lift.against_empty_interval, 4)
        rows.append(
            ("title lift: saved by the true title against another's", f"{lift.bits_per_character:.4f}", interval)
        )
        rows.append(("... against no title", f"{lift.against_empty:.4f}", empty))
    return rows


def _say(*lines: str) -> None:
    import sys

    for line in lines:
        print(line, file=sys.stderr)


def _commit() -> str | None:
    """The commit this code is at, with a mark if it was changed since; None outside a checkout."""
    import subprocess

    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

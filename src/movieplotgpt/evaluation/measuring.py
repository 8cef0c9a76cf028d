"""``movieplotgpt.evaluate``: everything that is measured of one model, in one record."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

from movieplotgpt.engine.waiting import choose_waiting
from movieplotgpt.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from movieplotgpt.evaluation.record import Evaluation

Metric: TypeAlias = Literal["likelihood", "compressors", "titles", "next-sentence", "memorisation"]
METRICS: tuple[Metric, ...] = get_args(Metric)
CHOICES: dict[str, tuple[str, ...]] = {
    "split": ("train", "validation", "test"),
    "metrics": METRICS,
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("float32", "bfloat16"),
}
_Measured = TypeVar("_Measured")
_PARTS = {"titles": "title_retrieval", "next-sentence": "next_sentence"}  # named otherwise in an evaluation


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: Literal["train", "validation", "test"] = "test",
    documents: int | None = None,
    metrics: Sequence[Metric] = METRICS,
    others: int = 1,
    samples: int | None = None,
    judge: str | Path | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    out: str | Path | None = None,
    add: bool = False,
    progress: bool = True,
    report: Callable[[str], object] = lambda note: None,
) -> Evaluation:
    """Score held-out documents: bits per character with its interval, beside compressors on the same text.

    Example:
        >>> evaluation = evaluate("model", "data", metrics=["likelihood"], progress=False)
        >>> evaluation.likelihood.split, evaluation.likelihood.bits_per_character > 1
        ('test', True)

    Args:
        model: A published name, a model folder or a run.
        data: A prepared corpus, with any tokenizer.
        split: The documents to score. Choose by the validation split; the test split is for the number you report.
        documents: Score only so many, drawn by the seed.
        metrics: What to measure besides bits per character: "compressors" (xz, PPMd and n-grams on the same text), "titles",
            "next-sentence", "memorisation".
        others: How many other titles the true one is compared with.
        samples: Also write so many texts and score them beside real ones and random ones.
        judge: Another model; reports how likely the samples are to it.
        seed: Draws documents, titles and the resamples of the interval.
        device: Where the model runs.
        precision: Of the model's products; sums are float64 in any case.
        out: Write the evaluation to this JSON file, for ``movieplotgpt report``.
        add: Keep what the file at ``out`` has already of these weights and documents, and measure what it lacks.
        progress: Show progress bars on stderr or in the notebook.
        report: Called with the reason for each metric that cannot be measured here, and with notes on the numbers.

    Raises:
        ConfigError: a count below 1, or ``add`` without ``out``.
        CheckpointError: there is no such model, or it is damaged.
        DataError: there is no such corpus, or its split is empty.
        StorageError: ``out`` cannot be written.
    """
    choose_waiting()  # before anything below imports torch
    import torch

    from movieplotgpt.atomic import check_place
    from movieplotgpt.evaluation import likelihood
    from movieplotgpt.evaluation.compressors import COMPRESSORS, score_compressor
    from movieplotgpt.evaluation.held_out import read_held_out
    from movieplotgpt.evaluation.memorisation import memorisation
    from movieplotgpt.evaluation.next_sentence import next_sentence
    from movieplotgpt.evaluation.record import describe, read_earlier
    from movieplotgpt.evaluation.samples import score_samples
    from movieplotgpt.evaluation.titles import title_retrieval
    from movieplotgpt.model.checkpoints import load_checkpoint
    from movieplotgpt.model.hardware import choose_hardware
    from movieplotgpt.progress_bars import stage_bars
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.run import TrainingSettings

    chosen = {"split": (split,), "metrics": metrics, "device": (device,), "precision": (precision,)}
    for name, values in chosen.items():
        if wrong := [value for value in values if value not in CHOICES[name]]:
            raise ConfigError(f"{name}: {wrong[0]!r} is unknown; choose from {', '.join(CHOICES[name])}")
    for name, value in (("documents", documents), ("others", others), ("samples", samples)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}={value} is too small; it has to be at least 1")
    place = Path(out) if out else None
    if add and not place:
        raise ConfigError("add=True needs the evaluation to add to: name it with out=FILE")
    if place:
        check_place(place)
    hardware = choose_hardware(TrainingSettings(device=device)).device
    judging = (
        load_checkpoint(judge, device=hardware) if judge and samples else None
    )  # before the work: it may be missing
    corpus = PreparedCorpus.load(Path(data))
    checkpoint = load_checkpoint(model, device=hardware)
    checkpoint.model.compute_dtype = getattr(torch, precision)
    which: dict[str, Any] = {"split": split, "documents": documents}
    before = None
    if add and place and place.exists():
        before = read_earlier(place, checkpoint, corpus, **which, seed=seed)
    metrics = [metric for metric in metrics if not getattr(before, _PARTS.get(metric, metric), None)]
    titles = "titles" in metrics and bool(checkpoint.format.header)
    with stage_bars() if progress else nullcontext(lambda stage, done, total: None) as bars:
        known: dict[str, Any] = {"seed": seed, "progress": bars}
        if before and not titles:
            measured = before.likelihood
        else:
            measured = likelihood.evaluate(checkpoint, corpus, **which, others=others if titles else 0, **known)
        held_out = read_held_out(checkpoint, corpus, split, documents, seed)
        judged: dict[str, Any] = {
            "split": split,
            "samples": samples,
            "judge": judging,
            "judge_name": _name(judge) if judge else None,
        }
        measures: dict[str, Callable[[], Any]] = {
            "titles": partial(title_retrieval, checkpoint, held_out, **known),
            "next-sentence": partial(next_sentence, checkpoint, held_out, **known),
            "memorisation": partial(memorisation, checkpoint, corpus, **known),
            **{name: partial(score_compressor, name, corpus, **which, **known) for name in COMPRESSORS},
            "samples": partial(score_samples, _name(model), checkpoint, corpus, **judged, **known),
        }
        wanted = {*metrics, *(COMPRESSORS if "compressors" in metrics else ()), *(["samples"] if samples else [])}
        if not (titles and any(held_out.titles)):
            wanted.discard("titles")
        found = {name: _where_possible(name, measure, report) for name, measure in measures.items() if name in wanted}
    scores = [score for name in COMPRESSORS if (score := found.pop(name, None))]
    parts = {_PARTS.get(name, name): part for name, part in found.items()}
    evaluation = describe(_name(model), checkpoint, measured, scores, _commit(), **parts)
    if before:
        evaluation = evaluation.keeping(before)
    if place:
        evaluation.write(place)
    for note in measured.notes:
        report(note)
    return evaluation


def _name(model: str | Path) -> str:
    """Return what the tables call a model: the run's name for its best or last checkpoint."""
    path = Path(model)
    return path.parent.name if path.name in ("best", "last") and path.parent.name else path.name


def _where_possible(name: str, measure: Callable[[], _Measured], report: Callable[[str], object]) -> _Measured | None:
    """Return what ``measure`` finds; report a metric that cannot be measured here."""
    try:
        return measure()
    except (DataError, MissingExtraError) as error:
        report(f"{name} is left out: {error}")
        return None


def _commit() -> str | None:
    """Return the commit of this code, with a mark if the code was changed since; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    commands = (["describe", "--always", "--exclude=*"], ["status", "--porcelain", "--", "."])
    try:
        done = [
            subprocess.run([*git, *one], capture_output=True, text=True, check=True, timeout=10) for one in commands
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    commit, changed = (one.stdout.strip() for one in done)
    return f"{commit}-dirty" if commit and changed else commit or None

"""``movieplotgpt evaluate``: bits per character beside compressors, what a title does, what comes next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from cyclopts import Parameter

from movieplotgpt.errors import ConfigError, DataError, MissingExtraError
from movieplotgpt.training.waiting import choose_waiting

if TYPE_CHECKING:
    from movieplotgpt.evaluation.record import Evaluation

Metric = Literal["likelihood", "compressors", "titles", "next-sentence", "memorisation"]
Measured = TypeVar("Measured")
METRICS: tuple[Metric, ...] = get_args(Metric)
_PARTS = {"titles": "title_retrieval", "next-sentence": "next_sentence"}  # called otherwise in an evaluation


def evaluate(
    model: str,
    *,
    data: Path,
    split: Literal["train", "validation", "test"] = "test",
    documents: int | None = None,
    metrics: Annotated[tuple[Metric, ...], Parameter(consume_multiple=True)] = METRICS,
    others: int = 1,
    samples: int | None = None,
    judge: str | None = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    json: bool = False,
    out: Path | None = None,
    add: bool = False,
) -> None:
    """Score held-out documents: bits per character with its interval, beside xz and PPMd on the same text.

    Args:
        model: A published name, a model folder or a run.
        data: A prepared corpus, with whichever tokenizer.
        split: The documents to score. Choose by the validation split; the test split is for the number you report.
        documents: Score only so many, drawn by the seed.
        metrics: What to measure besides bits per character (likelihood alone: nothing else). compressors: xz, PPMd and
            n-grams on the same text, minutes for a large corpus, kept with it. titles: bits saved by the true title,
            against another's and against none, and how often it is found among a hundred. next-sentence: whether the
            true one is likelier than another film's, a later one, or the two swapped. memorisation: training text
            against unread text, and how much the model reproduces verbatim.
        others: How many other titles the true one is set against.
        samples: Also write so many texts under titles of the split, by default settings, and set them beside real ones and beside
            random ones: names that return, invented words, loops, endings, and what a sentence encoder tells apart.
        judge: Another model, which says how likely the samples are to it.
        seed: Draws documents, titles and the resamples of the interval.
        device: Where the model runs.
        precision: Of the model's products; sums are float64 in any case.
        json: Print the evaluation as JSON.
        out: Write the evaluation as JSON, for `movieplotgpt report`.
        add: Keep what the file to write has already of these weights and documents, and measure what it lacks (samples anew,
            if asked).
    """
    choose_waiting()
    import torch

    from movieplotgpt.atomic import check_place
    from movieplotgpt.cli.progress import stage_bars
    from movieplotgpt.evaluation import likelihood
    from movieplotgpt.evaluation.compressors import COMPRESSORS, score_compressor
    from movieplotgpt.evaluation.held_out import read_held_out
    from movieplotgpt.evaluation.memorisation import memorisation
    from movieplotgpt.evaluation.next_sentence import next_sentence
    from movieplotgpt.evaluation.record import describe, read_earlier
    from movieplotgpt.evaluation.samples import score_samples
    from movieplotgpt.evaluation.titles import title_retrieval
    from movieplotgpt.model.checkpoints import load_checkpoint
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.hardware import choose_hardware
    from movieplotgpt.training.run import TrainingSettings

    for name, value in (("--documents", documents), ("--others", others), ("--samples", samples)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it has to be at least 1")
    if add and not out:
        raise ConfigError("--add is given without --out; name the evaluation to add to")
    if out:
        check_place(out)
    place = choose_hardware(TrainingSettings(device=device)).device
    judging = load_checkpoint(judge, device=place) if judge and samples else None  # before the work: it may be missing
    corpus = PreparedCorpus.load(data)
    checkpoint = load_checkpoint(model, device=place)
    checkpoint.model.compute_dtype = getattr(torch, precision)
    which: dict[str, Any] = {"split": split, "documents": documents}
    before = None
    if add and out and out.exists():
        before = read_earlier(out, checkpoint, corpus, **which, seed=seed)
    metrics = tuple(metric for metric in metrics if not getattr(before, _PARTS.get(metric, metric), None))
    titles = "titles" in metrics and bool(checkpoint.format.header)
    with stage_bars() as progress:
        known: dict[str, Any] = {"seed": seed, "progress": progress}
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
        found = {name: _where_possible(name, measure) for name, measure in measures.items() if name in wanted}
    scores = [score for name in COMPRESSORS if (score := found.pop(name, None))]
    parts = {_PARTS.get(name, name): part for name, part in found.items()}
    evaluation = describe(_name(model), checkpoint, measured, scores, _commit(), **parts)
    if before:
        evaluation = evaluation.keeping(before)
    if out:
        evaluation.write(out)
    for note in measured.notes:
        print(note, file=sys.stderr)
    if json:
        print(evaluation.model_dump_json(indent=2))
    else:
        _show(evaluation)


def _name(model: str) -> str:
    """What the tables call a model: of a run's best or last checkpoint the run's name."""
    path = Path(model)
    return path.parent.name if path.name in ("best", "last") and path.parent.name else path.name


def _where_possible(name: str, measure: Callable[[], Measured]) -> Measured | None:
    """What ``measure`` finds; what cannot be measured here is said to be left out."""
    try:
        return measure()
    except (DataError, MissingExtraError) as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return None


def _show(evaluation: Evaluation) -> None:
    from rich.console import Console

    from movieplotgpt.report.tables import scorecard, show_shares
    from movieplotgpt.tables import Table

    measured = evaluation.likelihood
    title = f"{evaluation.model} on {measured.source}, {measured.split} split"
    console = Console(markup=False, emoji=False)  # names are no markup
    for table in (
        Table(("", "bits per character", "95 % interval"), _rows(evaluation), title),
        Table(("what it tells apart", "share right", "95 % interval", "by chance"), show_shares(evaluation)),
        scorecard(evaluation.samples.rows if evaluation.samples else ()),
    ):
        if table.rows:
            console.print(table.rich())
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
        console.print(fact, highlight=False, soft_wrap=True)


def _rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    from movieplotgpt.evaluation.intervals import show_interval

    measured, lift, heart = evaluation.likelihood, evaluation.likelihood.title_lift, evaluation.memorisation
    rows = [(evaluation.model, measured.bits_per_character, measured.interval)]
    rows += [(score.name, score.bits_per_character, None) for score in evaluation.compressors]
    if heart:
        rows.append(("on texts it was trained on", heart.read_bits, None))
        rows.append(("... and as many it was not", heart.unread_bits, None))
    if lift:
        rows.append(("title lift: saved by the true title against another's", lift.bits_per_character, lift.interval))
        rows.append(("... against no title", lift.against_empty, lift.against_empty_interval))
    if planned := measured.plan_lift:
        rows.append(
            ("plan lift: saved by the own plan against another's", planned.bits_per_character, planned.interval)
        )
        rows.append(("... against no plan", planned.against_none, planned.against_none_interval))
    if lift and lift.words_masked is not None:
        what = "... against another's, the title's own words left out"
        rows.append((what, lift.words_masked, lift.words_masked_interval))
    return [(what, f"{bits:.4f}", show_interval(interval, 4) if interval else "") for what, bits, interval in rows]


def _commit() -> str | None:
    """The commit this code is at, with a mark if the code was changed since; None outside a checkout."""
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

"""``movieplotgpt evaluate``: bits per character beside compressors, what a title does, what comes next."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from movieplotgpt.evaluation.measuring import METRICS, Metric
from movieplotgpt.evaluation.measuring import evaluate as measure

if TYPE_CHECKING:
    from movieplotgpt.evaluation.record import Evaluation


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
        data: A prepared corpus, with any tokenizer.
        split: The documents to score. Choose by the validation split; the test split is for the number you report.
        documents: Score only so many, drawn by the seed.
        metrics: What to measure besides bits per character (likelihood: nothing else). compressors: xz, PPMd and n-grams on
            the same text (minutes for a large corpus, then cached). titles: bits saved by the true title, compared with another
            and with none, and how often it is found among a hundred. next-sentence: whether the true one is likelier than one
            of another text, a later one, or the two swapped. memorisation: training text compared with unread text, and
            how much the model reproduces verbatim.
        others: How many other titles the true one is compared with.
        samples: Also write N texts for titles of the split, and score them beside real texts and random ones: returning names,
            invented words, loops, endings, and whether a sentence encoder can tell them from real ones.
        judge: Another model, to score how likely the samples are.
        seed: Draws documents, titles and the resamples of the interval.
        device: Where the model runs.
        precision: Of the matrix products; sums are always float64.
        json: Print the evaluation as JSON.
        out: Write the evaluation as JSON, for `movieplotgpt report`.
        add: Keep what the output file has already of these weights and documents, and measure only what it lacks (and new
            samples, if asked for).
    """
    evaluation = measure(
        model,
        data,
        split=split,
        documents=documents,
        metrics=metrics,
        others=others,
        samples=samples,
        judge=judge,
        seed=seed,
        device=device,
        precision=precision,
        out=out,
        add=add,
        report=partial(print, file=sys.stderr),
    )
    if json:
        print(evaluation.model_dump_json(indent=2))
    else:
        _show(evaluation)


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

"""What was found, as tables: the Markdown and the page show the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from movieplotgpt.evaluation.compressors import CompressorScore
from movieplotgpt.evaluation.intervals import Interval, bits_per_character, bootstrap_interval, show_interval
from movieplotgpt.evaluation.record import Evaluation
from movieplotgpt.evaluation.samples import SHOWN_SCORES, SampleReport, SampleScores
from movieplotgpt.tables import Table

_OF_DOCUMENTS = "Intervals are of documents, not of works."
_TORN = "Told from real is too low here, by about 0.03: it was measured with texts of one title in different folds."


@dataclass(frozen=True)
class Section:
    """All about one text that was scored; ``facts`` are how each number came about."""

    heading: str
    prompt: str
    tables: tuple[Table, ...]
    facts: tuple[str, ...]


def sections(evaluations: Sequence[Evaluation]) -> list[Section]:
    """One for each text, best model first."""
    ordered = sorted(evaluations, key=lambda e: (*_scored(e), e.likelihood.bits_per_character, e.model))
    return [_section(list(same)) for _, same in groupby(ordered, key=_scored)]


def show_shares(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """Return each question of the model's choices, the share right, its interval, and chance."""
    rows: list[tuple[str, float, Interval | None, float]] = []
    if found := evaluation.title_retrieval:
        n = found.candidates
        rows.append((f"the title among {n}, by the plot's likelihood", found.at_1, found.at_1_interval, 1 / n))
        rows.append((f"... among its first 10 of {n}", found.at_10, found.at_10_interval, min(1.0, 10 / n)))
    if asked := evaluation.next_sentence:
        others = ("another work's", "a later one", "the next two swapped")
        for name, choice in zip(others, (asked.another_work, asked.later, asked.swapped), strict=True):
            rows.append((f"the next sentence from {name}", choice.share, choice.interval, 0.5))
    shown = [(name, f"{share:.3f}", show_interval(interval), f"{chance:.2f}") for name, share, interval, chance in rows]
    if heart := evaluation.memorisation:
        read, unread = heart.read, heart.unread
        shown.append(("verbatim, of text it has read", f"{read.share:.3f}", show_interval(read.interval), "-"))
        shown.append(("... of text it has not", f"{unread.share:.3f}", show_interval(unread.interval), "-"))
    return shown


def scorecard(rows: Sequence[SampleScores], title: str = "") -> Table:
    """Return one row for each score and one column for each set of texts; scores that fit none of them are left out."""
    columns = [_column(scores) for scores in rows]
    lines = [(name, *cells) for name, *cells in zip(SHOWN_SCORES, *columns, strict=True) if {*cells} != {"-"}]
    return Table(("", *(scores.name for scores in rows)), tuple(lines), title)


def _column(scores: SampleScores) -> list[str]:
    measured = scores.model_dump() | (scores.titles.model_dump() if scores.titles else {})

    def shown(name: str, form: str) -> str:
        """Format a score and the farther end of its interval."""
        value, interval = measured[name], scores.intervals.get(name)
        if value is None or interval is None or interval[0] == interval[1]:  # equal texts say nothing of others
            return _number(value, form)
        off = max(value - interval[0], interval[1] - value)
        return _number(value, form).removesuffix(" %") + f" ± {_number(off, form)}"

    cells = ([shown(name, form) for name in names if name in measured] for form, *names in SHOWN_SCORES.values())
    return ["-" if {*each} <= {"-"} else " / ".join(each) for each in cells]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value).replace("%", " %")


def _scored(evaluation: Evaluation) -> tuple[str, str, str, int, int]:
    measured = evaluation.likelihood
    return measured.source, measured.corpus_hash, measured.split, measured.documents, measured.characters


def _section(evaluations: list[Evaluation]) -> Section:
    first = evaluations[0].likelihood
    compressors = {score.name: score for evaluation in evaluations for score in evaluation.compressors}.values()
    others = [make(evaluations) for make in (_in_pairs, _titles, _plans, _told_apart, _by_heart)]
    return Section(
        heading=f"{first.source}: {first.split} split, {first.documents:,} documents, {first.characters:,} characters",
        prompt=f"Prompt form: {first.prompt}. Corpus `{first.corpus_hash[:16]}`, split `{first.split_hash[:16]}`, cleaning "
        f"`{first.cleaner_hash[:16]}` (first 16 digits of SHA-256).",
        tables=(_bits(evaluations, compressors), *filter(None, others), *_samples(evaluations)),
        facts=(
            *map(_circumstances, evaluations),
            *(f"{score.name}: {score.bytes:,} bytes, {score.seconds:,.0f} seconds" for score in compressors),
        ),
    )


def _bits(evaluations: list[Evaluation], compressors: Iterable[CompressorScore]) -> Table:
    """Bits per character of the models, then of the compressors."""
    columns = (
        *("model", "parameters", "bits per character", "interval", "mean of documents", "title lift", "interval"),
        *("against no title", "header, bits"),
    )
    others = [(score.name, "-", f"{score.bits_per_character:.3f}", *["-"] * 6) for score in compressors]
    return Table(columns, (*map(_row, evaluations), *others))


def _in_pairs(evaluations: list[Evaluation]) -> Table | None:
    """Return how much more each model takes than the best, paired by document: surer than comparing two intervals."""
    comparable = [one for one in evaluations if one.likelihood.document_bits]
    if len(comparable) < 2:
        return None
    best, *others = comparable
    characters = np.array(best.likelihood.document_characters)
    works = best.likelihood.document_works or range(len(characters))  # older records do not have them
    rows = []
    for other in others:
        more = math.log(2) * (np.array(other.likelihood.document_bits) - best.likelihood.document_bits)
        interval = bootstrap_interval(more, characters, works, seed=best.likelihood.seed)
        rows.append((other.model, f"{bits_per_character(more, characters):.3f}", show_interval(interval)))
    return Table((f"more than {best.model}, documents in pairs", "bits per character", "interval"), tuple(rows))


def _plans(evaluations: list[Evaluation]) -> Table | None:
    """Return what a document's own plan saves, for models trained with plans."""
    lifts = [(one.model, lift) for one in evaluations if (lift := one.likelihood.plan_lift)]
    rows = [
        (
            model,
            *(f"{lift.bits_per_character:.4f}", show_interval(lift.interval, 4)),
            *(f"{lift.against_none:.4f}", show_interval(lift.against_none_interval, 4)),
        )
        for model, lift in lifts
    ]
    note = "Plan lift: bits per character that a document's own plan saves, under its title."
    return (
        Table(("plan lift", "against another's", "interval", "against none", "interval"), tuple(rows), note)
        if rows
        else None
    )


def _titles(evaluations: list[Evaluation]) -> Table | None:
    """The title lift looked at more closely: without the title's own words, and by the distance from the header."""
    lifts = [(one.model, lift) for one in evaluations if (lift := one.likelihood.title_lift) and lift.by_distance]
    if not lifts:
        return None
    places = sorted({(at.begin, at.end) for _, lift in lifts for at in lift.by_distance})
    rows = []
    for model, lift in lifts:
        at = {(one.begin, one.end): f"{one.bits_per_character:.4f}" for one in lift.by_distance}
        masked = (f"{lift.words_masked:.4f}", show_interval(lift.words_masked_interval, 4))
        rows.append((model, *masked, *(at.get(place, "-") for place in places)))
    columns = (f"{begin:,} to {end:,}" if end else f"{begin:,} on" for begin, end in places)
    note = "Title lift without every word of the title; and by the distance from the header, in characters."
    return Table(("title lift", "words left out", "interval", *columns), tuple(rows), note)


def _told_apart(evaluations: list[Evaluation]) -> Table | None:
    """A column for each question and a row for each model that was asked."""
    asked = [(evaluation.model, show_shares(evaluation)) for evaluation in evaluations]
    questions = {name: chance for _, rows in asked for name, _, _, chance in rows}
    if not questions:
        return None
    rows = []
    for model, shares in asked:
        cells = {name: f"{share} ({interval})" for name, share, interval, _ in shares}
        rows += [(model, *(cells.get(name, "-") for name in questions))] if cells else []
    return Table(("what it tells apart", *questions), (*rows, ("by chance", *questions.values())))


def _by_heart(evaluations: list[Evaluation]) -> Table | None:
    """Bits per character on text that was read in training, and on text that was not."""
    found = [(one.model, one.memorisation) for one in evaluations if one.memorisation]
    if not found:
        return None
    rows = ((model, f"{heart.read_bits:.3f}", f"{heart.unread_bits:.3f}") for model, heart in found)
    return Table(("bits per character", "text it has read", "text it has not"), tuple(rows))


def _samples(evaluations: list[Evaluation]) -> list[Table]:
    """Scorecards of what the models write, one for each way of asking: the rows that all share once, then each model's."""
    asked: dict[str, list[SampleReport]] = {}
    for one in evaluations:
        if report := one.samples:
            other = "test" if report.split == "validation" else "validation"
            torn = report.rows[0].titles and not report.by_work
            old = f"{f' {_TORN}' if torn else ''}{'' if report.by_work else f' {_OF_DOCUMENTS}'}"
            note = (
                f"What they write: {report.rows[0].texts} texts under {report.split} titles, the first {report.characters_read:,} "
                f"characters of each; {_drawn(report)}, seed {report.seed}; the judge "
                f"is {report.judge or 'none'}. Real A are the {report.split} texts of these titles, real B {other} texts; ± is how "
                f"far the 95 % interval of a number goes.{old}"
            )
            asked.setdefault(note, []).append(report)
    tables = []
    for note, reports in asked.items():
        shared, written = reports[0].rows[:-1], [report.rows[-1] for report in reports]
        tables.append(scorecard((*shared, *written), note))
    return tables


def _drawn(report: SampleReport) -> str:
    """All settings of the sampler that do something."""
    guided = (report.sampling.guidance or 1) > 1
    settings = report.sampling.model_dump(exclude={"seed", "n"} if guided else {"seed", "n", "guidance_characters"})
    said = [f"{name.replace('_', '-')} {value}" for name, value in settings.items() if value not in (None, (), {})]
    off = ("guidance 1.0", "dry-base 1.75")
    return ", ".join([*(each for each in said if each not in off), report.precision])


def _row(evaluation: Evaluation) -> tuple[str, ...]:
    measured, lift = evaluation.likelihood, evaluation.likelihood.title_lift
    return (
        evaluation.model,
        f"{evaluation.parameters / 1e6:.1f} M",
        f"**{measured.bits_per_character:.3f}**",
        show_interval(measured.interval),
        f"{measured.macro:.3f}",
        f"{lift.bits_per_character:.4f}" if lift else "-",
        show_interval(lift.interval, 4) if lift else "-",
        f"{lift.against_empty:.4f}" if lift else "-",
        f"{measured.header_bits:.1f}" if measured.header_bits else "-",
    )


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
        f"{evaluation.model}: {evaluation.tokenizer} tokenizer of {evaluation.vocab_size:,}, context "
        f"{evaluation.context_length}; {trained}; measured in {measured.seconds:,.0f} seconds on "
        f"{measured.device}, {measured.precision}, threads {measured.threads}, torch {measured.torch}, movieplotgpt "
        f"{evaluation.movieplotgpt}{f' at {evaluation.commit}' if evaluation.commit else ''}; weights "
        f"`{evaluation.weights_sha256[:16]}`"
    )
    for commit in sorted({commit or "?" for commit in evaluation.earlier.values()}):
        kept = [name.replace("_", " ") for name, at in evaluation.earlier.items() if (at or "?") == commit]
        line += f"; {', '.join(kept)} at {commit}"
    return ". ".join([line, *measured.notes])

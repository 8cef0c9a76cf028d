"""What a study found: a table, the law of its losses, and which size and tokenizer to take."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

from movieplotgpt import atomic
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.errors import DataError, MissingExtraError
from movieplotgpt.evaluation.intervals import Interval, show_interval
from movieplotgpt.evaluation.record import read_evaluation
from movieplotgpt.model.sizes import training_flops_per_token
from movieplotgpt.records import Record
from movieplotgpt.study.grid import Cell, Study, exact
from movieplotgpt.study.scaling import SizeLaw, TextLaw, fit_sizes, fit_text
from movieplotgpt.tables import Table
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunConfig
from movieplotgpt.training.windows import TrainingWindows

RESULTS = "study.json"
FEW = 5  # held-out texts
WORDS = ("size", "tokenizer", "bits per character, by seed", "interval of the first")  # columns that are not numbers
COLUMNS = (*WORDS[:2], "parameters", *WORDS[2:], "epochs", "minutes")
BY_HEART = ("bits per character of text it has read", "of that verbatim", "characters verbatim, of 100")


class StudyRow(Record):
    """One run: what it was, what it cost, what came of it.

    ``changes`` are the settings that the grid varies. ``characters`` is how many of the training text it read, repeats
    counted; ``curve`` has FLOPs and bits per character on the validation split. ``read_bits`` are on training documents,
    ``by_heart`` the share of them that the model reproduces verbatim, ``copied`` the characters for which it does, of
    the hundred asked for; None where the study does not ask.
    """

    size: str
    tokenizer: str
    budget: str
    amount: float
    seed: int
    changes: tuple[str, ...] = ()
    parameters: int
    tokens: int
    characters: float
    epochs: float
    flops: float
    minutes: float
    bits_per_character: float
    interval: Interval | None
    read_bits: float | None = None
    by_heart: float | None = None
    copied: float | None = None
    curve: tuple[tuple[float, float], ...]

    @property
    def variant(self) -> str:
        """The tokenizer, and what was set otherwise."""
        return ", ".join([self.tokenizer, *self.changes])


class Law(Record):
    """The laws of one tokenizer: of sizes for each budget, and of sizes and text over all.

    ``settings``: what its runs were trained with, as section.key, and what the laws therefore hold for.
    """

    tokenizer: str
    settings: dict[str, Any]
    sizes: dict[str, SizeLaw]
    text: TextLaw | None


class StudyResults(Record):
    """All that is kept of a study."""

    name: str
    source: str
    corpus_hash: str
    split_hash: str
    split: str
    settings: dict[str, Any]
    machine: str
    rows: tuple[StudyRow, ...]
    laws: tuple[Law, ...]
    documents: int | None = None
    missing: tuple[str, ...] = ()


def read_results(study: Study, name: str) -> StudyResults:
    """Gather what the runs of a study found; those that are not done are left out.

    Raises:
        DataError: none is done.
    """
    done = [cell for cell in study.cells if study.evaluation(cell).exists()]
    if not done:
        raise DataError(f"no run of {name} is done yet; start it with `movieplotgpt compare`")
    rows = tuple(_row(study, cell) for cell in done)
    likelihood = read_evaluation(study.evaluation(done[0])).likelihood
    told = likelihood.model_dump(include={"source", "corpus_hash", "split_hash", "split", "documents"})
    return StudyResults(
        **told,
        name=name,
        settings=study.settings.model_dump(mode="json"),
        machine=f"{likelihood.device}, threads {likelihood.threads}, torch {likelihood.torch}",
        rows=rows,
        missing=tuple(cell.name for cell in study.cells if cell not in done),
        laws=tuple(_laws(study, done, rows)),
    )


def load_results(path: Path) -> StudyResults:
    """Read a study.json.

    Raises:
        DataError: the study does not exist or is damaged.
    """
    return StudyResults.load(
        path,
        missing=f"there is no study {path}; make one with `movieplotgpt compare`",
        damaged=f"{path} is not a study of this version; run `movieplotgpt compare` again",
    )


def write_study(results: StudyResults, folder: Path) -> None:
    """Write study.json, study.csv and STUDY.md.

    Raises:
        StorageError: the disk refuses.
    """
    results.write(folder / RESULTS, indent=1)
    atomic.write_text(folder / "study.csv", study_csv(results))
    atomic.write_text(folder / "STUDY.md", study_markdown(results))


def study_csv(results: StudyResults) -> str:
    """A line for each run."""
    columns = [name for name in StudyRow.model_fields if name not in ("curve", "interval")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*columns, "low", "high"])
    for row in results.rows:
        cells = {**row.model_dump(), "changes": " ".join(row.changes)}
        writer.writerow([*(cells[name] for name in columns), *(row.interval or ("", ""))])
    return out.getvalue()


def study_markdown(results: StudyResults) -> str:
    """The advice, a table for each budget, and the laws."""
    lines = [f"# {results.name}", "", f"`movieplotgpt compare`: {circumstances(results)}.", ""]
    lines += [f"- {sentence}" for sentence in advice(results)]
    lines += [f"\n## {table.markdown()}" for table in tables(results)]
    found = laws(results)
    return "\n".join([*lines, *(["", "## Laws", ""] if found else []), *(f"- {law}" for law in found)]) + "\n"


def circumstances(results: StudyResults) -> str:
    """Return what was scored, and on which machine."""
    documents = f"{results.documents:,} documents of " if results.documents else ""
    chosen = ", by which the choices below were made, too" if results.split == "test" else ""
    runs = f"; of {len(results.rows) + len(results.missing)} runs these are missing: {', '.join(results.missing)}"
    return (
        f"{results.source}, bits per character on {documents}the {results.split} split (`{results.split_hash[:16]}`){chosen}; "
        f"{results.machine}{runs if results.missing else ''}"
    )


def advice(results: StudyResults) -> list[str]:
    """Return which size and tokenizer to choose at each budget, and how sure that is."""
    sentences = []
    for budget, rows in _by_budget(results.rows):
        means = sorted((mean(bits), size, tokenizer, bits) for (size, tokenizer), bits in _cells(rows).items())
        best, size, tokenizer, _ = means[0]
        if len(means) == 1:
            sentences.append(
                f"at {budget} {size} with {tokenizer}, the only one, reaches {best:.3f} bits per character"
            )
            continue
        sentence = f"at {budget} take {size} with {tokenizer}: {best:.3f} bits per character"
        second, other_size, other_tokenizer, _ = means[1]
        sentence += f"; next {other_size} with {other_tokenizer}, {second - best:.3f} more"
        spreads = [max(bits) - min(bits) for *_, bits in means if len(bits) > 1]
        if spreads:
            these = min(len(bits) for *_, bits in means[:2])
            own = "" if these > 1 else "one seed of these; "
            sentence += f" ({own}seeds of one run differ by up to {max(spreads):.3f})"
        else:
            sentence += " (one seed each: what seeds alone make is not known here)"
        ladder = sorted({row.size: row.parameters for row in rows}.items(), key=lambda item: item[1])
        if len(ladder) > 1 and size in (ladder[0][0], ladder[-1][0]):
            end, other = ("smallest", "smaller") if size == ladder[0][0] else ("largest", "larger")
            sentence += f"; it is the {end} size tried, so a {other} one may be better still"
        sentences.append(sentence)
    if results.documents is not None and results.documents < FEW:
        sentences.append(
            f"no more than {results.documents} held-out {'text was' if results.documents == 1 else 'texts were'} scored: "
            "take a longer text, or one in more parts, before you believe small differences"
        )
    return sentences


def show_budget(row: StudyRow) -> str:
    """``1e+14 flops``, ``2 epochs``."""
    return f"{exact(row.amount)} {row.budget if row.amount != 1 else row.budget.removesuffix('s')}"


def _by_budget(rows: Sequence[StudyRow]) -> list[tuple[str, list[StudyRow]]]:
    ordered = sorted(rows, key=lambda row: (row.budget, row.amount))
    return [(budget, list(same)) for budget, same in groupby(ordered, key=show_budget)]


def _cells(rows: Sequence[StudyRow]) -> dict[tuple[str, str], list[float]]:
    """Bits per character by size and tokenizer, a number for each seed."""
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        cells.setdefault((row.size, row.variant), []).append(row.bits_per_character)
    return cells


def tables(results: StudyResults) -> list[Table]:
    """For each budget a row for each size and tokenizer, best first."""
    asked = any(row.read_bits is not None for row in results.rows)
    columns, found = (*COLUMNS, *(BY_HEART if asked else ())), []
    for budget, rows in _by_budget(results.rows):
        lines = []
        for (size, tokenizer), bits in sorted(_cells(rows).items(), key=lambda item: mean(item[1])):
            first = next(row for row in rows if (row.size, row.variant) == (size, tokenizer))
            by_heart = (_shown(first.read_bits, ".3f"), _shown(first.by_heart, ".1%"), _shown(first.copied, ".0f"))
            run = (size, tokenizer, f"{first.parameters / 1e6:.1f} M", ", ".join(f"{each:.3f}" for each in bits))
            told = (show_interval(first.interval), f"{first.epochs:.2f}", f"{first.minutes:.1f}")
            lines.append((*run, *told, *(by_heart if asked else ())))
        found.append(Table(columns, lines, f"At {budget} each", WORDS))
    return found


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def laws(results: StudyResults) -> list[str]:
    """Return the fitted laws, one sentence each."""
    return [line for law in results.laws for line in _law_lines(law)]


def _law_lines(law: Law) -> list[str]:
    lines = []
    for budget, size in law.sizes.items():
        sure = f"95 % of the first number: {show_interval(size.interval)}; no run is off by more than {size.largest_error:.3f}"
        if size.interval is None:
            sure = "three runs make three numbers: how far off it is nobody knows"
        power = f"{size.floor:.3f} + {size.scale:.3g} / parameters^{size.exponent:.2f}"
        lines.append(f"{law.tokenizer}, {budget}: {power} ({sure})")
    if text := law.text:
        lines.append(
            f"{law.tokenizer}, all {text.points} runs: {text.floor:.3f} + {text.a:.3g} / parameters^{text.alpha:.2f} + "
            f"{text.b:.3g} / characters^{text.beta:.2f} (95 % of the first number: {show_interval(text.interval)}; no run is "
            f"off by more than {text.largest_error:.3f}, nor by more than {text.foretold_error:.3f} when the others foretell it)"
        )
    return lines


def _row(study: Study, cell: Cell) -> StudyRow:
    found = read_evaluation(study.evaluation(cell))
    corpus = PreparedCorpus.load(study.data(cell))
    network = study.run_config(cell).model.model_config_for(corpus.tokenizer.vocab_size)
    counts = corpus.manifest.splits["train"]
    training = found.training
    epochs = training["tokens"] / tokens_in_epoch(study.run_config(cell), corpus)
    per_token = training_flops_per_token(network)
    per_step = training["tokens"] / max(1, training["step"])
    heart = found.memorisation
    return StudyRow(
        **asdict(cell),
        parameters=parameters(network),
        tokens=training["tokens"],
        characters=epochs * counts.characters,
        epochs=epochs,
        flops=per_token * training["tokens"],
        minutes=training["seconds"] / 60,
        bits_per_character=found.likelihood.bits_per_character,
        interval=found.likelihood.interval,
        read_bits=heart and heart.read_bits,
        by_heart=heart and heart.read.share,
        copied=heart and heart.read.characters,
        curve=tuple((step * per_step * per_token, bits) for step, bits in training["curve"]),
    )


def tokens_in_epoch(config: RunConfig, corpus: PreparedCorpus) -> int:
    """Tokens of the windows that hold the training split once: repeated headers and overlaps are among them."""
    context_length = config.model.context_length
    windows = TrainingWindows.of(corpus, context_length, config.windows, config.training.seed)
    return windows.rows_in_epoch(0) * context_length


def _laws(study: Study, cells: Sequence[Cell], rows: Sequence[StudyRow]) -> Iterator[Law]:
    """The laws that the runs suffice for, of each tokenizer and whatever else varies."""
    settings = {row.variant: study.run_config(cell).learning for cell, row in zip(cells, rows, strict=True)}
    for variant, shared in settings.items():
        own = [row for row in rows if row.variant == variant]
        sizes, text = {}, None
        for budget, same in _by_budget(own):
            if same[0].budget == "epochs":  # where larger models read less, no law of sizes alone holds
                with suppress(DataError):
                    sizes[budget] = fit_sizes(_each(same, "parameters"), _each(same, "bits_per_character"))
        with suppress(DataError, MissingExtraError):
            text = fit_text(_each(own, "parameters"), _each(own, "characters"), _each(own, "bits_per_character"))
        yield Law(tokenizer=variant, settings=shared, sizes=sizes, text=text)


def _each(rows: Sequence[StudyRow], name: str) -> list[float]:
    return [getattr(row, name) for row in rows]

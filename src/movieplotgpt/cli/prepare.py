"""``movieplotgpt prepare``: from a source file to token arrays, and a table of what was found."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from movieplotgpt.cli.reading import FileFlags, ReadingFiles

if TYPE_CHECKING:
    from movieplotgpt.text.duplicates import DuplicateSettings
    from movieplotgpt.text.prepare import PrepareReport


def prepare(
    config: Path,
    *overrides: str,
    source: Path,
    out: Path,
    reading: ReadingFiles = None,
    json: bool = False,
) -> None:
    """Read a corpus, clean it, group duplicates, split it, train its tokenizer and write token arrays.

    Args:
        config: A TOML file: columns, cleaning, format, split, tokenizer. configs/ has four.
        overrides: Settings to change, as section.key=value (tokenizer.vocab_size=8192).
        source: CSV, TSV, JSON, JSON Lines or Parquet (also .gz, .zst, .bz2, .xz), a text or document, or a folder or
            archive of them.
        out: The folder to write; a prepared corpus in it is replaced as a whole.
        reading: How the files are read.
        json: Print the report as JSON.
    """
    from rich.console import Console

    from movieplotgpt.config import read_settings
    from movieplotgpt.progress_bars import stage_bars
    from movieplotgpt.tables import Table
    from movieplotgpt.text.prepare import prepare as run
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.run import RunConfig
    from movieplotgpt.training.windows import share_with_title

    settings = read_settings(RunConfig, config, (*(reading or FileFlags()).reading.overrides, *overrides))
    with stage_bars() as progress:
        report = run(settings, source, out, progress)
    split = PreparedCorpus.load(out).split("train")
    share = share_with_title(split, settings.model.context_length) if settings.format.header else None
    if json:
        print(dumps({**report.model_dump(mode="json"), "share_with_title": share}, indent=2))
        return
    rows = _lines(report, settings.split.duplicates)
    if share is not None:
        context = f"context {settings.model.context_length} tokens"
        rows.append((f"body tokens that see their whole title ({context})", f"{share:.1%}"))
    Console(markup=False, emoji=False).print(Table(("", ""), rows, report.source).rich())  # titles are no markup
    print(f"prepared {out}; next: movieplotgpt train {config} --data {out}")


def _lines(report: PrepareReport, duplicates: DuplicateSettings) -> list[tuple[str, str]]:
    low, *_, high = report.lengths
    median = report.lengths[len(report.lengths) // 2]
    rows = [("rows read", f"{report.rows:,}"), ("documents kept", f"{report.documents:,}")]
    rows += [(f"  note: {note}", "") for note in report.notes]
    rows += [(f"  warning: {warning}", "") for warning in report.warnings]
    rows += [(f"  dropped: {reason}", f"{count:,}") for reason, count in report.dropped.items()]
    rows += [(f"  cleaned: {what}", f"{count:,}") for what, count in report.cleaning.items()]
    rows += [
        ("characters outside ASCII, before / after", f"{report.non_ascii_before:,} / {report.non_ascii_after:,}"),
        ("characters a document: least / median / most", f"{low:,} / {median:,} / {high:,}"),
        ("groups of duplicates and remakes", f"{report.groups:,}"),
    ]
    rows += [(f"  joined by {link}", f"{count:,}") for link, count in report.links.items()]
    runs = f"{duplicates.at_least} or more runs of {duplicates.shingle_words} words"
    rows.append((f"  (shingles: {runs}, and {duplicates.shared:.0%} of the shorter text's)", ""))
    largest = report.largest_group
    rows.append((f"  largest: {', '.join(largest.titles[:3])}"[:70], f"{largest.documents:,}"))
    rows += [(f"documents with {name}", f"{count:,}") for name, count in report.hints.items()]
    rows += [
        (f"vocabulary ({report.tokenizer})", f"{report.vocab_size:,}"),
        ("characters per token", f"{report.characters_per_token:.2f}"),
    ]
    for name, part in report.splits.items():
        rows.append((f"{name}: documents / characters", f"{part.documents:,} / {part.characters:,}"))
        rows.append((f"{name}: body tokens / header tokens", f"{part.body_tokens:,} / {part.header_tokens:,}"))
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in report.seconds.items())
    rows.append((f"seconds ({seconds})", f"{sum(report.seconds.values()):.1f}"))
    rows.append(("peak memory", f"{report.peak_memory / 1e9:.2f} GB"))
    return rows

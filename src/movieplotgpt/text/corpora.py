"""Sources to documents: tables, dialogue and plain text.

A corpus is described by settings, so that a new dataset of a known form is a TOML file and no code. The title column of
a table is the placeholder in the format's header; the rest is named here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from movieplotgpt.config import Settings
from movieplotgpt.errors import DataError
from movieplotgpt.text.formatting import PLAN, Document, DocumentFormat, one_line
from movieplotgpt.text.hints import HintSettings
from movieplotgpt.text.sources import (
    TABLE_SUFFIXES,
    column,
    combined_sha256,
    decode,
    kind_suffix,
    read_source,
    read_table,
    text_files,
)

if TYPE_CHECKING:
    import polars as pl


class TableCorpus(Settings):
    """One document per row of a CSV, TSV, JSONL or Parquet file."""

    kind: Literal["table"] = "table"
    text: str = Field(description="The column that holds the text.")
    hints: dict[str, HintSettings] = Field({}, description="Where the hint lines of the format come from.")
    page: str | None = Field(None, description="A column with a stable address: rows that share it are one work.")
    unknown: tuple[str, ...] = Field(("unknown",), description="Cells read as not known, in any case.")


class DialogueCorpus(Settings):
    """One document per group of rows: the lines of a scene."""

    kind: Literal["dialogue"] = "dialogue"
    group: tuple[str, ...] = Field(min_length=1, description="Columns whose values together name a document.")
    line: str = Field("{speaker}: {line_text}", description="How a row becomes a line; {column} stands for a cell.")
    deleted: str | None = Field(None, description="A column whose 'true' leaves a row out.")
    hints: dict[str, HintSettings] = Field({}, description="Where the hint lines come from: a document's first row.")
    unknown: tuple[str, ...] = Field(("unknown",), description="Cells read as not known, in any case.")


class PlainCorpus(Settings):
    """A text file, or a folder of them: one document per file, or per part between separators."""

    kind: Literal["plain"] = "plain"
    separator: str | None = Field(None, min_length=1, description="What divides the documents of one file.")


CorpusSettings = Annotated[TableCorpus | DialogueCorpus | PlainCorpus, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a source held: its documents, and how many of its rows were left out and why."""

    documents: list[Document]
    rows: int
    sha256: str
    dropped: dict[str, int] = field(default_factory=dict)


def read_documents(settings: CorpusSettings, layout: DocumentFormat, source: Path) -> Corpus:
    """Read ``source`` as ``settings`` say.

    Raises:
        DataError: the source cannot be read, lacks a column, or holds no document.
    """
    match settings:
        case TableCorpus():
            corpus = _read_rows(settings, layout, source)
        case DialogueCorpus():
            corpus = _read_dialogue(settings, layout, source)
        case PlainCorpus():
            corpus = _read_plain(settings, layout, source)
    if not corpus.documents:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in corpus.dropped.items())
        raise DataError(f"no document is left of {source}: {reasons or 'it is empty'}")
    return corpus


def _read_rows(settings: TableCorpus, layout: DocumentFormat, source: Path) -> Corpus:
    table, sha256 = read_table(source)
    texts = column(table, settings.text, source)
    titles = _titles(table, layout, source)
    pages = column(table, settings.page, source) if settings.page else [None] * table.height
    hints = _hints(settings, table, layout, source)
    dropped: Counter[str] = Counter()
    documents = []
    for row, (text, title, page, row_hints) in enumerate(zip(texts, titles, pages, hints, strict=True), start=1):
        if text is None:
            dropped["without text"] += 1
        elif title is None:
            dropped["without a title"] += 1
        else:
            page = page if page and page.lower() not in settings.unknown else ""
            documents.append(Document(text, title, row_hints, f"row {row}", page))
    return Corpus(documents, table.height, sha256, dict(dropped))


def _read_dialogue(settings: DialogueCorpus, layout: DocumentFormat, source: Path) -> Corpus:
    table, sha256 = read_table(source)
    keys = list(zip(*(column(table, name, source) for name in settings.group), strict=True))
    deleted = column(table, settings.deleted, source) if settings.deleted else [None] * table.height
    lines = _lines(settings.line, table, source)
    dropped: Counter[str] = Counter()
    rows_of: dict[tuple[str | None, ...], list[int]] = {}
    for row, (key, mark) in enumerate(zip(keys, deleted, strict=True)):
        if mark is not None and mark.strip().lower() in ("true", "1", "yes"):
            dropped["marked deleted"] += 1
        elif lines[row] is None:
            dropped["without text"] += 1
        else:
            rows_of.setdefault(key, []).append(row)
    titles = _titles(table, layout, source)
    hints = list(_hints(settings, table, layout, source))
    documents = []
    for key, rows in rows_of.items():
        body = "\n".join(line for row in rows if (line := lines[row]) is not None)
        name = ", ".join(f"{part} {cell}" for part, cell in zip(settings.group, key, strict=True))
        documents.append(Document(body, titles[rows[0]] or "", hints[rows[0]], name))
    return Corpus(documents, table.height, sha256, dict(dropped))


def _lines(template: str, table: pl.DataFrame, source: Path) -> list[str | None]:
    """Each row laid out; None where a row's last cell, the spoken words, is blank."""
    names = re.findall(r"\{([^{}]+)\}", template)
    if not names:
        raise DataError(f"the line {template!r} names no column; write it as '{{speaker}}: {{line_text}}'")
    literals = re.split(r"\{[^{}]+\}", template)
    cells = [column(table, name, source) for name in names]
    return [
        None if row[-1] is None else "".join(f"{a}{b or ''}" for a, b in zip(literals, [*row, ""], strict=True))
        for row in zip(*cells, strict=True)
    ]


def _read_plain(settings: PlainCorpus, layout: DocumentFormat, source: Path) -> Corpus:
    if source.is_dir():
        files = text_files(source)
    elif kind_suffix(source) in TABLE_SUFFIXES:
        raise DataError(f"{source} is a table; name its text column (corpus.kind = 'table')")
    else:
        files = [(source.name, source)]
    documents: list[Document] = []
    dropped: Counter[str] = Counter()
    hashes = []
    for name, file in files:
        data, sha256 = read_source(file)
        hashes.append((name, sha256))
        text, title = decode(data, file), Path(name).name.split(".")[0].replace("_", " ")
        parts = text.split(settings.separator) if settings.separator else [text]
        for number, part in enumerate(parts, start=1):
            if not part.strip():
                dropped["without text"] += 1
                continue
            key = f"{name} {number}" if settings.separator else name
            documents.append(Document(part, title if layout.header else "", {}, key))
    sha256 = combined_sha256(hashes) if source.is_dir() else hashes[0][1]
    return Corpus(documents, len(documents) + dropped.total(), sha256, dict(dropped))


def _titles(table: pl.DataFrame, layout: DocumentFormat, source: Path) -> list[str | None]:
    if layout.title_column is None:
        return [""] * table.height
    return [one_line(cell) if cell else None for cell in column(table, layout.title_column, source)]


def _hints(
    settings: TableCorpus | DialogueCorpus, table: pl.DataFrame, layout: DocumentFormat, source: Path
) -> Iterator[dict[str, str]]:
    """The known hints of each row; a blank cell or an 'unknown' one is not known."""
    names = [name for name in layout.hints if name != PLAN]
    for name in names:
        if name not in settings.hints:
            raise DataError(f"the format names the hint {name!r}, but corpus.hints.{name} does not say its column")
    columns = {name: column(table, settings.hints[name].column, source) for name in names}
    unknown = {"", *(word.lower() for word in settings.unknown)}
    for row in range(table.height):
        known = {}
        for name, cells in columns.items():
            cell = (cells[row] or "").strip()
            value = "" if cell.lower() in unknown else settings.hints[name].value(cell)
            if value and value.lower() not in unknown:
                known[name] = value
        yield known

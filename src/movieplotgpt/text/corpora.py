"""Sources to documents: tables, dialogue and plain text.

A corpus is described by settings, so that a new dataset of a known form is a TOML file and no code. The title column of
a table is the placeholder in the format's header; the rest is named here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from movieplotgpt.config import Settings
from movieplotgpt.errors import DataError
from movieplotgpt.text.cleaning import unify_line_breaks
from movieplotgpt.text.delimited import CsvSettings
from movieplotgpt.text.document_files import document_text
from movieplotgpt.text.file_kinds import Kind
from movieplotgpt.text.formatting import PLAN, Document, DocumentFormat, one_line
from movieplotgpt.text.hints import HintSettings
from movieplotgpt.text.sources import Part, Source, decode, read_source
from movieplotgpt.text.table_files import Table, read_table

DIVIDERS = ("<|endoftext|>", "<|end_of_text|>", "<|end|>", "</s>", "<eos>")  # between texts, in other programs' files
NOT_A_TEXT = ("nan", "none", "null")  # what programs write for a missing text


class _FileSettings(Settings):
    """How the files of a corpus are read. Settings at their defaults are not part of the corpus's hash."""

    encoding: str | None = Field(None, description="The files' encoding: UTF-8, or what a byte order mark says.")

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        later = ("encoding", "csv")  # settings that published models were made without
        defaults = {name: type(self).model_fields[name].default for name in later if name in values}
        return {
            name: value
            for name, value in values.items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }


class TableCorpus(_FileSettings):
    """One document per row of a CSV, TSV, JSON, JSON Lines or Parquet file, or of several."""

    kind: Literal["table"] = "table"
    text: str = Field(description="The column that holds the text.")
    hints: dict[str, HintSettings] = Field({}, description="Where the hint lines of the format come from.")
    page: str | None = Field(None, description="A column with a stable address: rows that share it are one work.")
    unknown: tuple[str, ...] = Field(("unknown",), description="Cells read as not known, in any case.")
    csv: CsvSettings = Field(CsvSettings(), description="How a delimited file is written.")


class DialogueCorpus(_FileSettings):
    """One document per group of rows: the lines of a scene."""

    kind: Literal["dialogue"] = "dialogue"
    group: tuple[str, ...] = Field(min_length=1, description="Columns whose values together name a document.")
    line: str = Field("{speaker}: {line_text}", description="How a row becomes a line; {column} stands for a cell.")
    deleted: str | None = Field(None, description="A column whose 'true' leaves a row out.")
    hints: dict[str, HintSettings] = Field({}, description="Where the hint lines come from: a document's first row.")
    unknown: tuple[str, ...] = Field(("unknown",), description="Cells read as not known, in any case.")
    csv: CsvSettings = Field(CsvSettings(), description="How a delimited file is written.")


class PlainCorpus(_FileSettings):
    """A text or document, or a folder or archive of them: one document per file, or per part between separators."""

    kind: Literal["plain"] = "plain"
    separator: str | None = Field(None, min_length=1, description="What divides the documents of one file.")


CorpusSettings = Annotated[TableCorpus | DialogueCorpus | PlainCorpus, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of a source; how many rows were left out and why; ``notes`` on what was unusual."""

    documents: list[Document]
    rows: int
    sha256: str
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_documents(settings: CorpusSettings, layout: DocumentFormat, source: Path | Source) -> Corpus:
    """Read a file, folder or archive as ``settings`` describe it.

    Raises:
        DataError: the source cannot be read, lacks a column, or holds no document.
    """
    source = source if isinstance(source, Source) else read_source(source)
    match settings:
        case TableCorpus():
            corpus = _read_rows(settings, layout, source)
        case DialogueCorpus():
            corpus = _read_dialogue(settings, layout, source)
        case PlainCorpus():
            corpus = _read_plain(settings, layout, source)
    if not corpus.documents:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in corpus.dropped.items())
        raise DataError(f"no document is left of {source.path}: {reasons or 'it is empty'}")
    return replace(corpus, notes=(*corpus.notes, *_ignored(source)))


def _ignored(source: Source) -> Iterator[str]:
    if source.ignored:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in source.ignored[:5])
        yield f"files of other kinds left out: {sum(count for _, count in source.ignored):,} ({kinds})"


def _read_rows(settings: TableCorpus, layout: DocumentFormat, source: Source) -> Corpus:
    table = read_table(source, settings.csv, settings.encoding)
    texts = table.column(settings.text)
    titles = _titles(table, layout)
    pages = table.column(settings.page) if settings.page else [None] * table.height
    hints = _hints(settings, table, layout)
    dropped: Counter[str] = Counter()
    documents = []
    for row, (text, title, page, row_hints) in enumerate(zip(texts, titles, pages, hints, strict=True), start=1):
        if text is None:
            dropped["without text"] += 1
        elif text.strip().lower() in NOT_A_TEXT:
            dropped[f"whose text is the word {text.strip()!r}"] += 1
        elif title is None:
            dropped["without a title"] += 1
        else:
            page = page if page and page.lower() not in settings.unknown else ""
            documents.append(Document(text, title, row_hints, f"row {row}", page))
    notes = (*table.notes, *_doubtful_titles(documents))
    return Corpus(documents, table.height, source.sha256, dict(dropped), notes)


def _doubtful_titles(documents: list[Document]) -> Iterator[str]:
    """Report titles that may be missing values; they are kept, because a film may have that title."""
    found = Counter(document.title for document in documents if document.title.lower() in NOT_A_TEXT)
    for title, count in found.items():
        yield f"titles that are the word {title!r}: {count:,}"


def _read_dialogue(settings: DialogueCorpus, layout: DocumentFormat, source: Source) -> Corpus:
    table = read_table(source, settings.csv, settings.encoding)
    keys = list(zip(*(table.column(name) for name in settings.group), strict=True))
    deleted = table.column(settings.deleted) if settings.deleted else [None] * table.height
    lines = _lines(settings.line, table)
    dropped: Counter[str] = Counter()
    rows_of: dict[tuple[str | None, ...], list[int]] = {}
    for row, (key, mark) in enumerate(zip(keys, deleted, strict=True)):
        if mark is not None and mark.strip().lower() in ("true", "1", "yes"):
            dropped["marked deleted"] += 1
        elif lines[row] is None:
            dropped["without text"] += 1
        else:
            rows_of.setdefault(key, []).append(row)
    titles = _titles(table, layout)
    hints = list(_hints(settings, table, layout))
    documents = []
    for key, rows in rows_of.items():
        body = "\n".join(line for row in rows if (line := lines[row]) is not None)
        name = ", ".join(f"{part} {cell}" for part, cell in zip(settings.group, key, strict=True))
        documents.append(Document(body, titles[rows[0]] or "", hints[rows[0]], name))
    return Corpus(documents, table.height, source.sha256, dict(dropped), table.notes)


def _lines(template: str, table: Table) -> list[str | None]:
    """Each row laid out; None where a row's last cell, the spoken words, is blank."""
    names = re.findall(r"\{([^{}]+)\}", template)
    if not names:
        raise DataError(f"the line {template!r} names no column; write it as '{{speaker}}: {{line_text}}'")
    literals = re.split(r"\{[^{}]+\}", template)
    cells = [table.column(name) for name in names]
    return [
        None if row[-1] is None else "".join(f"{a}{b or ''}" for a, b in zip(literals, [*row, ""], strict=True))
        for row in zip(*cells, strict=True)
    ]


def _read_plain(settings: PlainCorpus, layout: DocumentFormat, source: Source) -> Corpus:
    parts = source.of_kind(Kind.TEXT, Kind.DOCUMENT, *(() if source.folder else (Kind.OTHER,)))
    if not parts:
        raise DataError(f"{source.path} is a table; name its text column (corpus.kind = 'table')")
    documents: list[Document] = []
    dropped: Counter[str] = Counter()
    notes: list[str] = []
    for part in parts:
        name = part.name if source.folder else Path(part.name).name
        text, title = _text(part, settings), Path(name).name.split(".")[0].replace("_", " ")
        separator = settings.separator and unify_line_breaks(settings.separator)
        notes += () if separator else _dividers(text, name)
        for number, piece in enumerate(text.split(separator) if separator else [text], start=1):
            if not piece.strip():
                dropped["without text"] += 1
                continue
            key = f"{name} {number}" if separator else name
            documents.append(Document(piece, title if layout.header else "", {}, key))
    tables = len(source.of_kind(Kind.TABLE))
    notes += [f"tables left out: {tables:,}; name their text column to read them instead"] if tables else []
    return Corpus(documents, len(documents) + dropped.total(), source.sha256, dict(dropped), tuple(notes))


def _text(part: Part, settings: PlainCorpus) -> str:
    text = document_text(part) if part.kind is Kind.DOCUMENT else decode(part, settings.encoding)
    return unify_line_breaks(text) if settings.separator else text


def _dividers(text: str, name: str) -> Iterator[str]:
    for divider in DIVIDERS:
        if count := text.count(divider):
            yield (
                f"{name} contains {divider} {count:,} times, which is learnt as text; if it divides documents, set "
                f"corpus.separator={divider}"
            )


def _titles(table: Table, layout: DocumentFormat) -> list[str | None]:
    if layout.title_column is None:
        return [""] * table.height
    return [one_line(cell) if cell else None for cell in table.column(layout.title_column)]


def _hints(settings: TableCorpus | DialogueCorpus, table: Table, layout: DocumentFormat) -> Iterator[dict[str, str]]:
    """The known hints of each row; a blank cell or an 'unknown' one is not known."""
    names = [name for name in layout.hints if name != PLAN]
    for name in names:
        if name not in settings.hints:
            raise DataError(f"the format names the hint {name!r}, but corpus.hints.{name} does not say its column")
    columns = {name: table.column(settings.hints[name].column) for name in names}
    unknown = {"", *(word.lower() for word in settings.unknown)}
    for row in range(table.height):
        known = {}
        for name, cells in columns.items():
            cell = (cells[row] or "").strip()
            value = "" if cell.lower() in unknown else settings.hints[name].value(cell)
            if value and value.lower() not in unknown:
                known[name] = value
        yield known

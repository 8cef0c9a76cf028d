"""CSV and its relatives: detect the dialect of a delimited file, and read it with Python's csv module.

A reading is accepted only if it explains the whole file: every row has as many fields as the header. Readings are
tried in an order, from RFC 4180 to no quoting at all; a file that none of them explains is refused with the line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

from pydantic import Field

from movieplotgpt.config import Settings
from movieplotgpt.errors import DataError

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
ONE_COLUMN = "\x1f"  # a separator that texts do not contain
LONGEST_FIELD = 2**31 - 1  # characters; the csv module's default is 131,072
MANY_LINES = 3  # that all look like rows: text does not do that by chance
END = "\0end of the table"


class CsvSettings(Settings):
    """The dialect of a delimited file; what is not set is detected."""

    separator: str | None = Field(None, min_length=1, max_length=1, description="The character between two fields.")
    quote: str | None = Field(None, max_length=1, description="The character around a field; empty if quotes are text.")
    escape: str | None = Field(None, max_length=1, description="The character that escapes a quote; empty for none.")
    header: bool = Field(True, description="Whether the first row holds names; without it they are 1, 2, 3.")


@dataclass(frozen=True)
class Rows:
    """The content of a delimited file. ``notes`` are sentences about unusual choices that were made."""

    names: tuple[str, ...]
    cells: list[list[str]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """One way to read a file. ``quote`` and ``escape`` may be None; ``lenient`` is the csv module's default mode."""

    separator: str
    quote: str | None = '"'
    escape: str | None = None
    after_blanks: bool = False
    lenient: bool = False


@dataclass(frozen=True)
class Fault:
    """The first line that a reading does not explain."""

    line: int
    reason: str


@dataclass
class Reading:
    """The rows of a text in one dialect, and the first line that does not fit."""

    dialect: Dialect
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # where each row begins
    fault: Fault | None = None

    @cached_property
    def width(self) -> int:
        """The number of fields of the header."""
        return len(self.rows[0]) if self.rows else 0

    @cached_property
    def ragged(self) -> Fault | None:
        """The first row that has more fields than the header."""
        for line, row in zip(self.lines, self.rows, strict=True):
            if len(row) > self.width:
                return Fault(line, f"has {len(row)} fields and the header has {self.width}")
        return None

    @property
    def short(self) -> int:
        """How many rows have fewer fields than the header."""
        return sum(len(row) < self.width for row in self.rows)

    @property
    def explains(self) -> bool:
        """Whether no line contradicts this reading."""
        return self.fault is None and self.ragged is None


def read_delimited(text: str, name: str, settings: CsvSettings, usual: str) -> Rows:
    """Read ``text``. ``usual`` is the separator of the file's suffix; ``name`` appears in messages.

    Raises:
        DataError: no reading explains the file; names the first line that does not fit.
    """
    csv.field_size_limit(LONGEST_FIELD)
    text, announced = _announced_separator(text)
    text, stand_in, stray = _hide_stray_line_ends(text)
    reading, tried = _choose(text, settings, announced or usual)
    if reading is None:
        raise DataError(f"{name} cannot be read as a table: {_explain(tried)}")
    if settings.quote is None:
        swallowed = _swallowed(reading, text)
        if swallowed:
            raise DataError(
                f"{name} cannot be read as a table: the quoted field in line {swallowed:,} contains lines that look like "
                "rows of their own, so a quote may be missing there; correct it, or set corpus.csv.quote= (quotes "
                'are text in this file) or corpus.csv.quote=" (the field is right)'
            )
    unclear = _ambiguous(text, reading, settings)
    if unclear:
        raise DataError(f"{name} can be read in two ways: {unclear}")
    notes = _notes(reading, settings, usual, text)
    if stand_in:
        reading.rows = [[cell.replace(stand_in, stray) for cell in row] for row in reading.rows]
    if settings.header:
        names, rows = tuple(reading.rows[0]), reading.rows[1:]
    else:
        names, rows = tuple(str(number + 1) for number in range(reading.width)), reading.rows
    width = len(names)
    return Rows(names, [row if len(row) == width else row + [""] * (width - len(row)) for row in rows], tuple(notes))


def looks_headerless(names: Sequence[str]) -> bool:
    """Return whether the names look like a row of data: one is a number, or longer than names usually are."""
    return any(re.fullmatch(r"\s*[-+]?\d[\d.,]*\s*", name) or len(name) > 60 for name in names)


def _announced_separator(text: str) -> tuple[str, str | None]:
    """Blank the line ``sep=;`` that Excel understands, and return its separator."""
    found = re.match(r'"?sep=(.)"?[ \t]*(\r\n|\n|\r)', text, re.IGNORECASE)
    return (text[found.start(2) :], found[1]) if found else (text, None)


def _first_line(text: str) -> str:
    """Return the first line that is not blank."""
    found = re.search(r"\S[^\r\n]*", text)
    return found[0] if found else ""


def _hide_stray_line_ends(text: str) -> tuple[str, str, str]:
    """Replace line ends that do not end rows; return the text, the placeholder, and the line end it replaces.

    Where rows end in a line feed, some programs leave a carriage return in a field without quotes; csv would end the row there.
    """
    first = re.match(r'(?:[^"\r\n]|"[^"]*")*(\r\n?|\n)', text)  # the end of the header, whose names may be quoted
    pattern, stray = ("\n", "\n") if first and first[1] == "\r" else (r"\r(?!\n)", "\r")
    if not re.search(pattern, text):
        return text, "", ""
    stand_in = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    return re.sub(pattern, stand_in, text), stand_in, stray


def _choose(text: str, settings: CsvSettings, usual: str) -> tuple[Reading | None, list[Reading]]:
    """Return the first reading in which every row is as wide as the header, or else the first without wider rows."""
    shorter: Reading | None = None
    tried = []
    for dialect in _dialects(text, settings, usual):
        reading = _read(text, dialect)
        tried.append(reading)
        if dialect.quote is None and settings.quote is None and _wrapped(reading):
            continue
        if not reading.explains or (reading.width < 2 and _other_separators(text, dialect) and not settings.separator):
            continue
        if dialect.lenient and any("\n" in cell or "\r" in cell for row in reading.rows for cell in row):
            shorter = shorter or reading  # a misplaced quote may have joined rows
            continue
        if not reading.short:
            return _with_blanks_skipped(text, reading, settings), tried
        shorter = shorter or reading
    return shorter, tried


def _wrapped(reading: Reading) -> bool:
    """Return whether a reading without quoting leaves quotes around fields."""
    return any(len(cell) > 1 and cell[0] == cell[-1] == '"' for row in reading.rows for cell in row)


def _dialects(text: str, settings: CsvSettings, usual: str) -> Iterator[Dialect]:
    separators = [settings.separator] if settings.separator else _by_likelihood(_first_line(text), usual)
    for separator in separators:
        if settings.quote is not None or settings.escape is not None:
            quote = '"' if settings.quote is None else settings.quote or None
            yield Dialect(separator, quote, settings.escape or None)
            yield Dialect(separator, quote, settings.escape or None, lenient=True)
            continue
        standard, single = Dialect(separator), Dialect(separator, quote="'")
        escapes = [None] if "\\" not in text else ["\\", None] if _escaped_quotes(text) else [None, "\\"]
        quoted = [replace(standard, escape=escape) for escape in escapes] + [replace(standard, after_blanks=True)]
        in_single = [replace(single, escape=escape) for escape in escapes] if _in_quotes(text, "'", separator) else []
        unquoted = [replace(standard, quote=None, escape=escape) for escape in escapes]
        escaped = 1 if escapes[0] else 0  # of the unquoted readings, likelier than the lenient one
        yield from quoted + in_single if _in_quotes(text, '"', separator) else in_single + quoted
        yield from unquoted[:escaped]
        yield replace(standard, lenient=True)  # as Python's csv and pandas read by default
        yield from unquoted[escaped:]


def _escaped_quotes(text: str) -> bool:
    return '\\"' in text or "\\'" in text


def _other_separators(text: str, dialect: Dialect) -> bool:
    """Return whether the first line contains a separator that the dialect does not use."""
    head = _first_line(text)
    return any(one in head for one in SEPARATORS if one != dialect.separator)


def _by_likelihood(head: str, usual: str) -> list[str]:
    """Return separators to try: the usual one if the first line contains it, then the others by frequency."""
    found = sorted((one for one in SEPARATORS if one in head), key=head.count, reverse=True)
    if not found:
        return [usual, ONE_COLUMN]
    return [usual, *(one for one in found if one != usual)] if usual in head else [*found, usual]


def _in_quotes(text: str, quote: str, separator: str) -> bool:
    """Return whether some field begins with ``quote`` and some field ends with it."""
    edge = f"[{re.escape(separator)}\\r\\n]"
    return bool(re.search(f"(?:^|{edge}){quote}", text) and re.search(f"{quote}(?:$|{edge})", text))


def _read(text: str, dialect: Dialect) -> Reading:
    lines = csv.reader(
        _lines(text, dialect),
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape,
        skipinitialspace=dialect.after_blanks,
        strict=not dialect.lenient,
    )
    reading = Reading(dialect)
    line = 1
    try:
        for row in lines:
            if row:
                reading.rows.append(row)
                reading.lines.append(line)
                if len(row) > reading.width:
                    break  # this reading is wrong
            line = lines.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            reading.fault = Fault(line, "has a quoted field that is never closed")
        else:
            reason = "has text after a closing quote; a quote inside quotes has to be doubled"
            reading.fault = Fault(lines.line_num, reason)
    if dialect.lenient and reading.explains:
        if reading.rows.pop() != [END]:
            reading.fault = Fault(reading.lines[-1], "has a quoted field that is never closed")
        reading.lines.pop()
    return reading


def _lines(text: str, dialect: Dialect) -> Iterable[str]:
    """Return the lines of a text. A lenient reading gets one more row, which an unclosed quote would swallow."""
    lines = io.StringIO(_keep_other_escapes(text, dialect) if dialect.escape else text, newline="")
    return chain(lines, [END]) if dialect.lenient else lines


def _escapes(separator: str) -> re.Pattern[str]:
    """Match a backslash; group 1 is the next character if it may be escaped."""
    special = re.escape(separator + "".join(SEPARATORS)) + r"\\\r\n\ue000-\uf8ff" + "\"'"
    return re.compile(rf"\\([{special}])|\\")


def _keep_other_escapes(text: str, dialect: Dialect) -> str:
    r"""Double the escape characters that escape nothing, so that ``C:\new`` is not read as ``C:new``."""
    if dialect.escape != "\\":
        return text
    return _escapes(dialect.separator).sub(lambda found: found[0] if found[1] else "\\\\", text)


def _ambiguous(text: str, reading: Reading, settings: CsvSettings) -> str | None:
    """Return where another dialect fits the whole file as well and gives other rows, or None."""
    dialect = reading.dialect
    unset = settings.escape is None and not dialect.escape and "\\" in text
    if unset and all(found[1] for found in _escapes(dialect.separator).finditer(text)):
        line = _differs(text, reading, replace(dialect, escape="\\"))
        if line:
            return (
                f"line {line:,} has a backslash that may be text or an escape character; set corpus.csv.escape= (text) or "
                "corpus.csv.escape=\\ (escape character)"
            )
    if settings.quote is None and dialect.quote and _in_quotes(text, "'", dialect.separator):
        other = replace(dialect, quote="'" if dialect.quote == '"' else '"')
        line = None if dialect.quote == "'" and _all_wrapped(text, dialect) else _differs(text, reading, other)
        if line:
            return f"in line {line:,} fields may be quoted with \" or with '; set corpus.csv.quote=\" or corpus.csv.quote='"
    return None


def _all_wrapped(text: str, dialect: Dialect) -> bool:
    """Return whether the first line is wrapped in quotes."""
    head = _first_line(text).split(dialect.separator)
    quote = dialect.quote or ""
    return head[0].startswith(quote) and head[-1].endswith(quote) and len(head[0]) > 1


def _differs(text: str, reading: Reading, dialect: Dialect) -> int | None:
    """Return the first line that ``dialect`` reads differently, if it explains the whole file as well."""
    other = _read(text, dialect)
    if not other.explains or other.short:
        return None
    pairs = zip(reading.lines, reading.rows, [*other.rows, None], strict=False)
    return next((line for line, row, changed in pairs if row != changed), None)


def _with_blanks_skipped(text: str, reading: Reading, settings: CsvSettings) -> Reading:
    """Read quotes that follow a blank as quotes, if a field looks like it: ``1950, "The Sea"``."""
    quoted = re.compile(r' +".*" *', re.DOTALL)
    if (
        settings.quote is not None
        or reading.dialect.escape
        or not any(quoted.fullmatch(cell) for row in reading.rows[:1000] for cell in row)
    ):
        return reading
    skipped = _read(text, replace(reading.dialect, after_blanks=True))
    return skipped if skipped.explains and not skipped.short else reading


def _swallowed(reading: Reading, text: str) -> int | None:
    """Return the line of the first row with a quoted field that contains what look like rows of their own.

    A line looks like a row if it has as many fields as the header and numbers in the columns that hold numbers. In a
    table without numbers, all lines of a row have to, and several of them.
    """
    if reading.width < 2 or reading.dialect.quote is None:
        return None
    numbers = _number_columns(reading)
    physical = [line.rstrip("\r\n") for line in io.StringIO(text, newline="")]
    for line, end in zip(reading.lines, [*reading.lines[1:], len(physical) + 1], strict=True):
        spanned = [one for one in physical[line - 1 : end - 1] if one.strip()]
        if len(spanned) < 2:
            continue
        alike = [_like_a_row(one, reading, numbers) for one in spanned]
        if any(alike[1:]) if numbers else len(alike) >= MANY_LINES and all(alike):
            return line
    return None


def _number_columns(reading: Reading) -> list[int]:
    """Return the columns in which every cell of the first rows is a short number."""
    plain = [row for row in reading.rows[1:2000] if len(row) == reading.width]
    return [
        column
        for column in range(reading.width)
        if plain and all(re.fullmatch(r"\s*-?\d[\d.]{0,15}\s*", row[column]) for row in plain)
    ]


def _like_a_row(line: str, reading: Reading, numbers: list[int]) -> bool:
    fields = line.split(reading.dialect.separator)
    if len(fields) < reading.width or (len(fields) > reading.width and '"' not in line):
        return False
    return all(re.fullmatch(r'\s*"?-?\d[\d.]{0,15}"?\s*', fields[column]) for column in numbers)


def _explain(tried: Sequence[Reading]) -> str:
    """Return what is wrong according to the reading that came furthest."""
    tried = [one for one in tried if one.dialect.separator != ONE_COLUMN] or tried
    faults = [(one.fault or one.ragged, one.dialect.separator) for one in tried]
    fault, separator = max(
        ((fault, by) for fault, by in faults if fault), key=lambda one: one[0].line, default=(None, "")
    )
    if fault is None:
        return "its separator is not one of comma, semicolon, tab and vertical bar; name it with corpus.csv.separator"
    remedy = f"; put quotes around a field that contains {SEPARATORS.get(separator, repr(separator))}"
    return f"line {fault.line:,} {fault.reason}{remedy if 'fields' in fault.reason else ''}"


def _notes(reading: Reading, settings: CsvSettings, usual: str, text: str) -> Iterator[str]:
    dialect = reading.dialect
    if dialect.separator == ONE_COLUMN:
        yield "the header names one column, so commas are read as text"
    elif settings.separator is None and dialect.separator != usual:
        yield f"fields are separated by {SEPARATORS.get(dialect.separator, repr(dialect.separator))}"
    if dialect.quote == "'" and settings.quote is None:
        yield "fields are quoted with single quotes"
    if dialect.escape and settings.escape is None:
        yield "quotes inside fields are escaped by a backslash"
    if dialect.lenient and settings.quote is None:
        first = _read(text, replace(dialect, lenient=False)).fault
        yield f"line {first.line if first else 1:,} has text after a closing quote; it is read without these quotes"
    if dialect.quote is None and settings.quote is None and '"' in text:
        yield "double quotes are read as plain text: as quotes around fields they do not fit"
    if reading.short:
        yield f"rows with fewer fields than the header: {reading.short:,}; their last cells are empty"

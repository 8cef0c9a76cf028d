"""Tables: CSV, TSV, JSON, JSON Lines and Parquet, one file or several, read a column at a time.

A cell becomes text only when its column is asked for, so that a column nobody names can hold anything.
"""

from __future__ import annotations

import difflib
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from movieplotgpt.errors import DataError
from movieplotgpt.text.delimited import CsvSettings, looks_headerless, read_delimited
from movieplotgpt.text.file_kinds import Kind
from movieplotgpt.text.sources import Part, Source, decode

if TYPE_CHECKING:
    import polars as pl

MOST_NAMES, LONGEST_NAME = 10, 40  # columns that a message lists, and characters of each
ROLES = (("role", "content"), ("from", "value"), ("speaker", "text"))  # of a chat's records
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # an escape for half a character outside the basic plane
NO_VALUE = r"\N"  # what MySQL and PostgreSQL write for NULL


@dataclass(frozen=True)
class Table:
    """Rows of named cells; ``cells`` returns those of a column as they are in the file."""

    name: str
    names: tuple[str, ...]
    height: int
    cells: Callable[[str], Sequence[Any]]
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> list[str | None]:
        """Return a column as text; blank and missing cells are None.

        A column with records of a chat is laid out as dialogue, ``role: content``; ``film.Plot`` is the field ``Plot`` of
        the records in the column ``film``. Names match with blanks around them stripped.

        Raises:
            DataError: there is no such column, or it does not hold text.
        """
        known = {column_name(own): own for own in reversed(self.names)}
        top, path = column_name(name), list[str]()
        while top not in known and "." in top:
            top, _, field = top.rpartition(".")
            path.insert(0, field)
        if top not in known:
            raise DataError(self._missing(name))
        cells = self.cells(known[top])
        for field in path:
            cells = [cell.get(field) if isinstance(cell, Mapping) else None for cell in cells]
        if path and all(cell is None for cell in cells):
            raise DataError(f"{self.name} has no {name!r}: no record in the column {top!r} has such a field")
        return [self._text(cell, name) for cell in cells]

    def choices(self) -> list[str]:
        """Return the names that ``column`` accepts: columns, and the fields of those that hold records."""
        found: list[str] = []
        for name in self.names:
            first = next((cell for cell in self.cells(name) if cell is not None), None)
            own = column_name(name)
            found += [f"{own}.{key}" for key in first] if isinstance(first, Mapping) else [own]
        return found

    def _text(self, cell: Any, name: str) -> str | None:
        if isinstance(cell, str):
            return None if not cell or cell.isspace() or cell == NO_VALUE else _whole(cell)
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return None
        if isinstance(cell, bytes):
            try:
                return self._text(cell.decode("utf-8"), name)
            except UnicodeDecodeError:
                raise DataError(f"the column {name!r} of {self.name} holds bytes that are not text") from None
        if isinstance(cell, Mapping):
            raise DataError(
                f"the column {name!r} of {self.name} is nested; name one of its fields, as {listed([f'{name}.{key}' for key in cell])}"
            )
        if isinstance(cell, Sequence):
            return _dialogue(cell) or self._list(cell, name)
        return str(cell)

    def _list(self, cell: Sequence[Any], name: str) -> str | None:
        if any(isinstance(item, Mapping | list) for item in cell):
            raise DataError(
                f"the column {name!r} of {self.name} holds lists of records without role and content; write its text into a "
                "column of its own"
            )
        return self._text(", ".join(str(item) for item in cell if item is not None), name)

    def _missing(self, name: str) -> str:
        own = [column_name(one) for one in self.names]
        close = difflib.get_close_matches(name, own, n=1, cutoff=0.6) or [
            one for one in own if one.lower() == name.lower().strip()
        ]
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        headerless = (
            "; its first line looks like a row: without a header (corpus.csv.header=false) its columns are 1, 2, 3"
            if looks_headerless(self.names)
            else ""
        )
        one = "; if it has several, name the character between them (corpus.csv.separator)" if len(own) == 1 else ""
        return f"{self.name} has no column {name!r}{hint} its columns are {listed(own)}{headerless}{one}"


def column_name(name: str) -> str:
    """Normalise a column's name: one line, no blanks around it, parentheses for the braces that a header's placeholder uses."""
    return " ".join(name.split()).replace("{", "(").replace("}", ")")


def read_table(source: Source, settings: CsvSettings | None = None, encoding: str | None = None) -> Table:
    """Read the table that a source holds; several files with the named columns are one table, in the order of their names.

    Raises:
        DataError: there is no table in it, it cannot be read, or it has no rows.
    """
    found = source.of_kind(Kind.TABLE) or _unnamed(source)
    parts = [part for part in found if part.suffix != ".json"] or found  # beside other tables JSON describes them
    if not parts:
        raise DataError(f"{source.path} is not a table; a table is CSV, TSV, JSON, JSON Lines or Parquet")
    tables = [_parse(part, settings or CsvSettings(), encoding) for part in parts]
    table = tables[0] if len(tables) == 1 else _joined(source, tables)
    if not table.height:
        raise DataError(f"{table.name} has columns ({listed(table.names)}) but no rows")
    return table


def _unnamed(source: Source) -> list[Part]:
    """Return a table whose suffix is not that of a table: a pipe, or a .txt."""
    if source.folder or source.parts[0].kind not in (Kind.TEXT, Kind.OTHER):
        return []
    part = source.parts[0]
    return [Part(part.name, ".json" if part.data.lstrip()[:1] in (b"[", b"{") else ".csv", part.data)]


def _joined(source: Source, tables: list[Table]) -> Table:
    names = dict.fromkeys(column_name(name) for table in tables for name in table.names)

    def cells(name: str) -> list[Any]:
        found: list[Any] = []
        for table in tables:
            own = {column_name(one): one for one in reversed(table.names)}
            if name not in own:
                raise DataError(f"{table.name} has no column {name!r}, which other files of {source.path} have")
            found += table.cells(own[name])
        return found

    notes = dict.fromkeys(f"{table.name}: {note}" for table in tables for note in table.notes)
    count = f"{len(tables)} files are read as one table"
    return Table(str(source.path), tuple(names), sum(table.height for table in tables), cells, (count, *notes))


def _parse(part: Part, settings: CsvSettings, encoding: str | None) -> Table:
    if part.suffix == ".parquet":
        return _parse_parquet(part)
    text = decode(part, encoding)
    if not text.strip():
        raise DataError(f"{part.name} is empty; a table needs a line of column names and rows")
    if part.suffix in (".json", ".jsonl", ".ndjson"):
        return _parse_json(text, part)
    rows = read_delimited(text, part.name, settings, usual="\t" if part.suffix == ".tsv" else ",")
    names = _distinct(rows.names)
    place = {name: number for number, name in enumerate(names)}
    return Table(
        part.name,
        names,
        len(rows.cells),
        lambda name: [row[place[name]] for row in rows.cells],
        rows.notes + _repeated(rows.names),
    )


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Make names unique: a second ``Title`` becomes ``Title (2)``."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(distinct)


def _repeated(names: Sequence[str]) -> tuple[str, ...]:
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return tuple(
        f"{names.count(name)} columns are named {column_name(name)!r}: the first is used by that name, the second is "
        f"{column_name(name) + ' (2)'!r}"
        for name in repeated
    )


def _parse_parquet(part: Part) -> Table:
    import polars as pl

    try:
        schema = pl.read_parquet_schema(io.BytesIO(part.data))
        height = pl.scan_parquet(io.BytesIO(part.data)).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{part.name} cannot be read as Parquet: {str(error).strip().splitlines()[0]}") from None

    def cells(name: str) -> list[Any]:
        try:
            return _plain(pl.read_parquet(io.BytesIO(part.data), columns=[name])[name])
        except pl.exceptions.PolarsError as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"the column {name!r} of {part.name} cannot be read as text: {reason}") from None

    return Table(part.name, tuple(schema), height, cells)


def _plain(cells: pl.Series) -> list[Any]:
    import polars as pl

    kind = cells.dtype
    if kind.is_nested() or kind == pl.Binary:
        return cells.to_list()
    return (cells.fill_nan(None) if kind.is_float() else cells).cast(pl.String).to_list()


def _parse_json(text: str, part: Part) -> Table:
    whole = part.suffix == ".json" or text.lstrip().startswith("[")  # a list of objects under another name
    rows = _json_rows(text, part) if whole else list(_json_lines(text, part))
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(part.name, names, len(rows), lambda name: [row.get(name) for row in rows])


def _json_rows(text: str, part: Part) -> list[dict[str, Any]]:
    """Return the rows of a JSON document: a list of objects or of texts, columns, one list in an object, or JSON Lines."""
    try:
        values = _loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return list(_json_lines(text, part))
        raise DataError(f"{part.name} is not JSON: line {error.lineno:,}: {error.msg}") from None
    if isinstance(values, dict):
        lists = [value for value in values.values() if _is_rows(value)]
        if len(lists) == 1:
            return list(lists[0])
        if values and all(isinstance(value, dict) for value in values.values()):  # as pandas writes columns
            keys = list(dict.fromkeys(key for column in values.values() for key in column))
            return [{name: column.get(key) for name, column in values.items()} for key in keys]
        if values and all(isinstance(value, list) for value in values.values()):
            return [dict(zip(values, row, strict=True)) for row in _rows_of_columns(values, part)]
    if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
        return [{"text": value} for value in values]
    if not _is_rows(values):
        raise DataError(f"{part.name} is JSON without rows; a table is a list of objects: [{{...}}, {{...}}]")
    return list(values)


def _rows_of_columns(values: dict[str, list[Any]], part: Part) -> list[tuple[Any, ...]]:
    try:
        return list(zip(*values.values(), strict=True))
    except ValueError:
        raise DataError(f"{part.name} has columns of different lengths") from None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _json_lines(text: str, part: Part) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would cut at U+2028, which JSON allows
        if not line.strip():
            continue
        try:
            row = _loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{part.name} is not JSON Lines: line {number:,}: {error.msg}") from None
        if not isinstance(row, dict):
            raise DataError(f"{part.name} is not JSON Lines: line {number:,} is not an object in braces")
        yield row


def _loads(text: str) -> Any:
    """Parse JSON; NaN and Infinity, which some programs write, become missing values.

    Raises:
        JSONDecodeError: the text is not JSON, or nested too deeply, or holds a number of thousands of digits.
    """
    whole_keys = _with_whole_keys if _HALF.search(text) else None
    try:
        return json.loads(text, parse_constant=lambda name: None, object_pairs_hook=whole_keys)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise json.JSONDecodeError(reason, text, 0) from None


def _with_whole_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_whole(key): value for key, value in pairs}


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can contain and UTF-8 cannot."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _dialogue(records: Sequence[Any]) -> str | None:
    """Lay the messages of a chat out as ``role: content``, a line each; return None for anything else."""
    for who, what in ROLES:
        if records and all(isinstance(one, Mapping) and who in one and what in one for one in records):
            lines = [(one[who], _message(one[what])) for one in records]
            if all(text is not None for _, text in lines):
                return "\n".join(f"{role}: {text}" for role, text in lines if text)
    return None


def _message(content: Any) -> str | None:
    """Return the text of a message, empty where it has none (a call of a tool); None if it is something else."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return None


def listed(names: Sequence[str]) -> str:
    """Join names for a message: at most ten of them, at most forty characters of each."""
    shown = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names[:MOST_NAMES]]
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(name or "(no name)" for name in shown) + more

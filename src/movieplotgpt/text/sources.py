"""Files a corpus comes from: decompressed, hashed, checked to be UTF-8, and read as tables.

Whatever is wrong with a file is said here, in one sentence with its name in it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from movieplotgpt.errors import DataError

if TYPE_CHECKING:
    import polars as pl

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
COMPRESSION_SUFFIXES = (".gz", ".zst")
CHUNK_BYTES = 1 << 20


def kind_suffix(path: Path) -> str:
    """The suffix that says what a file holds, compression taken off: ``.csv`` for ``plots.CSV.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSION_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_source(path: Path) -> tuple[bytes, str]:
    """The decompressed bytes of ``path`` and their SHA-256, so that ``x.csv`` and ``x.csv.gz`` name one corpus.

    Raises:
        DataError: the file is missing, not readable, or its compression is damaged.
    """
    data = b"".join(_chunks(path))
    return data, hashlib.sha256(data).hexdigest()


def source_sha256(path: Path) -> str:
    """SHA-256 of the decompressed bytes of a file, streamed; of names and contents for a folder.

    Raises:
        DataError: as ``read_source``.
    """
    if path.is_dir():
        return combined_sha256((name, source_sha256(file)) for name, file in text_files(path))
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_sha256(named: Iterable[tuple[str, str]]) -> str:
    """One SHA-256 for several named ones, in their order."""
    return hashlib.sha256("".join(f"{sha}  {name}\n" for name, sha in named).encode()).hexdigest()


def text_files(folder: Path) -> list[tuple[str, Path]]:
    """(name, path) of every visible .txt, .text and .md file below ``folder``, in the order of their names.

    Raises:
        DataError: there is none.
    """
    files = (file for file in folder.rglob("*") if kind_suffix(file) in (".txt", ".text", ".md") and file.is_file())
    named = sorted((file.relative_to(folder).as_posix(), file) for file in files)
    visible = [(name, file) for name, file in named if not any(part.startswith(".") for part in name.split("/"))]
    if not visible:
        raise DataError(f"there is no .txt, .text or .md file in {folder}; name a folder of texts, or one file")
    return visible


def decode(data: bytes, path: Path) -> str:
    """``data`` as text, a byte order mark taken off.

    Raises:
        DataError: it is not UTF-8; says in which line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} looks like UTF-16; save it as UTF-8") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8: byte {error.start:,} in line {line:,} is 0x{data[error.start]:02x}; save it as UTF-8"
        ) from None


def read_table(path: Path, suffix: str | None = None) -> tuple[pl.DataFrame, str]:
    """Read a CSV, TSV, JSONL or Parquet file, every cell a string or None, and the SHA-256 of the file.

    ``suffix`` says what the file is where its name does not.

    Raises:
        DataError: the file cannot be read as such a table, or has no rows.
    """
    suffix = suffix or kind_suffix(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the table in it ({', '.join(TABLE_SUFFIXES)})")
    if path.exists() and suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"{path} has the suffix {suffix or '(none)'}; a table is {', '.join(TABLE_SUFFIXES)}, each also .gz or .zst"
        )
    data, sha256 = read_source(path)
    table = _parse(data, suffix, path)
    if not table.height:
        raise DataError(f"{path} has columns ({', '.join(table.columns)}) but no rows")
    return table, sha256


def column(table: pl.DataFrame, name: str, path: Path) -> list[str | None]:
    """One column of ``table``, blank cells as None.

    Raises:
        DataError: there is no such column; names those there are.
    """
    if name not in table.columns:
        close = difflib.get_close_matches(name, table.columns, n=1, cutoff=0.6) or [
            other for other in table.columns if other.lower() == name.lower()
        ]
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise DataError(f"{path} has no column {name!r}{hint or ';'} its columns are {', '.join(table.columns)}")
    return [cell if cell and not cell.isspace() else None for cell in table[name].to_list()]


def _parse(data: bytes, suffix: str, path: Path) -> pl.DataFrame:
    if suffix == ".parquet":
        return _parse_parquet(data, path)
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        raise DataError(f"{path} is empty; a table needs a line of column names and rows")
    if suffix in (".jsonl", ".ndjson"):
        return _parse_jsonl(decode(data, path), path)
    decode(data, path)  # polars would not say where broken UTF-8 is
    return _parse_csv(data, "\t" if suffix == ".tsv" else ",", path)


def _parse_csv(data: bytes, separator: str, path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_csv(data, separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        if "more fields" in reason:
            reason = "a row has more fields than the header; put quotes around a field with a comma in it"
        elif "could not parse" in reason:
            reason = "a quoted field is never closed"
        raise DataError(f"{path} cannot be read as a table: {reason}") from None


def _parse_parquet(data: bytes, path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        table = pl.read_parquet(data)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).strip().splitlines()[0]}") from None
    lists = [name for name, kind in table.schema.items() if kind == pl.List(pl.String)]
    table = table.with_columns(pl.col(name).list.join(", ") for name in lists)
    return table.select(pl.col(name) for name, kind in table.schema.items() if not kind.is_nested()).cast(pl.String)


def _parse_jsonl(text: str, path: Path) -> pl.DataFrame:
    import polars as pl

    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would cut at U+2028, which JSON allows
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not JSON Lines: line {number:,}: {error.msg}") from None
        if not isinstance(row, dict):
            raise DataError(f"{path} is not JSON Lines: line {number:,} is no object in braces")
        rows.append({name: _cell(value) for name, value in row.items()})
    names = {name: pl.String for row in rows for name in row}
    return pl.DataFrame(rows, schema=names, orient="row")


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, dict):
        return None
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else str(value)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            raw = iter(lambda: file.read(CHUNK_BYTES), b"")
            if path.suffix.lower() == ".gz":
                yield from _decompress(raw, lambda: zlib.decompressobj(wbits=31), path, zlib.error)
            elif path.suffix.lower() == ".zst":
                import zstandard

                new = zstandard.ZstdDecompressor().decompressobj
                yield from _decompress(raw, new, path, zstandard.ZstdError)
            else:
                yield from raw
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; name a file in it") from None
    except PermissionError:
        raise DataError(f"{path} may not be read; its permissions forbid it") from None


def _decompress(raw: Iterator[bytes], new: Callable[[], Any], path: Path, failure: type[Exception]) -> Iterator[bytes]:
    """Several compressed streams in a row are one file, as gzip and zstd define it."""
    stream = new()
    try:
        for chunk in raw:
            while chunk:
                stream = new() if stream.eof else stream
                yield stream.decompress(chunk)
                chunk = stream.unused_data.lstrip(b"\0") if stream.eof else b""
    except (failure, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); get the file again") from None
    if not stream.eof:
        raise DataError(f"{path} is cut short: the compressed data ends too early; get the file again")

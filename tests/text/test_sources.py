"""Files of every kind and suffix give one table; a damaged one gives one sentence."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard

from movieplotgpt.errors import DataError
from movieplotgpt.text.sources import column, kind_suffix, read_source, read_table, source_sha256

ROWS = {"Title": ["Café", "The 'Mill'", "Third"], "Plot": ['one,\ntwo "three"', "a\ttab", None]}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def _bytes(suffix: str, folder: Path) -> bytes:
    path = folder / f"rows{suffix}"
    frame = pl.DataFrame(ROWS)
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    return path.read_bytes()


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_and_compression_gives_the_same_table_and_hash(
    tmp_path: Path, suffix: str, compression: str
) -> None:
    data = _bytes(suffix, tmp_path)
    path = tmp_path / f"table{suffix}{compression}"
    path.write_bytes(COMPRESS[compression](data))
    plain = tmp_path / f"plain{suffix}"
    plain.write_bytes(data)
    table, sha256 = read_table(path)
    assert {name: column(table, name, path) for name in table.columns} == ROWS
    assert sha256 == source_sha256(path) == source_sha256(plain)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"rows.csv is empty; a table needs"),
        (b"\xef\xbb\xbf\r\n", r"is empty"),
        (b"Title,Plot\n", r"rows.csv has columns \(Title, Plot\) but no rows"),
        (b"Title,Plot\na,b,c\n", r"a row has more fields than the header"),
        (b'Title,Plot\na,"b\n', r"a quoted field is never closed"),
        (b"Title,Plot\na,b\nc,caf\xe9\n", r"is not UTF-8: byte 20 in line 3 is 0xe9; save it as UTF-8"),
        ("Title,Plot\n".encode("utf-16"), r"looks like UTF-16"),
    ],
)
def test_a_csv_that_cannot_be_read_says_why(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        read_table(path)


@pytest.mark.parametrize("compression", [".gz", ".zst"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_an_error_at_any_place(tmp_path: Path, compression: str, keep: float) -> None:
    data = COMPRESS[compression]("".join(f"{i * 7919 % 10007}," for i in range(5000)).encode())
    path = tmp_path / f"rows.csv{compression}"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"is cut short"):
        read_source(path)


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_what_is_not_compressed_at_all_is_damaged(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"rows.csv{compression}"
    path.write_bytes(b"Title,Plot\na,b\n")
    with pytest.raises(DataError, match=r"is damaged \(.+\); get the file again"):
        read_source(path)


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_several_compressed_streams_in_a_row_are_one_file(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"rows.csv{compression}"
    path.write_bytes(COMPRESS[compression](b"first ") + COMPRESS[compression](b"second"))
    assert read_source(path)[0] == b"first second"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("nothing.csv", r"there is no file .*nothing.csv"), ("rows.xlsx", r"has the suffix .xlsx; a table is .csv, .tsv")],
)
def test_a_wrong_path_is_an_error(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=sentence):
        read_table(tmp_path / name)
    with pytest.raises(DataError, match="is a folder; name the table in it"):
        read_table(tmp_path)


def test_a_wrong_column_names_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("Title,Plot\na,b\n", encoding="utf-8")
    table, _ = read_table(path)
    with pytest.raises(DataError, match=r"no column 'Plots'; did you mean 'Plot'\? its columns are Title, Plot"):
        column(table, "Plots", path)
    with pytest.raises(DataError, match=r"no column 'Summary'; its columns are Title, Plot"):
        column(table, "Summary", path)


def test_a_byte_order_mark_and_blank_rows_survive(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfTitle,Plot\r\na,"x\r\ny"\r\n\r\n,\r\n\r\n')
    table, _ = read_table(path)
    assert column(table, "Title", path) == ["a", None, None, None]
    assert column(table, "Plot", path)[0] == "x\r\ny"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("{not json}", "line 2: "), ("[1, 2]", "line 2 is no object in braces")],
)
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_table(path)


def test_json_cells_of_any_type_become_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"n": 1974, "l": ["a", "b"], "s": "\u2028\ud800", "o": {"x": 1}}, {"n": None, "late": True}]
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    table, _ = read_table(path)
    assert table.rows(named=True) == [
        {"n": "1974", "l": "a, b", "s": "\u2028\ufffd", "o": None, "late": None},
        {"n": None, "l": None, "s": None, "o": None, "late": "True"},
    ]


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.csv", ".csv"), ("a.b.CSV.GZ", ".csv"), ("a.txt.zst", ".txt"), ("a.gz", ""), ("a", "")]
)
def test_the_suffix_below_the_compression_counts(name: str, suffix: str) -> None:
    assert kind_suffix(Path(name)) == suffix


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_table(path)

"""Tables of every form give the same columns; a column that holds no text is refused by name, and only if it is asked for."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.text.delimited import CsvSettings
from movieplotgpt.text.sources import read_source
from movieplotgpt.text.table_files import Table, column_name, read_table

ROWS = {"Title": ["Café", "The 'Mill'", "Third"], "Plot": ['one,\ntwo "three"', "a\ttab", None]}


def read(path: Path, **settings: Any) -> Table:
    return read_table(read_source(path), CsvSettings(**settings))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def columns(table: Table) -> dict[str, list[str | None]]:
    return {name: table.column(name) for name in table.names}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_form_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    path, frame = tmp_path / f"rows{suffix}", pl.DataFrame(ROWS)
    writers: dict[str, Callable[[Path], Any]] = {
        ".parquet": frame.write_parquet,
        ".jsonl": frame.write_ndjson,
        ".json": frame.write_json,
    }
    if suffix in writers:
        writers[suffix](path)
    else:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    assert columns(read(path)) == ROWS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"rows.csv is empty; a table needs"),
        ("\ufeff\r\n", r"is empty"),
        ("Title,Plot\n", r"rows.csv has columns \(Title, Plot\) but no rows"),
    ],
)
def test_a_table_without_rows(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(write(tmp_path / "rows.csv", text))


def test_a_wrong_column_names_those_there_are(tmp_path: Path) -> None:
    table = read(write(tmp_path / "rows.csv", "Title,Plot\na,b\n"))
    with pytest.raises(DataError, match=r"no column 'Plots'; did you mean 'Plot'\? its columns are Title, Plot$"):
        table.column("Plots")
    with pytest.raises(DataError, match=r"no column 'Summary'; its columns are Title, Plot$"):
        table.column("Summary")


def test_a_message_lists_ten_short_names(tmp_path: Path) -> None:
    names = [f"column {number} {'x' * 90}" for number in range(30)]
    table = read(write(tmp_path / "rows.csv", f"{','.join(names)}\n{','.join('y' for _ in names)}\n"))
    with pytest.raises(DataError) as error:
        table.column("Plot")
    listed = str(error.value).split("its columns are ")[1]
    assert listed.startswith(f"column 0 {'x' * 30}…, column 1")
    assert listed.count("…") == 10
    assert " and 20 more" in listed


def test_a_file_without_a_header_is_suspected(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "1950,The Sea,She walks.\n1951,Away,He rows.\n")
    with pytest.raises(
        DataError, match=r"its first line looks like a row: without a header \(corpus.csv.header=false\)"
    ):
        read(path).column("Plot")
    assert read(path, header=False).column("3") == ["She walks.", "He rows."]


@pytest.mark.parametrize(
    "name", [" Plot", "Plot \t", "Plot\n(English)", "Plot {US}", "Plot, long", "", "Plöt", "'Plot\"'"]
)
def test_any_column_name_can_be_used(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["Year", name], ["1950", "text"]])
    table = read(path)
    assert table.column(name) == table.column(column_name(name)) == ["text"]


def test_of_two_columns_of_one_name_both_can_be_used(tmp_path: Path) -> None:
    table = read(write(tmp_path / "rows.csv", "Title,Title,Plot\n1950,The Sea,text\n"))
    assert (table.column("Title"), table.column("Title (2)")) == (["1950"], ["The Sea"])
    assert table.notes == ("2 columns are named 'Title': the first is used by that name, the second is 'Title (2)'",)


def test_a_byte_order_mark_and_blank_rows_survive(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", '\ufeffTitle,Plot\r\na,"x\r\ny"\r\n\r\n,\r\n\r\n')
    table = read(path)
    assert table.column("Title") == ["a", None]
    assert table.column("Plot")[0] == "x\r\ny"


def test_utf16_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("Title\tPlot\r\nCafé\ttext\r\n".encode("utf-16"))
    assert read(path).column("Title") == ["Café"]


@pytest.mark.parametrize(
    ("line", "sentence"), [("{not json}", "line 2: "), ("[1, 2]", "line 2 is not an object in braces")]
)
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        read(write(tmp_path / "rows.jsonl", f'{{"a": 1}}\n{line}\n'))


@pytest.mark.parametrize(
    "values",
    [
        [{"Title": "a", "Plot": "b"}, {"Title": "c", "Plot": "d"}],
        {"films": [{"Title": "a", "Plot": "b"}, {"Title": "c", "Plot": "d"}], "count": 2},
        {"Title": {"0": "a", "1": "c"}, "Plot": {"0": "b", "1": "d"}},
        {"Title": ["a", "c"], "Plot": ["b", "d"]},
    ],
)
def test_json_of_every_layout_is_the_table_it_is(tmp_path: Path, values: Any) -> None:
    table = read(write(tmp_path / "rows.json", json.dumps(values, indent=2)))
    assert columns(table) == {"Title": ["a", "c"], "Plot": ["b", "d"]}


def test_json_lines_called_json(tmp_path: Path) -> None:
    table = read(write(tmp_path / "rows.json", '{"Plot": "a"}\n{"Plot": "b"}\n'))
    assert table.column("Plot") == ["a", "b"]


def test_a_json_list_called_json_lines(tmp_path: Path) -> None:
    table = read(write(tmp_path / "rows.jsonl", '[{"Plot": "a"},\n {"Plot": "b"}]'))
    assert table.column("Plot") == ["a", "b"]


def test_a_json_list_of_texts_is_a_column_named_text(tmp_path: Path) -> None:
    assert columns(read(write(tmp_path / "rows.json", '["a", "b"]'))) == {"text": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", r"rows.json is JSON without rows; a table is a list of objects"),
        ('{"a": 1}', r"is JSON without rows"),
        ('{"a": [1, 2], "b": [1]}', r"has columns of different lengths"),
        ('[{"a": 1},\n{"a": }]', r"is not JSON: line 2"),
    ],
)
def test_json_that_is_no_table(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(write(tmp_path / "rows.json", text))


def test_json_cells_of_any_type_become_text(tmp_path: Path) -> None:
    rows = [{"n": 1974, "l": ["a", "b"], "s": "\u2028\ud800"}, {"n": None, "late": True}]
    table = read(write(tmp_path / "rows.jsonl", "\n\n".join(json.dumps(row) for row in rows) + "\n"))
    assert columns(table) == {
        "n": ["1974", None],
        "l": ["a, b", None],
        "s": ["\u2028\ufffd", None],
        "late": [None, "True"],
    }


def test_missing_values_of_every_form_are_missing(tmp_path: Path) -> None:
    lines = ['{"Plot": NaN}', '{"Plot": null}', '{"Plot": ""}', '{"Plot": "  "}', "{}", '{"Plot": "nan"}']
    assert read(write(tmp_path / "rows.jsonl", "\n".join(lines))).column("Plot") == [None] * 5 + ["nan"]
    assert read(write(tmp_path / "rows.csv", "Title,Plot\na,\\N\nb,\n")).column("Plot") == [None, None]
    pl.DataFrame({"Score": [1.5, float("nan"), None]}).write_parquet(tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet").column("Score") == ["1.5", None, None]


@pytest.mark.parametrize(("who", "what"), [("role", "content"), ("from", "value")])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_records_of_a_chat_are_dialogue(tmp_path: Path, suffix: str, who: str, what: str) -> None:
    chats = [[{who: "user", what: "Hello."}, {who: "assistant", what: "Good day."}], [{who: "user", what: "Bye."}]]
    frame, path = pl.DataFrame({"messages": chats}), tmp_path / f"rows{suffix}"
    (frame.write_parquet if suffix == ".parquet" else frame.write_ndjson)(path)
    assert read(path).column("messages") == ["user: Hello.\nassistant: Good day.", "user: Bye."]


def test_halves_of_surrogate_pairs_in_names_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "films.jsonl"
    rows = ({"a\ud800": f"text {i}", "film": {"\udc00": "b", "\U0001f600": "c"}} for i in range(3))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = read_table(read_source(path))
    assert table.choices() == ["a\ufffd", "film.\ufffd", "film.\U0001f600"]
    assert table.column("a\ufffd")[0] == "text 0" and table.column("film.\ufffd")[0] == "b"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_nested_column_is_named_by_its_field_or_refused(tmp_path: Path, suffix: str) -> None:
    films = [{"Plot": "She walks.", "Year": 1950}, {"Plot": "He rows.", "Year": 1951}]
    frame = pl.DataFrame({"film": films, "cast": [[{"name": "A"}], [{"name": "B"}]], "film.x": ["1", "2"]})
    path = tmp_path / f"rows{suffix}"
    (frame.write_parquet if suffix == ".parquet" else frame.write_ndjson)(path)
    table = read(path)
    assert table.column("film.Plot") == ["She walks.", "He rows."]
    assert table.column("film.x") == ["1", "2"]
    assert table.choices() == ["film.Plot", "film.Year", "cast", "film.x"]
    with pytest.raises(
        DataError, match=r"the column 'film' of .* is nested; name one of its fields, as film.Plot, film.Year"
    ):
        table.column("film")
    with pytest.raises(DataError, match=r"no record in the column 'film' has such a field"):
        table.column("film.Genre")
    with pytest.raises(DataError, match=r"the column 'cast' of .* holds lists of records without role and content"):
        table.column("cast")


def test_columns_that_nobody_names_may_hold_anything(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "Plot": ["text", "more"],
            "poster": [b"\xff\xd8", b"\x00"],
            "length": [timedelta(minutes=90), None],
            "film": [{"a": 1}, {"a": 2}],
            "day": [date(1950, 1, 1), None],
            "as bytes": [b"caf\xc3\xa9", None],
        },
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    table = read(tmp_path / "rows.parquet")
    assert table.column("Plot") == ["text", "more"]
    assert table.column("day") == ["1950-01-01", None]
    assert table.column("as bytes") == ["café", None]
    with pytest.raises(DataError, match=r"the column 'poster' of .*rows.parquet holds bytes that are not text"):
        table.column("poster")


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(path)


def test_a_folder_of_shards_is_one_table(tmp_path: Path) -> None:
    for number in range(3):
        pl.DataFrame({"Title": [f"Film {number}"], "Plot": [f"text {number}"]}).write_parquet(
            tmp_path / f"{number}.parquet"
        )
    write(tmp_path / "3.csv", "Plot,Title\ntext 3,Film 3\n")
    table = read(tmp_path)
    assert table.column("Title") == [f"Film {number}" for number in range(4)]
    assert table.column("Plot") == [f"text {number}" for number in range(4)]
    assert table.notes == ("4 files are read as one table",)
    write(tmp_path / "dataset_info.json", '{"features": [{"name": "Title"}]}')
    assert read(tmp_path).height == 4
    write(tmp_path / "4.csv", "Name,Plot\nFilm 4,text 4\n")
    with pytest.raises(DataError, match=r"4.csv has no column 'Title', which other files of .* have"):
        read(tmp_path).column("Title")


def test_a_text_is_not_a_table(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "Only text.")
    with pytest.raises(DataError, match=r"is not a table; a table is CSV, TSV, JSON"):
        read(tmp_path)


def test_messages_in_parts_and_without_text(tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "Hello, "},
        {"type": "text", "text": "you."},
        {"type": "image_url", "image_url": {}},
    ]
    chat = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "Bye."},
    ]
    path = write(tmp_path / "rows.jsonl", json.dumps({"messages": chat}))
    assert read(path).column("messages") == ["user: Hello, you.\nuser: Bye."]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": ' + "[" * 100_000 + "}", "it is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "a number has too many digits"),
    ],
    ids=["nesting", "digits"],
)
def test_json_that_python_cannot_hold(tmp_path: Path, text: str, sentence: str) -> None:
    for suffix in (".json", ".jsonl"):
        with pytest.raises(DataError, match=rf"line 1: {sentence}"):
            read(write(tmp_path / f"rows{suffix}", text))

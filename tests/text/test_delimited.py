"""A table written in any usual way comes back equal, or is refused with the line; nothing is glued in silence."""

from __future__ import annotations

import csv
import io
import random
import re
from typing import Any

import pytest

from movieplotgpt.config import build_settings
from movieplotgpt.errors import ConfigError, DataError
from movieplotgpt.text.delimited import (
    CsvSettings,
    Dialect,
    Reading,
    Rows,
    _dialects,
    _like_a_row,
    _read,
    _wrapped,
    read_delimited,
)

PLAIN = ("sea", "He said", "old man", "it was late", "she walks", "away", "and back again", "1950", "café", "naïve")
HARD = (
    *("it's", "O'Neil", "6'2\"", '"Weird Al" Story', 'say "hi"', "a, b", "x;y", "tab\there", "pipe|d", '"', '""', "'"),
    *("line\nbreak", "cr\rhere", "crlf\r\nx", "back\\slash", "\\", "end\\", "\\\\server", "\\n", "C:\\new\\table"),
    *("", "''quoted''", "'Twas", "  blank", "trail ", "{x}", "\u2028", "\x00"),
)
NAMES = ("Title", "Plot", "Year", "Genre", "Ab stract", "Film's")


def read(text: str, usual: str = ",", **settings: Any) -> Rows:
    return read_delimited(text, "films.csv", CsvSettings(**settings), usual)


def random_table(draw: random.Random) -> tuple[list[str], list[list[str]], dict[str, Any]]:
    """Names, rows, and a dialect of the csv module that can write them."""
    width, risk = draw.randint(1, 4), draw.choice([0, 0.1, 0.3, 0.6])

    def cell() -> str:
        words = draw.randint(0 if width > 1 else 1, 4)
        return " ".join(draw.choice(HARD if draw.random() < risk else PLAIN) for _ in range(words))

    rows = [[cell() for _ in range(width)] for _ in range(draw.randint(1, 6))]
    quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE])
    doubled = draw.choice([True, True, False])
    escape = "\\" if quoting == csv.QUOTE_NONE or not doubled else draw.choice([None, None, "\\"])
    dialect = {
        "delimiter": draw.choice([",", ",", ";", "\t", "|"]),
        "quoting": quoting,
        "quotechar": draw.choice(['"', '"', '"', "'"]),
        "escapechar": escape,
        "doublequote": doubled,
        "lineterminator": draw.choice(["\n", "\r\n", "\r"]),
    }
    return draw.sample(NAMES, width), rows, dialect


def without_quotes(rows: list[list[str]]) -> list[list[str]]:
    return [[cell.replace('"', "") for cell in row] for row in rows]


def as_csv_reads(text: str, delimiter: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]


def check_random_tables(seeds: range) -> dict[str, int]:
    """How many tables came back equal, were read as csv reads by default, were refused with a line."""
    counts = {"equal": 0, "as csv": 0, "refused": 0}
    for seed in seeds:
        names, rows, dialect = random_table(random.Random(seed))
        out = io.StringIO(newline="")
        try:
            writer = csv.writer(out, **dialect)
            writer.writerow(names)
            writer.writerows(rows)
        except csv.Error:  # a lone empty field without quotes
            continue
        text = out.getvalue()
        try:
            found = read(text)
        except DataError as error:
            assert re.search(r"line [\d,]+", str(error)), (seed, str(error))
            counts["refused"] += 1
            continue
        if ([*found.names], found.cells) == (names, rows):
            counts["equal"] += 1
            continue
        # Written with single quotes, and a field begins with a double quote: csv and pandas take that for quoting.
        assert dialect["quotechar"] == "'", (seed, text, found, rows)
        assert any(cell.startswith('"') for row in rows for cell in row), (seed, text, found, rows)
        assert without_quotes(found.cells) == without_quotes(rows), (seed, text, found, rows)
        counts["as csv"] += 1
    return counts


def test_random_tables_come_back_equal_or_are_refused_with_the_line() -> None:
    counts = check_random_tables(range(400))
    assert counts["equal"] > 300
    assert counts["as csv"] < 10


@pytest.mark.slow
def test_ten_thousand_random_tables() -> None:
    counts = check_random_tables(range(400, 10_400))
    assert counts["equal"] > 8_000
    assert counts["as csv"] < 50


def film_rows(count: int = 30) -> list[list[str]]:
    return [[str(1950 + i), f"Film {i}", f"Lena finds {i} keys in Basel. She walks home."] for i in range(count)]


def written(rows: list[list[str]], header: tuple[str, ...] = ("Year", "Title", "Plot"), **dialect: Any) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **{"lineterminator": "\n", **dialect})
    writer.writerows([header, *rows])
    return out.getvalue()


def test_a_quote_escaped_by_a_backslash_does_not_glue_rows() -> None:
    rows = film_rows()
    text = written(rows).replace("Lena finds 3 keys in Basel.", '"He says \\"stop and goes, home."')
    text = text.replace(
        '1953,Film 3,"He says \\"stop and goes, home." She walks home.', '1953,"Film 3","He says \\"stop, and goes."'
    )
    found = read(text)
    assert found.cells[3] == ["1953", "Film 3", 'He says "stop, and goes.']
    assert len(found.cells) == 30
    assert found.notes == ("quotes inside fields are escaped by a backslash",)


def test_a_backslash_that_escapes_nothing_is_kept() -> None:
    found = read('Title,Plot\nA,"She says \\"go\\" to C:\\new"\n')
    assert found.cells == [["A", 'She says "go" to C:\\new']]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_inner_quotes_are_read_as_csv_reads_them(separator: str) -> None:
    lines = ["Title,Plot", "A,He is 6'2\" tall.", 'B,"Fine."', 'C,A quote opens here" alone.', '"Weird Al" Story,D']
    text = "\n".join(lines).replace(",", separator) + "\n"
    found = read(text, usual=separator)
    assert found.cells == as_csv_reads(text, separator)[1:]
    assert found.notes == ("line 5 has text after a closing quote; it is read without these quotes",)


def test_a_quote_that_is_missing_is_an_error_that_names_the_line() -> None:
    rows = film_rows(10)
    text = (
        written(rows)
        .replace("Lena finds 3 keys", '"Lena finds 3 keys')
        .replace("6 keys in Basel. She walks home.", '6 keys."')
    )
    with pytest.raises(
        DataError, match=r"films.csv cannot be read as a table: the quoted field in line 5 contains lines"
    ):
        read(text)
    assert len(read(text, quote="").cells) == 10
    assert len(read(text, quote='"').cells) == 7


def test_text_of_several_lines_is_one_field() -> None:
    rows = [
        ["1950", "A", "One, two.\nThree, four.\n\nFive."],
        ["1951", "B", "In 1950,\nthere was, once, a house."],
    ] * 10
    assert read(written(rows)).cells == rows
    assert read(written(rows)).notes == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "Title,Plot\na,b\nc,d,e\n",
            r"line 3 has 3 fields and the header has 2; put quotes around a field that contains a comma",
        ),
        ('"Title","Plot"\na,"b\n', r"line 2 has a quoted field that is never closed"),
        ("Title,Plot\nUNC \\\\server,path\n", r"line 2 has a backslash that may be text or an escape character"),
    ],
)
def test_what_no_reading_explains_names_its_line(text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(text)


def test_the_remedy_for_a_backslash_works() -> None:
    text = "Title,Plot\nUNC \\\\server,path\n"
    assert read(text, escape="").cells == [["UNC \\\\server", "path"]]
    assert read(text, escape="\\").cells == [["UNC \\server", "path"]]


@pytest.mark.parametrize(("separator", "called"), [(";", "a semicolon"), ("\t", "a tab"), ("|", "a vertical bar")])
def test_separators_are_found_and_reported(separator: str, called: str) -> None:
    rows = [[year, title, f"{plot}, and so on, she says"] for year, title, plot in film_rows(5)]
    found = read(written(rows, delimiter=separator))
    assert found.cells == rows
    assert found.notes == (f"fields are separated by {called}",)
    assert read("sep=;\r\nTitle;Plot\r\na, b;c\r\n").cells == [["a, b", "c"]]
    assert read("Title#Plot\na#b\n", separator="#").cells == [["a", "b"]]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(line_end: str) -> None:
    rows = film_rows(5)
    assert read(written(rows, lineterminator=line_end)).cells == rows


def test_blanks_after_separators_before_quotes() -> None:
    found = read('Year, Title, Plot\n1950, "The Sea", "One, two."\n1951, "Away", "Three."\n')
    assert found.cells == [["1950", "The Sea", "One, two."], ["1951", "Away", "Three."]]


def test_single_quotes_around_fields() -> None:
    found = read("'Title','Plot'\n'A','One, two.'\n'B','It''s late.'\n")
    assert (found.names, found.cells) == (("Title", "Plot"), [["A", "One, two."], ["B", "It's late."]])
    assert found.notes == ("fields are quoted with single quotes",)
    assert read("Title,Plot\n'Twas Night,'Round Midnight\n").cells == [["'Twas Night", "'Round Midnight"]]


def test_without_a_header_columns_are_numbered() -> None:
    found = read("a,b\nc\n", header=False)
    assert (found.names, found.cells) == (("1", "2"), [["a", "b"], ["c", ""]])
    assert found.notes == ("rows with fewer fields than the header: 1; their last cells are empty",)


def test_a_field_longer_than_csv_expects() -> None:
    assert read(f'Title,Plot\nA,"{"x" * 200_000}"\n').cells[0][1] == "x" * 200_000


def test_a_file_of_one_column_may_contain_commas() -> None:
    found = read('Plot\nShe walks, and back.\n"He rows;\nfar, far."\nAway.\n')
    assert found.cells == [["She walks, and back."], ["He rows;\nfar, far."], ["Away."]]
    assert found.notes == ("the header names one column, so commas are read as text",)


def test_lines_are_counted_from_the_start_of_the_file() -> None:
    with pytest.raises(DataError, match=r"line 4 has 3 fields and the header has 2"):
        read("sep=;\nTitle;Plot\na;b\nc;d;e\n")


def test_a_quote_that_follows_a_blank_is_a_quote_where_that_fits() -> None:
    spaced = 'Year, Title\n1950, "The Sea, the Sea"\n1951, "Two"\n'
    assert read(spaced).cells == [["1950", "The Sea, the Sea"], ["1951", "Two"]]
    assert read('Year,Title\n1950, "Two"\n1951,Three\n').cells == [["1950", "Two"], ["1951", "Three"]]
    assert read('Year,Title\n1950, "One" and "Two"\n').cells == [["1950", ' "One" and "Two"']]


def test_a_field_that_contains_a_single_row_is_refused() -> None:
    with pytest.raises(DataError, match="the quoted field in line 3 contains lines"):
        read('Year,Plot\n1949,Ada\n1950,"She walks\n1951,He runs"\n1952,End\n')
    assert read('Year,Plot\n1949,Ada\n1950,"She walks\nand he runs"\n').cells[1] == ["1950", "She walks\nand he runs"]


def test_a_field_of_many_lines_is_read_where_there_is_one_column() -> None:
    lines = "\n".join(f"She walks {number} miles." for number in range(40))
    assert read(f'Plot\n"{lines}"\n"And back."\n').cells == [[lines], ["And back."]]


@pytest.mark.parametrize("name", ["separator", "quote", "escape"])
def test_a_mark_of_a_dialect_is_one_character(name: str) -> None:
    assert getattr(build_settings(CsvSettings, {name: "|"}), name) == "|"
    with pytest.raises(ConfigError, match=name):
        build_settings(CsvSettings, {name: "||"})


@pytest.mark.parametrize(
    ("cell", "wrapped"), [('"a"', True), ('""', True), ('"a" b', False), ('a "b"', False), ('"', False), ("a", False)]
)
def test_a_field_is_wrapped_in_quotes_at_both_ends(cell: str, wrapped: bool) -> None:
    assert _wrapped(Reading(Dialect(","), rows=[["Title"], [cell]])) is wrapped


def test_a_named_quote_is_tried_with_every_separator() -> None:
    assert {dialect.separator for dialect in _dialects("a,b;c\n1,2;3\n", CsvSettings(quote='"'), ",")} >= {",", ";"}


def test_a_quote_that_is_never_closed_is_named_by_its_line() -> None:
    text = 'a,b\n1,2\n3,"x\n4,5\n'
    for lenient in (False, True):
        fault = _read(text, Dialect(",", '"', lenient=lenient)).fault
        assert fault is not None and fault.line == 3


def test_single_quotes_below_a_header_in_double_quotes_are_ambiguous() -> None:
    with pytest.raises(DataError, match="in line 1 fields may be quoted with"):
        read("\"a\",\"b\"\n'x','y'\n")


@pytest.mark.parametrize(
    ("line", "alike"), [("1,x,2", True), ('1,"x, y",2', True), ("1,x,y,2", False), ("1,x", False), ("a,x,2", False)]
)
def test_a_line_looks_like_a_row(line: str, alike: bool) -> None:
    assert _like_a_row(line, Reading(Dialect(","), rows=[["Year", "Title", "Page"]]), [0]) is alike


def test_what_is_wrong_with_a_single_column_is_said() -> None:
    with pytest.raises(DataError, match="line 2 has a quoted field that is never closed"):
        read('Plot\n"x\n', quote='"')

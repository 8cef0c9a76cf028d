"""Small files that people brought and that failed once: each is read, or refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.errors import MoviePlotGPTError
from movieplotgpt.training.quickstart import Suggestion, suggest

TITLED = {"title_column": "Title", "text_column": "Plot"}


@pytest.fixture
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("the folder of cases is not here")
    return folder


def read(path: Path, **columns: Any) -> Suggestion:
    return suggest(path, minutes=1, **columns)


@pytest.mark.parametrize(
    ("name", "columns", "documents", "note"),
    [
        ("escaped_quote_merges_rows.csv", TITLED, 32, "quotes inside fields are escaped by a backslash"),
        ("d06b_silent_merge.csv", TITLED, 60, "quotes inside fields are escaped by a backslash"),
        ("quote_in_last_column.csv", TITLED, 3, ""),
        ("space_after_comma.csv", TITLED, 30, ""),
        ("semicolons.csv", TITLED, 30, "fields are separated by a semicolon"),
        ("d17_cr.csv", TITLED, 60, ""),
        ("d04_cp1252.csv", {**TITLED, "overrides": ["corpus.encoding=cp1252"]}, 60, ""),
        ("array.json", TITLED, 20, ""),
        ("messages.jsonl", {"text_column": "messages"}, 20, ""),
        ("p04_messages.parquet", {"text_column": "messages"}, 12, ""),
        ("nan.jsonl", TITLED, 7, ""),
        ("p01_bytes_latin1.parquet", TITLED, 12, ""),
        ("p10_struct_plot.parquet", {"title_column": "Title", "text_column": "Plot.text"}, 12, ""),
        ("d14_archive.zip", TITLED, 60, ""),
        ("d21_dup_columns.csv", {**TITLED, "title_column": "Title (2)"}, 60, "2 columns are named 'Title'"),
        ("d22_headerless.csv", {"text_column": "3", "overrides": ["corpus.csv.header=false"]}, 60, ""),
    ],
)
def test_what_is_read(cases: Path, name: str, columns: dict[str, Any], documents: int, note: str) -> None:
    suggestion = read(cases / name, **columns)
    assert suggestion.documents == documents
    assert any(reason.startswith(note) for reason in suggestion.reasons)


@pytest.mark.parametrize(
    ("name", "columns", "sentence"),
    [
        ("d04_cp1252.csv", TITLED, r"is not UTF-8: byte 33 in line 2 is 0xe4; .* corpus.encoding=cp1252"),
        ("array.json", {}, r"is a table with the columns Title, Plot; .*text_column='Plot'"),
        ("p10_struct_plot.parquet", {"text_column": "Plot"}, r"is nested; name one of its fields, as Plot.text"),
        ("d15_book.docx", {}, r"is a damaged Word document .*; get the file again"),
        ("d15_book.epub", {}, r"is a damaged Word document .*; get the file again"),
        ("d15_book.pdf", {}, r"is a damaged PDF document .*; get the file again"),
        (
            "d22_headerless.csv",
            TITLED,
            r"its first line looks like a row: without a header \(corpus.csv.header=false\)",
        ),
    ],
)
def test_what_is_refused_says_what_to_do(cases: Path, name: str, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MoviePlotGPTError, match=sentence) as error:
        read(cases / name, **columns)
    assert len(str(error.value)) < 500

"""Tables, dialogue and plain text become documents; what is left out is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.text.corpora import DialogueCorpus, PlainCorpus, TableCorpus, read_documents
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.hints import DecadeHint, ListHint

PLOTS = DocumentFormat(header="The plot summary of the movie named '{Title}' is:", hints=("Decade", "Genre"))
HINTS = {"Decade": DecadeHint(column="Year"), "Genre": ListHint(column="Genre")}
TABLE = TableCorpus(text="Plot", hints=HINTS, page="Page")
DIALOGUE = DialogueCorpus(group=("season", "scene"), deleted="deleted")
PLAIN = PlainCorpus()


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_rows_become_documents_and_losses_are_counted(tmp_path: Path) -> None:
    source = _write(
        tmp_path / "films.csv",
        "Year,Title,Genre,Page,Plot\n"
        '1974,  Two   Words ,Crime/Drama,http://a,"First\nplot, quoted"\n'
        ",Unknown,UNKNOWN,unknown,Second plot\n"
        "1999,Third,drama,http://c,   \n"
        "1999,,drama,http://d,Fourth plot\n"
        ",,,,\n",
    )
    corpus = read_documents(TABLE, PLOTS, source)
    first, second = corpus.documents
    assert (first.title, first.body) == ("Two Words", "First\nplot, quoted")
    assert first.hints == {"Decade": "1970s", "Genre": "crime, drama"}
    assert (first.page, first.key) == ("http://a", "row 1")
    assert (second.title, second.hints, second.page) == ("Unknown", {}, "")  # there are films of that name
    assert corpus.rows == 5
    assert corpus.dropped == {"without text": 2, "without a title": 1}


def test_lines_of_a_scene_become_one_document(tmp_path: Path) -> None:
    source = _write(
        tmp_path / "lines.csv",
        "season,scene,speaker,line_text,deleted\n"
        "1,1,Ada,Hello.,False\n"
        "1,2,Bo,Other scene.,False\n"
        "1,1,Bo,Cut.,TRUE\n"
        "1,1,Bo,  kept as it is ,False\n"
        "1,1,Cy,,False\n"
        "2,1,,No speaker.,False\n",
    )
    corpus = read_documents(DIALOGUE, DocumentFormat(), source)
    assert [document.body for document in corpus.documents] == [
        "Ada: Hello.\nBo:   kept as it is ",
        "Bo: Other scene.",
        ": No speaker.",
    ]
    assert corpus.documents[0].key == "season 1, scene 1"
    assert corpus.dropped == {"marked deleted": 1, "without text": 1}


def test_plain_text_is_a_file_its_parts_or_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    _write(folder / "b_two.txt", "\ufeffsecond")
    _write(folder / "sub" / "c.md", "third")
    _write(folder / "a.txt", "x===y=== \n")
    _write(folder / ".hidden.txt", "not this")
    _write(folder / "picture.png", "nor this")
    whole = read_documents(PLAIN, DocumentFormat(), folder)
    assert [(d.key, d.body) for d in whole.documents] == [
        ("a.txt", "x===y=== \n"),
        ("b_two.txt", "second"),
        ("sub/c.md", "third"),
    ]
    parts = read_documents(PlainCorpus(separator="==="), DocumentFormat(), folder / "a.txt")
    assert [d.body for d in parts.documents] == ["x", "y"]
    assert parts.dropped == {"without text": 1}
    titled = read_documents(PLAIN, PLOTS.model_copy(update={"hints": ()}), folder / "b_two.txt")
    assert titled.documents[0].title == "b two"


def test_a_folders_hash_tells_names_and_contents(tmp_path: Path) -> None:
    hashes = set()
    for number, (name, text) in enumerate([("a.txt", "x"), ("b.txt", "x"), ("a.txt", "y")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        hashes.add(read_documents(PLAIN, DocumentFormat(), Path(_write(folder / name, text)).parent).sha256)
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("settings", "layout", "sentence"),
    [
        (TABLE.model_copy(update={"text": "Plott"}), PLOTS, r"no column 'Plott'; did you mean 'Plot'\?"),
        (TABLE, DocumentFormat(header="'{Name}':"), r"no column 'Name'; its columns are Year, Title"),
        (TABLE.model_copy(update={"hints": {}}), PLOTS, r"corpus.hints.Decade does not say its column"),
        (DIALOGUE, DocumentFormat(), r"no column 'season'"),
        (DialogueCorpus(group=("Year",), line="no column"), DocumentFormat(), r"line 'no column' names no column"),
        (PLAIN, DocumentFormat(), r"is a table; name its text column"),
    ],
)
def test_settings_that_do_not_fit_the_table_are_errors(
    tmp_path: Path, settings: TableCorpus, layout: DocumentFormat, sentence: str
) -> None:
    source = _write(tmp_path / "films.csv", "Year,Title,Genre,Page,Plot\n1,a,b,c,d\n")
    with pytest.raises(DataError, match=sentence):
        read_documents(settings, layout, source)


def test_no_document_left_says_why(tmp_path: Path) -> None:
    source = _write(tmp_path / "films.csv", "Year,Title,Genre,Page,Plot\n1,a,b,c,\n1,,b,c,d\n")
    with pytest.raises(DataError, match=r"no document is left of .*films.csv: 1 without text, 1 without a title"):
        read_documents(TABLE, PLOTS, source)
    with pytest.raises(DataError, match=r"no document is left of .*empty.txt: 1 without text"):
        read_documents(PLAIN, DocumentFormat(), _write(tmp_path / "empty.txt", " \n"))
    with pytest.raises(DataError, match=r"there is no text, table or document in .*none"):
        (tmp_path / "none").mkdir()
        read_documents(PLAIN, DocumentFormat(), tmp_path / "none")
    with pytest.raises(DataError, match="is not UTF-8"):
        (tmp_path / "latin.txt").write_bytes(b"caf\xe9 ")
        read_documents(PLAIN, DocumentFormat(), tmp_path / "latin.txt")


def test_missing_texts_are_counted_and_doubtful_titles_reported(tmp_path: Path) -> None:
    table = TableCorpus(text="Plot")
    layout = DocumentFormat(header="'{Title}':")
    source = _write(tmp_path / "films.csv", "Title,Plot\na,nan\nb,NaN\nc,\nnan,text\nd,null and void\n")
    corpus = read_documents(table, layout, source)
    assert [document.title for document in corpus.documents] == ["nan", "d"]
    assert corpus.dropped == {"whose text is the word 'nan'": 1, "whose text is the word 'NaN'": 1, "without text": 1}
    assert corpus.notes == ("titles that are the word 'nan': 1",)
    source = _write(tmp_path / "films.jsonl", '{"Title": "a", "Plot": NaN}\n{"Title": "b", "Plot": "text"}\n')
    assert read_documents(table, layout, source).dropped == {"without text": 1}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_separators_are_found_whatever_the_line_ends(tmp_path: Path, line_end: str) -> None:
    source = _write(tmp_path / "a.txt", "one\n\ntwo\ntwo\n\nthree".replace("\n", line_end))
    for separator in ("\n\n", line_end * 2):
        corpus = read_documents(PlainCorpus(separator=separator), DocumentFormat(), source)
        assert [document.body for document in corpus.documents] == ["one", "two\ntwo", "three"]


def test_dividers_of_other_programs_are_noticed(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.txt", "one<|endoftext|>two<|endoftext|>")
    corpus = read_documents(PLAIN, DocumentFormat(), source)
    assert corpus.notes == (
        "a.txt contains <|endoftext|> 2 times, which is learnt as text; if it divides documents, set "
        "corpus.separator=<|endoftext|>",
    )
    assert not read_documents(PlainCorpus(separator="<|endoftext|>"), DocumentFormat(), source).notes


def test_what_a_folder_holds_besides_is_reported(tmp_path: Path) -> None:
    _write(tmp_path / "a.txt", "text")
    _write(tmp_path / "b.png", "")
    _write(tmp_path / "c.csv", "Title,Plot\na,b\n")
    assert read_documents(PLAIN, DocumentFormat(), tmp_path).notes == (
        "tables left out: 1; name their text column to read them instead",
        "files of other kinds left out: 1 (1 .png)",
    )
    table = read_documents(TableCorpus(text="Plot"), DocumentFormat(), tmp_path)
    assert [document.body for document in table.documents] == ["b"]


def test_settings_left_at_their_defaults_are_not_written_down() -> None:
    """Corpus hashes of models published before these settings existed have to stay as they were."""
    assert TableCorpus(text="Plot").model_dump().keys() == {"kind", "text", "hints", "page", "unknown"}
    assert PlainCorpus().model_dump_json() == '{"kind":"plain","separator":null}'
    assert PlainCorpus(encoding="cp1252").model_dump() == {"encoding": "cp1252", "kind": "plain", "separator": None}

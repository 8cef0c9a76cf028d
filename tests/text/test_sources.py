"""A path of any kind gives its parts; what cannot be read gives one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from movieplotgpt.errors import DataError
from movieplotgpt.text import archives
from movieplotgpt.text.sources import Part, decode, read_source, source_sha256

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
TABLE = b"Title,Plot\na,b\n"


def data_of(path: Path) -> bytes:
    (part,) = read_source(path).parts
    return part.data


@pytest.mark.parametrize("compression", COMPRESS)
def test_every_compression_gives_the_same_bytes_and_hash(tmp_path: Path, compression: str) -> None:
    path, plain = tmp_path / f"films.csv{compression}", tmp_path / "plain.csv"
    path.write_bytes(COMPRESS[compression](TABLE))
    plain.write_bytes(TABLE)
    assert data_of(path) == TABLE
    assert read_source(path).sha256 == source_sha256(plain)
    unnamed = tmp_path / "films"
    unnamed.write_bytes(COMPRESS[compression](TABLE))
    assert data_of(unnamed) == TABLE


@pytest.mark.parametrize("compression", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_an_error_at_any_place(tmp_path: Path, compression: str, keep: float) -> None:
    data = COMPRESS[compression]("".join(f"{i * 7919 % 10007}," for i in range(5000)).encode())
    path = tmp_path / f"rows.csv{compression}"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"is cut short"):
        read_source(path)


@pytest.mark.parametrize("compression", [".gz", ".zst", ".bz2", ".xz"])
def test_what_is_not_compressed_at_all_is_damaged(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"rows.csv{compression}"
    path.write_bytes(b"Title,Plot\na,b\n")
    with pytest.raises(DataError, match=r"is damaged \(.+\); get the file again"):
        read_source(path)


@pytest.mark.parametrize("compression", [".gz", ".zst", ".bz2", ".xz"])
def test_several_compressed_streams_in_a_row_are_one_file(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"rows.csv{compression}"
    path.write_bytes(COMPRESS[compression](b"first ") + COMPRESS[compression](b"second"))
    assert data_of(path) == b"first second"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x89PNG\r\n\x1a\n", r"is a PNG image; name a file of text"),
        (b"7z\xbc\xaf\x27\x1c", r"is a 7z archive; unpack it and name the folder"),
        (b"Rar!\x1a\x07", r"is a RAR archive"),
        (b"SQLite format 3\0", r"is an SQLite database; export its table as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"is a Word, Excel or PowerPoint file in the old format; save it as"),
        (b"{\\rtf1\\ansi", r"is an RTF document; save it as plain text in UTF-8"),
        (b"\x7fELF", r"is a program"),
        (bytes(60) + b"BOOKMOBI", r"is a Kindle book; convert it to EPUB"),
        (b"PK\x03\x04 cut", r"is a damaged ZIP archive"),
    ],
)
def test_what_holds_no_text_is_named_by_its_first_bytes(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "films.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        read_source(path)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


FILES = {
    "b.txt": b"second",
    "sub/a.txt": b"third",
    ".hidden.txt": b"no",
    "__MACOSX/b.txt": b"no",
    "x.png": b"no",
    "a.md": b"1",
}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("texts.zip", zipped(FILES)),
        ("texts.tar", tarred(FILES, "w")),
        ("texts.tar.gz", tarred(FILES, "w:gz")),
        ("texts.tgz", tarred(FILES, "w:gz")),
        ("texts.tar.xz", tarred(FILES, "w:xz")),
        ("texts", zipped(FILES)),
    ],
)
def test_an_archive_is_the_folder_it_holds(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    source = read_source(path)
    assert [(part.name, part.data) for part in source.parts] == [
        ("a.md", b"1"),
        ("b.txt", b"second"),
        ("sub/a.txt", b"third"),
    ]
    folder = tmp_path / "folder"
    for member, contents in FILES.items():
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        (folder / member).write_bytes(contents)
    assert source.sha256 == source_sha256(folder)
    assert dict(source.ignored) == dict(read_source(folder).ignored) == {".png": 1, ".txt": 2}


def test_an_archive_of_one_table_is_that_table(tmp_path: Path) -> None:
    path, plain = tmp_path / "films.zip", tmp_path / "films.csv"
    path.write_bytes(zipped({"films.csv": TABLE}))
    plain.write_bytes(TABLE)
    assert source_sha256(path) == source_sha256(plain)


def packed_zip(text: bytes) -> bytes:
    """Compress a text as the one member of a ZIP file."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", text)
    return target.getvalue()


@pytest.mark.parametrize("pack", [zipped, lambda files: tarred(files, "w")])
def test_an_archive_is_not_expanded_beyond_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    path = tmp_path / "texts.zip"
    monkeypatch.setattr(archives, "LARGEST_EXPANSION", 1000)
    path.write_bytes(pack({"a.txt": bytes(900), "b.png": bytes(5000)}))
    assert len(read_source(path).parts) == 1
    for files in ({"a.txt": bytes(5000)}, {"a.txt": bytes(600), "b.txt": bytes(600)}):
        path.write_bytes(pack(files))
        with pytest.raises(DataError, match=r"texts.zip holds more than .*; unpack it yourself"):
            read_source(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz", ".zip"])
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = tmp_path / f"texts{suffix}"
    monkeypatch.setattr(archives, "ALWAYS_PLAUSIBLE", 100_000)
    bomb = b"a" * 10_000_000
    path.write_bytes(packed_zip(bomb) if suffix == ".zip" else COMPRESS[suffix](bomb))
    with pytest.raises(DataError, match=r"texts.* grows to more than 200 times its size"):
        read_source(path)


def test_a_folder_without_text_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"there is no text, table or document in .*\.csv, .*\.txt, .*\.epub"):
        read_source(tmp_path)
    with pytest.raises(DataError, match=r"there is no file .*nothing.csv"):
        read_source(tmp_path / "nothing.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_is_read_once_and_kept(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'w').write('some text')"])
    assert data_of(pipe) == b"some text"
    assert source_sha256(pipe) == read_source(pipe).sha256
    assert writer.wait() == 0


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16-le", "utf-16-le"),
        ("cp1252", "cp1252"),
    ],
)
def test_text_in_its_encoding(encoding: str, declared: str | None) -> None:
    assert decode(Part("a.txt", ".txt", "Café – “Été”".encode(encoding)), declared) == "Café – “Été”"


@pytest.mark.parametrize(
    ("data", "encoding", "sentence"),
    [
        (
            b"a\nc,caf\xe9\n",
            None,
            r"is not UTF-8: byte 7 in line 2 is 0xe9; save it as UTF-8, or name its encoding: corpus.enc",
        ),
        (b"a\rc,caf\xe9\r", None, r"in line 2 is 0xe9"),
        (b"caf\xe9", None, r"corpus.encoding=cp1252"),
        (b"caf\xe9 \x81", None, r"corpus.encoding=latin-1"),
        (b"caf\xe9", "ascii", r"a.txt is not ascii: byte 3 in line 1 is 0xe9; name another encoding"),
        (b"a", "klingon", r"'klingon' is not an encoding; examples are cp1252"),
        ("text".encode("utf-16-le"), None, r"a.txt is binary, not text; if it is UTF-16, set corpus.encoding"),
    ],
)
def test_text_in_another_encoding_says_what_to_do(data: bytes, encoding: str | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        decode(Part("a.txt", ".txt", data), encoding)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    path.write_text("text", encoding="utf-8")
    assert read_source(path).name == read_source(tmp_path).parts[0].name == "caf\ufffd.txt"


def test_what_a_training_wrote_into_a_folder_is_not_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    before = source_sha256(tmp_path)
    run = tmp_path / "runs" / "texts"
    (run / "data").mkdir(parents=True)
    for name in ("metrics.jsonl", "samples.md", "data/report.json", "data/notes.txt"):
        (run / name).write_text("{}", encoding="utf-8")
    assert source_sha256(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "text", "suffix"),
    [
        ("page.txt", "<!DOCTYPE html><p>text", ".html"),
        ("page", "\ufeff <html><p>text", ".html"),
        ("page.xml", '<?xml version="1.0"?><html>', ".html"),
        ("films", '[\n {"Title": 1}]', ".json"),
        ("films.ndjson.bak", '{"Title": 1}', ".json"),
        ("films.txt", '{"Title": 1}', ".txt"),
        ("poem", "{braces} are text", ""),
        ("tags.txt", "<p>text</p>", ".txt"),
    ],
)
def test_markup_is_recognised_by_how_it_begins(tmp_path: Path, name: str, text: str, suffix: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_source(tmp_path / name).parts[0].suffix == suffix


def test_xml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "films.xml").write_text("<?xml version='1.0'?><films/>", encoding="utf-8")
    with pytest.raises(DataError, match=r"films.xml is an XML file; extract its text"):
        read_source(tmp_path / "films.xml")


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (8, 99, r"texts.zip cannot be unpacked here \(.+\); unpack it yourself"),
        (6, 1, r"texts.zip is encrypted; unpack it"),
    ],
)
def test_an_archive_that_python_cannot_unpack(tmp_path: Path, place: int, value: int, sentence: str) -> None:
    """A method of compression, and the flag of encryption, in the header of the member and in the directory."""
    data = bytearray(zipped({"a.txt": b"text"}))
    for start in (place, data.index(b"PK\x01\x02") + place + 2):
        data[start] = value
    path = tmp_path / "texts.zip"
    path.write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        read_source(path)

"""Recognise files: by their first bytes where those are unambiguous, or else by the suffix."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import PurePath

from movieplotgpt.errors import DataError
from movieplotgpt.text.archives import zip_names

COMPRESSION_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")


class Kind(Enum):
    """What a source is made of, and how it is read."""

    TABLE = "table"
    TEXT = "text"
    DOCUMENT = "document"
    ARCHIVE = "archive"
    OTHER = "other"


SUFFIXES = {
    **dict.fromkeys((".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"), Kind.TABLE),
    **dict.fromkeys((".txt", ".text", ".md"), Kind.TEXT),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".epub", ".docx", ".pdf"), Kind.DOCUMENT),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz2", ".txz"), Kind.ARCHIVE),
}
SAVE_AS_CSV, SAVE_AS_TEXT = "save its sheet as CSV", "save it as plain text in UTF-8"
FOREIGN = {  # first bytes -> what it is, and what to do
    b"Rar!": ("a RAR archive", "unpack it and name the folder"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it and name the folder"),
    b"SQLite format 3\0": ("an SQLite database", "export its table as CSV"),
    b"\xd0\xcf\x11\xe0": ("a Word, Excel or PowerPoint file in the old format", "save it as DOCX, CSV or plain text"),
    b"{\\rtf": ("an RTF document", SAVE_AS_TEXT),
    b"\x89PNG": ("a PNG image", "name a file of text"),
    b"\xff\xd8\xff": ("a JPEG image", "name a file of text"),
    b"GIF8": ("a GIF image", "name a file of text"),
    b"\x7fELF": ("a program", "name a file of text"),
    b"MZ\x90": ("a program", "name a file of text"),
    b"ARROW1": ("an Arrow file", "save it as Parquet"),
    b"\x93NUMPY": ("a NumPy array", "name a file of text"),
    b"\x89HDF": ("an HDF5 file", "export its table as CSV or Parquet"),
    b"\x80\x04\x95": ("a Python pickle", "write its data as CSV, JSON Lines or Parquet"),
    b"\x80\x05\x95": ("a Python pickle", "write its data as CSV, JSON Lines or Parquet"),
    b"GGUF": ("a GGUF model", "name a file of text"),
    b"OggS": ("an Ogg recording", "name a file of text"),
    b"ID3": ("an MP3 recording", "name a file of text"),
}
ZIPPED = {  # a member of a ZIP file -> the suffix of what the whole is
    "word/document.xml": ".docx",
    "META-INF/container.xml": ".epub",
    "xl/workbook.xml": ".xlsx",
    "ppt/presentation.xml": ".pptx",
    "content.xml": ".odt",
}
ZIPPED_FOREIGN = {
    ".xlsx": ("an Excel file", SAVE_AS_CSV),
    ".pptx": ("a PowerPoint file", SAVE_AS_TEXT),
    ".odt": ("an OpenDocument file", "save it as DOCX, CSV or plain text"),
}


def kind_suffix(name: PurePath) -> str:
    """Return the suffix without that of the compression, in lower case: ``.csv`` for ``plots.CSV.gz``."""
    suffixes = [suffix.lower() for suffix in name.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSION_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def kind_of(suffix: str) -> Kind:
    """Return what a file with this suffix is read as."""
    return SUFFIXES.get(suffix, Kind.OTHER)


def true_suffix(name: PurePath, data: bytes) -> str:
    """Return the suffix that matches the content: ``.pdf`` for a PDF document whatever its name is.

    Raises:
        DataError: the first bytes are those of a format that is not read; names the format.
    """
    for magic, (what, remedy) in FOREIGN.items():
        if data.startswith(magic):
            raise DataError(f"{name} is {what}; {remedy}")
    if data[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        raise DataError(f"{name} is a Kindle book; convert it to EPUB or plain text")
    if data.startswith(b"PK\x03\x04"):
        return _zipped(name, data)
    if data[257:262] == b"ustar":
        return ".tar"
    for magic, suffix in ((b"PAR1", ".parquet"), (b"%PDF-", ".pdf")):
        if data.startswith(magic):
            return suffix
    return _marked_up(name, data, kind_suffix(name))


def _marked_up(name: PurePath, data: bytes, suffix: str) -> str:
    """Return the suffix of a text, which is HTML or JSON if it looks like it and its name does not say otherwise."""
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if kind_of(suffix) not in (Kind.TEXT, Kind.OTHER):
        return suffix
    if start.startswith((b"<!doctype html", b"<html")) or (start.startswith(b"<?xml") and b"<html" in start):
        return ".html"
    if kind_of(suffix) is Kind.TEXT:
        return suffix
    if start.startswith(b"<?xml"):
        raise DataError(f"{name} is an XML file; extract its text into a text file or a table")
    return ".json" if re.match(rb'(\[\s*)?\{\s*("|$)', start) else suffix


def _zipped(name: PurePath, data: bytes) -> str:
    names = zip_names(name, data)
    suffix = next((suffix for member, suffix in ZIPPED.items() if member in names), ".zip")
    if suffix in ZIPPED_FOREIGN:
        what, remedy = ZIPPED_FOREIGN[suffix]
        raise DataError(f"{name} is {what}; {remedy}")
    return suffix

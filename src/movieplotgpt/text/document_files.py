"""The text of HTML pages, EPUB books, Word and PDF documents, by libraries of the extra ``documents``."""

from __future__ import annotations

import io
import logging
import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from movieplotgpt.errors import DataError, optional
from movieplotgpt.text.sources import Part

BLOCKS = (
    "p",
    "div",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "li",
    "tr",
    "blockquote",
    "pre",
    "section",
    "article",
    "dt",
    "dd",
)
UNREAD = ("script", "style", "noscript", "template", "nav", "head", "svg")


def document_text(part: Part) -> str:
    """Return the text of a document, a paragraph a line.

    Raises:
        DataError: the document is damaged, encrypted or has no text.
        MissingExtraError: the library that reads it is not installed.
    """
    readers = {".epub": _epub, ".docx": _docx, ".pdf": _pdf}
    text = readers.get(part.suffix, _html)(part)
    if not text.strip():
        scanned = "; its pages may be pictures, which need text recognition (OCR)" if part.suffix == ".pdf" else ""
        raise DataError(f"{part.name} has no text{scanned}")
    return text


def _html(part: Part) -> str:
    return _plain(part.data)


def _plain(markup: bytes) -> str:
    """Return the text of HTML without scripts, styles and navigation."""
    page = optional("bs4", "documents").BeautifulSoup(markup, "html.parser")
    for tag in page.find_all(UNREAD):
        tag.decompose()
    for tag in page.find_all("br"):
        tag.replace_with("\n")
    for tag in page.find_all(BLOCKS):
        tag.insert_before("\n")
        tag.insert_after("\n")
    lines = (" ".join(line.split()) for line in page.get_text().split("\n"))
    return "\n".join(line for line in lines if line)


def _epub(part: Part) -> str:
    """Return the chapters of a book in reading order."""
    soup = optional("bs4", "documents").BeautifulSoup
    try:
        with zipfile.ZipFile(io.BytesIO(part.data)) as book:
            container = soup(book.read("META-INF/container.xml"), "html.parser")
            package_path = container.find("rootfile")["full-path"]
            package = soup(book.read(package_path), "html.parser")
            files = {item["id"]: item["href"] for item in package.find_all("item")}
            folder = posixpath.dirname(package_path)
            chapters = [files[item["idref"]] for item in package.find_all("itemref")]
            paths = [posixpath.normpath(posixpath.join(folder, unquote(chapter))) for chapter in chapters]
            return "\n".join(_plain(book.read(path)) for path in paths)
    except (zipfile.BadZipFile, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{part.name} is a damaged or encrypted EPUB book ({error}); get the file again") from None


def _docx(part: Part) -> str:
    docx = optional("docx", "documents")
    try:
        document = docx.Document(io.BytesIO(part.data))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"{part.name} is a damaged Word document ({error}); get the file again") from None
    return "\n".join(_blocks(document))


def _blocks(document: Any) -> list[str]:
    """Return paragraphs and tables in the document's order."""
    return [
        block.text
        if hasattr(block, "text")
        else "\n".join("\t".join(cell.text for cell in row.cells) for row in block.rows)
        for block in document.iter_inner_content()
    ]


def _pdf(part: Part) -> str:
    pypdf = optional("pypdf", "documents")
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of each fault that it repairs
    try:
        reader = pypdf.PdfReader(io.BytesIO(part.data))
        return "\n".join(page.extract_text() for page in reader.pages)
    except pypdf.errors.FileNotDecryptedError:
        raise DataError(f"{part.name} is encrypted; save it without a password") from None
    except pypdf.errors.PyPdfError as error:
        raise DataError(f"{part.name} is a damaged PDF document ({error}); get the file again") from None

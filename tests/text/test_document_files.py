"""Books and pages become their text: written here by other libraries or by hand, read by ours."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import docx
import pypdf
import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.text.document_files import document_text
from movieplotgpt.text.sources import Part, read_source

PAGE = b"""<!doctype html><html><head><title>Not this</title><style>p {}</style></head><body><nav>Menu</nav>
<h1>The Sea</h1><p>She walks
to the <b>sea</b>.<br>And back.</p><script>var no = 1;</script><ul><li>One &amp; two</li><li>Three</li></ul></body></html>"""


def text_of(path: Path) -> str:
    (part,) = read_source(path).parts
    return document_text(part)


def test_a_page_without_its_scripts_and_menus() -> None:
    assert (
        document_text(Part("a.html", ".html", PAGE)) == "The Sea\nShe walks\nto the sea.\nAnd back.\nOne & two\nThree"
    )


def test_a_book_in_the_order_in_which_it_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        )
        book.writestr(
            "OEBPS/book.opf",
            '<package><manifest><item id="b" href="text/two.xhtml"/><item id="a" href="text/one%20a.xhtml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
        )
        book.writestr("OEBPS/text/two.xhtml", "<html><body><p>Second.</p></body></html>")
        book.writestr("OEBPS/text/one a.xhtml", "<html><body><h1>One</h1><p>First.</p></body></html>")
    path = tmp_path / "book"
    path.write_bytes(out.getvalue())
    assert text_of(path) == "One\nFirst.\nSecond."
    assert text_of(path) == text_of(path.rename(tmp_path / "book.zip"))


def test_a_word_document_with_a_table(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("The Sea", 1)
    document.add_paragraph("She walks.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "a", "b"
    document.add_paragraph("And back.")
    document.save(str(tmp_path / "book.docx"))
    assert text_of(tmp_path / "book.docx") == "The Sea\nShe walks.\na\tb\nAnd back."


def pdf(text: str) -> bytes:
    """A page with one line, by hand: the objects and the table of their places."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    return f"{data}xref\n0 6\n0000000000 65535 f \n{table}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n".encode()


def test_a_pdf_document_and_one_of_pictures() -> None:
    assert document_text(Part("a.pdf", ".pdf", pdf("She walks."))) == "She walks."
    with pytest.raises(DataError, match=r"a.pdf has no text; its pages may be pictures"):
        document_text(Part("a.pdf", ".pdf", pdf("")))


def test_an_encrypted_pdf_document_is_refused() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("She walks.")))
    writer.encrypt("secret", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(DataError, match=r"a.pdf is encrypted; save it without a password"):
        document_text(Part("a.pdf", ".pdf", out.getvalue()))


@pytest.mark.parametrize(
    ("suffix", "sentence"),
    [
        (".pdf", "is a damaged PDF document"),
        (".docx", "is a damaged Word document"),
        (".epub", "is a damaged or encrypted EPUB book"),
    ],
)
def test_a_damaged_document_is_an_error(suffix: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        document_text(Part(f"a{suffix}", suffix, b"%PDF-1.4 cut"))

"""The page holds what RESULTS.md holds, asks for nothing else, and shows text as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from movieplotgpt.evaluation.likelihood import LikelihoodReport
from movieplotgpt.evaluation.record import Evaluation
from movieplotgpt.evaluation.samples import Example, SampleReport, SampleScores
from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.report.page import Figure, StudyPart, page_html
from movieplotgpt.report.tables import sections
from movieplotgpt.study.results import StudyResults, StudyRow

NUMBERS = SampleScores.model_fields.keys() - {"name", "texts"}
VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """The tags and addresses of a page; fails where a tag is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluation(model: str, *examples: Example) -> Evaluation:
    values: dict[str, Any] = {
        "bits_per_character": 1.3014,
        "interval": (1.2914, 1.3124),
        "macro": 1.3333,
        "documents": 90,
        "characters": 200_000,
        "split": "test",
        "prompt": "plain",
        "title_lift": None,
        "header_bits": 40.25,
        "notes": ("a & b",),
        "source": "films.csv",
        "seconds": 1.0,
        **dict.fromkeys(("corpus_hash", "split_hash", "cleaner_hash"), "c" * 64),
        **{"device": "cpu", "precision": "float32", "threads": 2, "torch": "2.13.0", "document_bits": ()},
    }
    blank: dict[str, Any] = dict.fromkeys(NUMBERS) | {"intervals": {}}
    row = SampleScores.model_construct(name=model, texts=len(examples), **blank)
    samples = SampleReport.model_construct(
        rows=(row,), sampling=SamplingConfig(), seed=0, characters_read=1000, judge=None, seconds=1.0, examples=examples
    )
    return Evaluation.model_construct(
        model=model,
        weights_sha256="f" * 64,
        parameters=12_200_000,
        tokenizer="bpe",
        vocab_size=4096,
        context_length=512,
        training={},
        likelihood=LikelihoodReport.model_construct(**values),
        samples=samples if examples else None,
        compressors=(),
        movieplotgpt="0.1.0",
        commit=None,
    )


def a_study() -> StudyResults:
    values: dict[str, Any] = {
        **{"size": "tiny", "tokenizer": "char", "budget": "flops", "amount": 1e13, "seed": 1, "parameters": 900_000},
        **{"tokens": 1, "characters": 1, "epochs": 0.5, "flops": 1e13, "minutes": 3, "bits_per_character": 1.987},
        **{"interval": None, "curve": ()},
    }
    named: dict[str, Any] = {"name": "films", "source": "plots.csv", "split": "test", "machine": "cpu", "settings": {}}
    hashes = dict.fromkeys(("corpus_hash", "split_hash"), "c" * 64)
    return StudyResults(**named, **hashes, rows=(StudyRow(**values),), laws=())


def test_every_cell_of_the_tables_is_on_the_page() -> None:
    both = [evaluation("films-bpe"), evaluation("films-char")]
    html = page_html(both)
    outline = Outline(html)
    for section in sections(both):
        for table in section.tables:
            for cell in (*table.columns, *(cell for row in table.rows for cell in row)):
                assert cell.strip("*") in outline.text
    assert "<strong>1.301</strong>" in html and f"<code>{'c' * 16}</code>" in html and "a &amp; b" in html


def test_it_asks_for_nothing_and_runs_nothing() -> None:
    figure = Figure("films-bpe", b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    study = StudyPart(a_study(), [figure])
    outline = Outline(page_html([evaluation("films-bpe")], [figure], [study]))
    assert "script" not in outline.tags and "link" not in outline.tags
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in outline.addresses)
    assert (
        "at 1e+13 flops tiny with char, the only one, reaches 1.987" in outline.text
        and "At 1e+13 flops each" in outline.text
    )
    assert outline.tags.count("img") == 2


def test_what_a_model_writes_is_shown_as_text_beside_the_others() -> None:
    hostile = "<script>alert(1)</script> **bold** & `code`"
    title = "<b>Mars</b>"
    both = [evaluation(name, Example(title=title, text=f"{name}: {hostile}")) for name in ("films-bpe", "films-char")]
    html = page_html(both)
    outline = Outline(html)
    assert "script" not in outline.tags and "b" not in outline.tags
    for one in both:
        assert f"{one.model}: {hostile}" in outline.text
    assert outline.text.count("<b>Mars</b>") == 1
    assert len(re.findall("<article>", html)) == 2

"""One HTML page of what was found: it needs no other file, no network and no script."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from movieplotgpt.evaluation.record import Evaluation
from movieplotgpt.report.tables import sections
from movieplotgpt.study.results import StudyResults, advice, circumstances, laws, tables

TEMPLATE = "page.html"
_CODE = re.compile(r"`([^`]*)`")
_STRONG = re.compile(r"\*\*([^*]*)\*\*")


@dataclass(frozen=True)
class Figure:
    """A picture and what it shows."""

    name: str
    svg: bytes

    @property
    def address(self) -> str:
        """The picture itself, as an address: an image, so that nothing in it can run."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


@dataclass(frozen=True)
class StudyPart:
    """A study and its figures."""

    results: StudyResults
    figures: Sequence[Figure]


def page_html(
    evaluations: Sequence[Evaluation], figures: Sequence[Figure] = (), studies: Sequence[StudyPart] = ()
) -> str:
    """The page: models and scorecards by text, samples side by side, studies, training curves."""
    environment = Environment(loader=PackageLoader("movieplotgpt.report", "."), autoescape=True, trim_blocks=True)
    environment.filters["marked"] = _marked
    environment.globals |= {"advice": advice, "circumstances": circumstances, "laws": laws, "tables": tables}
    return environment.get_template(TEMPLATE).render(
        sections=sections(evaluations), samples=_side_by_side(evaluations), figures=figures, studies=studies
    )


def read_figures(folder: Path) -> list[Figure]:
    """The SVG files of a folder, by name."""
    return [Figure(path.stem, path.read_bytes()) for path in sorted(folder.glob("*.svg"))]


def _marked(text: str) -> Markup:
    """Code and bold, as in Markdown; all else is text."""
    marked = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_STRONG.sub(r"<strong>\1</strong>", marked))  # escaped above


def _side_by_side(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each title what each model wrote under it."""
    written: dict[str, list[tuple[str, str]]] = {}
    for one in evaluations:
        for example in one.samples.examples if one.samples else ():
            written.setdefault(example.title, []).append((one.model, example.text))
    return list(written.items())

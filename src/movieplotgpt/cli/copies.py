"""``movieplotgpt copies``: the passages that a text shares with the training text, and the works they are from."""

from __future__ import annotations

import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from movieplotgpt.engine.places import DEFAULT_MODEL
from movieplotgpt.text.formatting import one_line

if TYPE_CHECKING:
    from movieplotgpt.text.copies import CopyReport


def copies(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-",
    *,
    model: str = DEFAULT_MODEL,
    data: Path | None = None,
    at_least: int = 50,
    json: bool = False,
) -> None:
    """Find the passages that a text shares with a model's training text, and the work each is from.

    Args:
        file: The text; - reads it from stdin.
        model: The model whose training text is searched.
        data: The prepared corpus it was trained on, to find passages exactly and show both texts. Without it the index published
            with the model finds them to within seven characters at either end.
        at_least: The shortest passage to list, in characters; unrelated plots share 25 by chance, hardly ever 50.
        json: Print JSON.
    """
    from movieplotgpt.cli.texts import read_text
    from movieplotgpt.engine.model_folder import load_folder
    from movieplotgpt.generation.copying import copy_index

    report = copy_index(load_folder(model), data).report(read_text(file), at_least)
    if json:
        print(dumps(asdict(report), indent=2, ensure_ascii=False))
        return
    print("\n".join(told(report)))


def told(report: CopyReport) -> list[str]:
    """A report in words."""
    about = "" if report.exact else "about "
    if report.copies:
        first = (
            f"{about}{report.share:.1%} of the text is in the training text, in runs of {report.at_least} characters"
        )
    else:
        first = f"no run of {report.at_least} characters is in the training text"
    longest = f"; the longest that does has {about}{report.longest}" if report.longest else ""
    lines = [first + longest]
    for copy in report.copies:
        lines += ["", f"{about}{copy.length} characters of {copy.title}:", f"  {one_line(copy.text)}"]
        if copy.source is not None and one_line(copy.source) != one_line(copy.text):
            lines.append(f"  there: {one_line(copy.source)}")
    return lines


def say(report: CopyReport) -> None:
    """Put a report on stderr."""
    print("\n".join(told(report)), file=sys.stderr)

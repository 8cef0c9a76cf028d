"""DocumentFormat: the only producer of "The plot summary of the movie named '...' is:".

A document in training, a prompt at generation and a score in evaluation are laid out here and nowhere else, and the
format travels inside every checkpoint. A laid-out document is::

    Decade: 1970s                                               hint lines, if any
    The plot summary of the movie named 'Mars, Texas' is:       the sentence, with the title
    A sheriff ...                                               the body
    END_OF_PLOT                                                 one special token: end and start of sequence

The *header* is the hint lines plus the sentence plus a newline. Every line of it ends in a newline, so that its lines
tokenize the same alone and together (see ``header_lines``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import Field, field_validator

from movieplotgpt.config import Settings
from movieplotgpt.errors import ConfigError

END_OF_PLOT = "END_OF_PLOT"
UNKNOWN_PLAN = "?"  # in its place when the model is to write the plan
PLAN = "Plan"  # the hint that prepare computes from the text, see text/plans.py


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus: a plot, a scene, a file.

    ``title`` is empty where the corpus has none; ``hints`` maps hint names (``Decade``) to values (``1970s``) and holds
    only what is known; ``key`` names where it came from (a row number, a file) for reports.
    """

    body: str
    title: str = ""
    hints: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    page: str = ""  # a stable address of the same work (a wiki page), where the source has one
    group: str = ""  # the name of its work, once it is split


class DocumentFormat(Settings):
    """How a title, hints and a body become one text.

    ``header`` holds one placeholder, the name of the title's column in braces; a corpus without titles has an empty
    header.
    """

    header: str = Field("", description="The sentence before the body; one {Placeholder} is replaced by the title.")
    hints: tuple[str, ...] = Field((), description="Names of the hint lines, in the order they are written.")
    end: str = Field(END_OF_PLOT, min_length=1, description="The end marker: one special token.")

    @field_validator("header")
    @classmethod
    def _one_line_one_placeholder(cls, header: str) -> str:
        if header and len(re.findall(r"\{[^{}]+\}", header)) != 1:
            raise ValueError("a header needs exactly one {Placeholder} for the title")
        if "\n" in header or header != header.strip():
            raise ValueError("a header is one line without spaces around it")
        return header

    @field_validator("hints")
    @classmethod
    def _plan_stands_last(cls, hints: tuple[str, ...]) -> tuple[str, ...]:
        if PLAN in hints[:-1]:
            raise ValueError(f"{PLAN}, which is computed from the text, must be the last hint")
        return hints

    @property
    def title_column(self) -> str | None:
        """The placeholder's name: the column a table's title is read from."""
        found = re.search(r"\{([^{}]+)\}", self.header)
        return found[1] if found else None

    def for_table(self, title_column: str | None, hints: Collection[str], plan: bool = False) -> DocumentFormat:
        """The same layout for a table that has its titles in another column and only some of the hints.

        Plans need no column: where the layout has them they stay, and ``plan`` adds them.

        Raises:
            ConfigError: there is a column of titles and no place for them.
        """
        if title_column and not self.header:
            raise ConfigError("this model was trained on text without titles; leave the column of titles out")
        header = self.header.replace(f"{{{self.title_column}}}", f"{{{title_column}}}") if title_column else self.header
        kept = tuple(name for name in self.hints if name in hints or name == PLAN)
        added = (PLAN,) if plan and not self.has_plan else ()
        return self.model_copy(update={"header": header, "hints": (*kept, *added)})

    @property
    def has_plan(self) -> bool:
        """Whether documents have plan lines."""
        return PLAN in self.hints

    def plan_request(self, title: str = "") -> str:
        """Return the header that asks for a plan for ``title`` instead of a text."""
        return f"{PLAN}: {UNKNOWN_PLAN}\n{self.sentence(title)}"

    @cached_property
    def around_title(self) -> tuple[str, str]:
        """The header's text before and after the title."""
        before, after = re.split(r"\{[^{}]+\}", self.header)
        return before, after

    def sentence(self, title: str = "") -> str:
        """The fixed sentence for ``title`` with its newline; the empty title is the unconditional form."""
        if not self.header:
            return ""
        before, after = self.around_title
        return f"{before}{one_line(title)}{after}\n"

    def hint_lines(self, hints: Mapping[str, str]) -> list[str]:
        """Return one line for each hint of the format that is known, in the format's order; blanks alone are not a value."""
        return [f"{name}: {value}\n" for name in self.hints if (value := one_line(hints.get(name, "")))]

    def header_lines(self, title: str = "", hints: Mapping[str, str] | None = None) -> list[str]:
        """The header line by line: the tokens of the whole are the tokens of the lines, one after the other."""
        return [line for line in [*self.hint_lines(hints or {}), self.sentence(title)] if line]

    def header_text(self, title: str = "", hints: Mapping[str, str] | None = None) -> str:
        """Return everything before the body."""
        return "".join(self.header_lines(title, hints))

    def title_in(self, header: str) -> str:
        """The title of a header that this format has made."""
        before, after = self.around_title
        return header.splitlines()[-1][len(before) :].removesuffix(after)

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Split a free prompt into (header, beginning of the body), the header in its trained form.

        ``... is:``, ``... is: `` and ``... is:`` with a line break (also a typed backslash-n) all become the sentence
        plus one newline. A title may hold quotes: the sentence ends at the *last* occurrence of its closing words in its
        line. A prompt that holds no such sentence is all body.
        """
        if not self.header:
            return "", prompt
        before, after = self.around_title
        hints = "".join(rf"(?:{re.escape(name)}: [^\n]*\n)?" for name in self.hints)
        line_break = r"(?:[ \t]*(?:\r?\n|\\n)[ \t]*|[ \t]+|$)"
        pattern = rf"\s*({hints}){re.escape(before)}([^\n]*){re.escape(after)}{line_break}"
        found = re.match(pattern, prompt)
        if not found:
            return "", prompt
        return found[1] + self.sentence(found[2]), prompt[found.end() :]


def one_line(text: str) -> str:
    """Return ``text`` with every run of white space as one space, as header lines have it."""
    return " ".join(text.split())

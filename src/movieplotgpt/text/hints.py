"""How a cell of a table becomes the value of a hint: a decade, a text, a few labels."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from movieplotgpt.config import Settings
from movieplotgpt.text.formatting import one_line


class DecadeHint(Settings):
    """A year's decade: ``1974`` and ``1974-05-01`` become ``1970s``."""

    kind: Literal["decade"] = "decade"
    column: str = Field(description="The column the year is read from.")

    def value(self, cell: str) -> str:
        """The decade of the first four-digit year in ``cell``, or nothing."""
        found = re.search(r"(?<!\d)[12]\d{3}(?!\d)", cell)
        return f"{found[0][:3]}0s" if found else ""


class TextHint(Settings):
    """A cell as it stands, underscores read as blanks."""

    kind: Literal["text"] = "text"
    column: str = Field(description="The column the hint is read from.")

    def value(self, cell: str) -> str:
        """The cell on one line."""
        return one_line(cell.replace("_", " "))


class ListHint(Settings):
    """A few labels: ``Crime/Drama`` becomes ``crime, drama``."""

    kind: Literal["list"] = "list"
    column: str = Field(description="The column the labels are read from.")
    most: int = Field(3, ge=1, description="How many labels are kept.")
    labels: dict[str, tuple[str, ...]] = Field(
        {}, description="Each label with the words that also stand for it; empty keeps what commas and slashes divide."
    )

    @cached_property
    def _label_of(self) -> dict[str, str]:
        return {word.lower(): label for label, words in self.labels.items() for word in (label, *words)}

    @cached_property
    def _words(self) -> re.Pattern[str]:
        longest_first = sorted(self._label_of, key=len, reverse=True)
        return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")

    def value(self, cell: str) -> str:
        """The labels in ``cell``, in its order, each once."""
        lowered = one_line(cell.lower())
        if self.labels:
            found = [self._label_of[word] for word in self._words.findall(lowered)]
        else:
            found = [part.strip() for part in re.split(r"[,/;|]", lowered)]
        return ", ".join([label for label in dict.fromkeys(found) if label][: self.most])


HintSettings = Annotated[DecadeHint | TextHint | ListHint, Field(discriminator="kind")]

"""How a cell of a table becomes the value of a hint: a decade, a text, a few labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from movieplotgpt.config import Settings
from movieplotgpt.errors import PromptError
from movieplotgpt.text.formatting import one_line

USUAL = 12  # values of a hint that are offered
LONGEST_USUAL = 60  # characters of one


class DecadeHint(Settings):
    """The decade of a year: ``1974`` and ``1974-05-01`` become ``1970s``."""

    kind: Literal["decade"] = "decade"
    column: str = Field(description="The column the year is read from.")

    def value(self, cell: str) -> str:
        """Return the decade of the first four-digit year in ``cell``, or an empty string."""
        found = re.search(r"(?<!\d)[12]\d{3}(?!\d)", cell)
        return f"{found[0][:3]}0s" if found else ""


class TextHint(Settings):
    """The text of a cell, with underscores as spaces."""

    kind: Literal["text"] = "text"
    column: str = Field(description="The column the hint is read from.")

    def value(self, cell: str) -> str:
        """Return the cell on one line."""
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
        """Return the labels in ``cell``, each once, in the order of the cell."""
        lowered = one_line(cell.lower())
        if self.labels:
            found = [self._label_of[word] for word in self._words.findall(lowered)]
        else:
            found = [part.strip() for part in re.split(r"[,/;|]", lowered)]
        return ", ".join([label for label in dict.fromkeys(found) if label][: self.most])


HintSettings = Annotated[DecadeHint | TextHint | ListHint, Field(discriminator="kind")]


def hint_settings(settings: Any) -> dict[str, HintSettings]:
    """Return how the hints of a corpus are read, from recorded settings of any kind; nothing if they do not say."""
    try:
        return TypeAdapter(dict[str, HintSettings]).validate_python(settings["corpus"]["hints"])
    except (LookupError, TypeError, ValidationError):
        return {}


def usual_values(
    documents: Iterable[Mapping[str, str]], names: Iterable[str], settings: Mapping[str, HintSettings]
) -> dict[str, tuple[str, ...]]:
    """Return the most frequent values of each hint, at most ``USUAL``: numbers in order, others by their frequency.

    Labels of a list count one by one. A value that occurs once, or is longer than ``LONGEST_USUAL``, is left out.

    Args:
        documents: The hints of each document.
        names: The hints to count.
        settings: How the hints were read, where it is known.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for hints in documents:
        for name, count in counts.items():
            if value := hints.get(name):
                count.update(value.split(", ") if isinstance(settings.get(name), ListHint) else [value])
    found = {
        name: [value for value, times in count.most_common() if times > 1 and len(value) <= LONGEST_USUAL][:USUAL]
        for name, count in counts.items()
    }
    return {name: tuple(_in_order(values)) for name, values in found.items()}


def _in_order(values: list[str]) -> list[str]:
    """Return ``values`` sorted by the numbers they begin with, if all of them do; else unchanged."""
    begins = [re.match(r"[0-9][0-9,]*(?:\.[0-9]+)?", value) for value in values]
    numbers = {value: float(begin[0].replace(",", "")) for value, begin in zip(values, begins, strict=True) if begin}
    return sorted(values, key=lambda value: (numbers[value], value)) if len(numbers) == len(values) else values


def join_hints(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the values of hints by their names.

    Raises:
        PromptError: a hint is given twice, in whatever case its name is written.
    """
    hints: dict[str, str] = {}
    for name, value in given:
        if any(name.casefold() == known.casefold() for known in hints):
            raise PromptError(f"the hint {name} is given twice; give it once")
        hints[name] = value
    return hints

"""How a text or table is read that no TOML describes."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """What a person says of the files to read; None and False leave it to detection.

    ``encoding`` is that of the files. The rest is for tables: the columns with titles and texts, the character between fields,
    and whether the first row is data already.
    """

    title_column: str | None = None
    text_column: str | None = None
    encoding: str | None = None
    separator: str | None = None
    no_header: bool = False

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return how files are read as ``section.key=value``; the columns are not among them."""
        separator = "\t" if self.separator == r"\t" else self.separator
        return (
            *([f"corpus.encoding={json.dumps(self.encoding)}"] if self.encoding else []),
            *([f"corpus.csv.separator={json.dumps(separator)}"] if separator else []),
            *(["corpus.csv.header=false"] if self.no_header else []),
        )

    @property
    def all_overrides(self) -> tuple[str, ...]:
        """Return how files are read and the columns as ``section.key=value``."""
        from movieplotgpt.training.quickstart import column_overrides  # here, for `--help` to answer at once

        return (*self.overrides, *column_overrides(self.title_column, self.text_column))

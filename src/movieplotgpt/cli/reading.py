"""Flags that say how a text or table is read; each is an override of a setting in ``[corpus]``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from cyclopts import Parameter

TABLE = "For a table: "


@dataclass(frozen=True)
class FileFlags:
    """How files are read where detection is not enough."""

    encoding: Annotated[
        str | None, Parameter(help="The encoding of the files (default: UTF-8, or what a byte order mark says).")
    ] = None
    separator: Annotated[
        str | None,
        Parameter(
            help=f"{TABLE}the character between fields, as ';' or '\\t' (default: found by reading the file).",
            allow_leading_hyphen=True,
        ),
    ] = None
    no_header: Annotated[
        bool, Parameter(help=f"{TABLE}the first row is data; the columns are named 1, 2, 3.", negative="")
    ] = False

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return the flags as ``section.key=value``."""
        separator = "\t" if self.separator == r"\t" else self.separator
        return (
            *([f"corpus.encoding={json.dumps(self.encoding)}"] if self.encoding else []),
            *([f"corpus.csv.separator={json.dumps(separator)}"] if separator else []),
            *(["corpus.csv.header=false"] if self.no_header else []),
        )


@dataclass(frozen=True)
class TextFlags(FileFlags):
    """How a text or table is read that no TOML describes."""

    title_column: Annotated[str | None, Parameter(help=f"{TABLE}the column with titles.")] = None
    text_column: Annotated[str | None, Parameter(help=f"{TABLE}the column with texts.")] = None


ReadingFiles: TypeAlias = Annotated[FileFlags | None, Parameter(name="*")]
ReadingText: TypeAlias = Annotated[TextFlags | None, Parameter(name="*")]

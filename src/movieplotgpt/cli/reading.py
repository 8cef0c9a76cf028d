"""Flags for how a text or table is read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from movieplotgpt.recipe.reading import Reading

TABLE = "For a table: "


@dataclass(frozen=True)
class FileFlags:
    """How files are read where detection is not enough."""

    encoding: Annotated[
        str | None, Parameter(help="The encoding of the files (default: UTF-8, or by a byte order mark).")
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
    def reading(self) -> Reading:
        """Return the flags as the library takes them."""
        return Reading(**{each.name: getattr(self, each.name) for each in fields(self)})


@dataclass(frozen=True)
class TextFlags(FileFlags):
    """How a text or table is read that no TOML describes."""

    title_column: Annotated[str | None, Parameter(help=f"{TABLE}the column with titles.")] = None
    text_column: Annotated[str | None, Parameter(help=f"{TABLE}the column with texts.")] = None


ReadingFiles: TypeAlias = Annotated[FileFlags | None, Parameter(name="*")]
ReadingText: TypeAlias = Annotated[TextFlags | None, Parameter(name="*")]

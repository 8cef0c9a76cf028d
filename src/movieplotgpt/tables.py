"""Tables of words and numbers: as Markdown, and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; a note stands above. The first column, intervals and the columns of ``words`` are text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: Sequence[str] = ()

    @property
    def is_text(self) -> list[bool]:
        """Which columns are set to the left."""
        words = ("interval", "95 % interval", *self.words)
        return [i == 0 or column in words for i, column in enumerate(self.columns)]

    def markdown(self) -> str:
        """The note, and the table below it."""
        marks = ["---" if is_text else "---:" for is_text in self.is_text]
        lines = (self.columns, marks, *self.rows)
        shown = ["".join(f"| {cell} " if cell else "| " for cell in line) + "|" for line in lines]
        return "\n".join([*([self.note, ""] if self.note else []), *shown])

    def rich(self) -> RichTable:
        """The table with its note as title, to be printed without markup."""
        from rich.table import Table as RichTable

        table = RichTable(title=self.note or None, title_justify="left", show_header=any(self.columns))
        for column, is_text in zip(self.columns, self.is_text, strict=True):
            table.add_column(column, justify="left" if is_text else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

"""Progress on stderr: a bar with ETA in a terminal or notebook, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

StageReport: TypeAlias = Callable[[str, int, int], None]  # (stage, done, total)
CountReport: TypeAlias = Callable[[int, int], None]  # (done, total)
PLAIN_EVERY = 10.0  # seconds between plain lines


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def progress_bar(description: str) -> Iterator[CountReport]:
    """Yield a function that is told (done, total)."""
    with stage_bars() as show:
        yield lambda done, total: show(description, done, total)


@contextmanager
def stage_bars() -> Iterator[StageReport]:
    """Yield a function that is told (stage, done, total); each stage gets a bar of its own."""
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        yield _plain_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield show


def _plain_lines() -> Callable[[str, int, int], None]:
    """Say a stage's share now and then, and its end; stages that end at once stay unsaid."""
    next_line: dict[str, float] = {}

    def show(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        due = next_line.setdefault(stage, now + PLAIN_EVERY)
        if now >= due:
            next_line[stage] = now + PLAIN_EVERY
            sys.stderr.write(f"{stage}: {100 * done / max(1, total):.0f} %\n")
            sys.stderr.flush()

    return show

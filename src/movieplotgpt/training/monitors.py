"""Consumers of events: progress on a console, metrics.jsonl, samples, TensorBoard, the loss figure."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from movieplotgpt import atomic
from movieplotgpt.errors import StorageError, optional
from movieplotgpt.training.events import Evaluated, Event, Finished, Noted, Sampled, Skipped, Started, StepDone
from movieplotgpt.training.run import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

Monitor = Callable[[Event], None]


def notify(monitors: list[Monitor], event: Event) -> Iterator[str]:
    """Hand ``event`` to each monitor; one whose write fails is removed, and the reason yielded: training matters more."""
    for monitor in monitors.copy():
        try:
            monitor(event)
        except (OSError, StorageError) as error:
            monitors.remove(monitor)
            yield f"{type(monitor).__name__} failed and is not written any more: {error}"


class MetricsFile:
    """``metrics.jsonl``: one JSON object for every step and evaluation.

    A resumed run drops the lines after the step it resumes from, so that the file reads as if never interrupted.
    """

    def __init__(self, path: Path, *, resume_at: int | None = None) -> None:
        self.path = path
        last = {"step": (resume_at or 0) - 1, "evaluated": resume_at or 0}  # step k is the one after k steps done
        kept = [line for line in read_metrics(path) if line["step"] <= last[line["event"]]] if resume_at else []
        self.scored = {line["step"] for line in kept if line["event"] == "evaluated"}
        atomic.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def __call__(self, event: Event) -> None:
        """Append steps and evaluations."""
        kind = {StepDone: "step", Evaluated: "evaluated"}.get(type(event))
        if kind is None or (isinstance(event, Evaluated) and event.step in self.scored):  # scored again after a kill
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": kind, **asdict(event)}) + "\n")


class SamplesFile:
    """``samples.md``: what the model wrote at each evaluation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        """Append a sample."""
        if isinstance(event, Sampled):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"## step {event.step}\n\n{event.text}\n\n")


class TensorBoard:
    """Scalars for TensorBoard (extra ``track``) in ``tensorboard/`` under the run."""

    def __init__(self, folder: Path) -> None:
        self.writer = optional("torch.utils.tensorboard", "track").SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, event: Event) -> None:
        """Write loss, rate and score."""
        if isinstance(event, StepDone):
            self.writer.add_scalar("loss/train, nats per token", event.loss, event.step)
            self.writer.add_scalar("learning rate", event.learning_rate, event.step)
        elif isinstance(event, Evaluated):
            self.writer.add_scalar("bits per character/validation", event.bits_per_character, event.step)
        elif isinstance(event, Finished):
            self.writer.close()


class ConsoleProgress(ExitStack):
    """A bar with loss, bits per character, tokens per second and ETA; plain lines where no terminal is.

    ``tokens_per_character`` turns the loss of a step into bits per character (of the training text: an estimate).
    """

    def __init__(self, console: Console, tokens_per_character: float, *, every: float = 10.0) -> None:
        super().__init__()
        self.console, self.every = console, every
        self.bits_per_nat = tokens_per_character / math.log(2)
        self.bar, self.task = self._bar()
        self.seconds_per_step: float | None = None
        self.first_step = 0
        self.last_line = -math.inf

    def __enter__(self) -> Self:
        if self.bar:
            self.enter_context(self.bar)
        return self

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        if isinstance(event, Started):
            self._started(event)
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, Evaluated):
            best = ", the best so far" if event.best else ""
            self._say(f"step {event.step:,}: validation {event.bits_per_character:.4f} bits per character{best}")
        elif isinstance(event, Sampled):
            self._say(event.text.strip()[:600])
        elif isinstance(event, Skipped):
            self._say(f"step {event.step + 1:,} skipped: its loss was {event.loss}; {event.total} skipped so far")
        elif isinstance(event, Noted):
            self._say(event.message)
        elif isinstance(event, Finished):
            self._say(f"{event.reason} after {event.step:,} steps, {event.seconds / 60:.1f} minutes")

    def _started(self, event: Started) -> None:
        self.first_step = event.step
        for reason in event.hardware.reasons:
            self._say(reason)
        self._say(
            f"{event.parameters / 1e6:.1f} M parameters, {event.windows_per_epoch:,} windows an epoch, "
            f"{event.tokens_per_step:,} tokens a step"
        )
        if event.hardware.compile:
            self._say(
                "compiling the training step: half a minute or so, a few seconds where an earlier run left its code"
            )

    def _step(self, event: StepDone) -> None:
        old = self.seconds_per_step
        early = event.step < self.first_step + 3  # compilation is in the first two
        self.seconds_per_step = event.seconds if old is None or early else 0.9 * old + 0.1 * event.seconds
        text = (
            f"loss {event.loss:.3f}  ~{event.loss * self.bits_per_nat:.3f} bits/char  "
            f"{event.tokens / self.seconds_per_step:,.0f} tokens/s  ETA {self._left(event)}"
        )
        if self.bar:
            self.bar.update(self.task, completed=event.step + 1, total=event.total_steps, description=text)
        elif time.monotonic() - self.last_line >= self.every:
            self.last_line = time.monotonic()
            total = f"{event.total_steps:,}" if event.total_steps else "?"
            self._say(f"step {event.step + 1:,}/{total}  {text}")

    def _left(self, event: StepDone) -> str:
        if event.total_steps is None or self.seconds_per_step is None:
            return "?"
        minutes, seconds = divmod(round((event.total_steps - event.step - 1) * self.seconds_per_step), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def _bar(self) -> tuple[Any, Any]:
        if not (self.console.is_terminal or self.console.is_jupyter):
            return None, None
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        bar = Progress(*columns, console=self.console)
        return bar, bar.add_task("starting", total=None)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl`` up to the first that is not an event: the last one may be cut short by a crash."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if not _is_event(line):
                break
            lines.append(line)
    return lines


def _is_event(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
        return False
    value = {"step": "loss", "evaluated": "bits_per_character"}.get(str(line.get("event")))
    return value is not None and isinstance(line.get(value), float)


def draw_loss(folder: RunFolder, tokens_per_character: float) -> Path:
    """Draw training loss and validation score over the steps, both in bits per character (extra ``plots``).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    lines = read_metrics(folder.metrics)
    steps = [
        (line["step"], line["loss"] * tokens_per_character / math.log(2)) for line in lines if line["event"] == "step"
    ]
    scores = [(line["step"], line["bits_per_character"]) for line in lines if line["event"] == "evaluated"]
    with drawing(folder.figure, size=(7, 4)) as axes:
        axes.set(xlabel="step", ylabel="bits per character")
        if steps:
            label = "training (header and end token included)"
            axes.plot(*zip(*_smoothed(steps), strict=True), label=label, linewidth=1)
        if scores:
            axes.plot(*zip(*scores, strict=True), "o-", label="validation")
        if steps or scores:
            axes.legend()
    return folder.figure


@contextmanager
def drawing(*paths: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Yield axes, and write what was drawn on them: the same drawing always as the same bytes (extra ``plots``).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = optional("matplotlib", "plots")
    figure = optional("matplotlib.figure", "plots").Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    yield axes
    axes.grid(alpha=0.3)
    for path in paths:
        picture, kind = io.BytesIO(), path.suffix.removeprefix(".")
        with matplotlib.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(
                picture, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None}, dpi=150
            )
        atomic.write_bytes(path, picture.getvalue())


def _smoothed(points: list[tuple[int, float]], weight: float = 0.95) -> list[tuple[int, float]]:
    """Exponential mean, corrected for its beginning."""
    mean = total = 0.0
    result = []
    for step, value in points:
        mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        result.append((step, mean / total))
    return result

"""A training from its settings to its model: what is chosen, prepared, compared and refused on the way."""

from __future__ import annotations

import json
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console

from movieplotgpt.atomic import recover_folder
from movieplotgpt.errors import ConfigError, MissingExtraError, StorageError, TrainingError
from movieplotgpt.evaluation.likelihood import validation_scorer
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint
from movieplotgpt.recipe.reading import Reading
from movieplotgpt.recipe.resuming import kept_settings, refuse_other_text, remember_config
from movieplotgpt.recipe.settings import (
    LENGTHS,
    choose_settings,
    is_settings_file,
    prepare_once,
    refuse_contradictions,
)
from movieplotgpt.signals import stop_on_interrupt
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.distributed import Workers, join_workers
from movieplotgpt.training.events import Event, Finished
from movieplotgpt.training.monitors import (
    ConsoleProgress,
    MetricsFile,
    Monitor,
    SamplesFile,
    TensorBoard,
    draw_loss,
    notify,
)
from movieplotgpt.training.run import RunConfig, RunFolder, run_name
from movieplotgpt.training.sizing import settle_by_timing
from movieplotgpt.training.trainer import train
from movieplotgpt.training.windows import too_small

if TYPE_CHECKING:
    from movieplotgpt.model.gpt import GPT
    from movieplotgpt.model.sizes import Size


@dataclass(frozen=True)
class TrainingRequest:
    """What a person asks of a training; ``training.train`` describes each field."""

    config: Path
    source: Path | None = None
    data: Path | None = None
    out: Path | None = None
    reading: Reading = field(default_factory=Reading)
    size: Size | None = None
    minutes: float | None = None
    steps: int | None = None
    epochs: float | None = None
    changes: tuple[str, ...] = ()
    start_from: str | None = None
    teachers: tuple[str, ...] = ()
    resume: bool = False
    tensorboard: bool = False
    progress: bool = True
    stop: Callable[[], bool] = lambda: False
    workers: Workers | None = None

    @property
    def lengths(self) -> dict[str, float | None]:
        """How long to train, by the names of the settings; at most one of them is given."""
        return {name: getattr(self, name) for name in LENGTHS}

    @property
    def all_changes(self) -> tuple[str, ...]:
        """Every change of a setting as ``section.key=value``."""
        return (
            *self.changes,
            *(f"training.{name}={value}" for name, value in self.lengths.items() if value is not None),
            *((f"model.size={self.size}",) if self.size else ()),
            *((f"distillation.teachers={json.dumps(self.teachers)}",) if self.teachers else ()),
        )

    @property
    def text(self) -> Path | None:
        """The text or table to train on, if it is not prepared already."""
        return self.source if is_settings_file(self.config) else self.config

    def check(self) -> None:
        """Check that nothing that was asked for contradicts the rest.

        Raises:
            ConfigError: it does.
        """
        refuse_contradictions(self.config, self.source, self.data, self.reading)
        given = [(name, value) for name, value in self.lengths.items() if value is not None]
        if len(given) > 1:
            both = " and ".join(f"{name}={value:.12g}" for name, value in given)
            raise ConfigError(f"{both} exclude each other; give one of minutes, steps and epochs")
        if self.start_from and self.size:
            raise ConfigError(f"from_={self.start_from} keeps that model's size; leave size={self.size} out")
        if self.start_from and self.resume:
            raise ConfigError(
                f"resume=True continues the run's own weights; leave from_={self.start_from} out, or resume=True"
            )


class TrainingRun(Iterator[Event]):
    """A training under way: iterate over its events, or ask for its model, for which it trains to the end.

    Ctrl-C while it trains saves it and ends it after the present step; a second one raises KeyboardInterrupt. As a context manager
    it stops and saves an unfinished training when it is left.

    Attributes:
        folder: Where it writes: checkpoints, metrics, samples and the loss figure.
        settings: What it is trained with.
        finished: How it ended; None until then.
        notes: The reasons for what was chosen, and warnings.
    """

    def __init__(self, request: TrainingRequest) -> None:
        request.check()
        self.folder = request.out or Path("runs") / run_name(request.config)
        self.finished: Finished | None = None
        self.notes: list[str] = []
        self._request, self._files = request, RunFolder(self.folder)
        self._monitors: list[Monitor] = []
        self._stop_asked, self._begun, self._failure = threading.Event(), False, ""
        self._stack = ExitStack()
        try:
            self._set_up()
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._close = weakref.finalize(self, self._stack.close)  # also where it is given up

    @property
    def checkpoint(self) -> Checkpoint:
        """The trained model, with its PyTorch network: the best checkpoint by the validation split."""
        self.finish()
        return load_checkpoint(self.folder)

    @property
    def generator(self) -> PlotGenerator:
        """What writes with the trained model."""
        self.finish()
        return PlotGenerator.load(self.folder)

    def finish(self) -> Finished:
        """Train to the end, and return how it ended.

        Raises:
            TrainingError: it failed, now or in an iteration before.
        """
        for _ in self:
            pass
        if not self.finished:
            raise TrainingError(
                f"the training in {self.folder} failed{self._failure}; resume it, or train in another folder"
            )
        return self.finished

    def stop(self) -> None:
        """Ask the training to save itself and end after the step it is in."""
        self._stop_asked.set()

    def __next__(self) -> Event:
        try:
            with stop_on_interrupt(self.stop):
                event = next(self._events)
        except BaseException as error:
            if not self.finished and not isinstance(error, StopIteration):
                self._failure = f" ({str(error) or type(error).__name__})"
            self._close()
            raise
        if self._workers.first:
            self._show(event)
        if isinstance(event, Finished):
            self.finished = event
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if not self.finished and not self._failure:
            self.finish()

    def _set_up(self) -> None:
        request, files = self._request, self._files
        start_from = load_checkpoint(request.start_from) if request.start_from else None
        self._workers = workers = request.workers or self._stack.enter_context(join_workers())
        self._console = Console(stderr=True, quiet=not (request.progress and workers.first))
        if workers.first:
            self._stack.enter_context(files.taken())
        self.settings = self._choose(start_from)
        corpus = self._corpus(start_from)
        if problem := too_small(corpus, self.settings.model.context_length):
            raise TrainingError(problem)
        if workers.first and not request.resume:
            remember_config(request.config, files)
        self.folder.mkdir(parents=True, exist_ok=True)
        stop_asked = self._stop_asked  # without a reference to this run, or it would not be closed when it is given up
        self.settings, reasons = settle_by_timing(
            self.settings, corpus, lambda flops: workers.world_size * workers.from_first(flops)
        )
        for reason in reasons:
            self._report(reason)
        self._tokens_per_character = _tokens_per_character(corpus)
        self._events = train(
            self.settings,
            corpus,
            files,
            evaluate=validation_scorer(corpus),
            sample=sampler(corpus),
            resume=request.resume,
            start_from=start_from,
            stop=lambda: stop_asked.is_set() or request.stop(),
            workers=workers,
        )

    def _choose(self, start_from: Checkpoint | None) -> RunConfig:
        request, files = self._request, self._files
        if request.resume:
            settings = kept_settings(request.config, request.all_changes, request.reading, files, self._report)
        else:
            if self._workers.first:
                recover_folder(files.last)
                files.refuse_overwriting()
            settings = choose_settings(
                request.config, request.all_changes, request.lengths, request.reading, self._report
            )
        return keep_form(settings, start_from) if start_from else settings

    def _corpus(self, start_from: Checkpoint | None) -> PreparedCorpus:
        """Return the corpus to train on, prepared if it was not."""
        request, own = self._request, self.folder / "data"
        if request.text and not request.data and request.resume and (own / "manifest.json").exists():
            refuse_other_text(request.text, self._files, self._report)
            data = own
        else:
            with self._workers.first_alone():
                data = prepare_once(
                    self.settings,
                    request.text,
                    request.data,
                    own,
                    self._report,
                    progress=request.progress,
                    start_from=start_from,
                )
        corpus = PreparedCorpus.load(data)
        if start_from and corpus.tokenizer.to_json() != start_from.tokenizer.to_json():
            raise ConfigError(
                f"{corpus.folder} was prepared with another tokenizer than that of the model to start from; give the text itself "
                "with source=FILE, and it is prepared with the model's"
            )
        return corpus

    def _show(self, event: Event) -> None:
        request, files = self._request, self._files
        if not self._begun:  # the first event has the step at which a resumed run continues
            self._begun = True
            resume_at = getattr(event, "step", 0) if request.resume else None
            progress = self._stack.enter_context(ConsoleProgress(self._console, self._tokens_per_character))
            self._monitors = [progress, SamplesFile(files.samples), MetricsFile(files.metrics, resume_at=resume_at)]
            self._monitors += [TensorBoard(self.folder)] if request.tensorboard else []
        for reason in notify(self._monitors, event):
            self._report(reason)
        if isinstance(event, Finished) and event.reason != "interrupted":
            try:
                draw_loss(files, self._tokens_per_character)
            except (MissingExtraError, StorageError) as error:
                self._report(f"no loss figure: {error}")

    def _report(self, text: str) -> None:
        self.notes.append(text)
        self._console.print(text, markup=False, highlight=False)


def keep_form(settings: RunConfig, start_from: Checkpoint) -> RunConfig:
    """Return settings with the format, cleaning and dimensions of the model to fine-tune."""
    network = start_from.model.config.model_dump(exclude={"vocab_size", "norm_eps"})
    hints = getattr(settings.corpus, "hints", {})
    return settings.model_copy(
        update={
            "format": start_from.format.for_table(settings.format.title_column, hints, settings.format.has_plan),
            "cleaning": start_from.cleaning,
            "model": settings.model.model_copy(update=network),
        }
    )


def sampler(corpus: PreparedCorpus) -> Callable[[GPT], str]:
    """Return a function that writes a text with a network in training, for an unseen title if the corpus has titles."""

    def sample(model: GPT) -> str:
        checkpoint = Checkpoint(
            model.config, corpus.tokenizer, corpus.format, corpus.manifest.cleaning, {}, model=model
        )
        title = corpus.split("validation").titles[0] if corpus.format.header else ""
        plot = PlotGenerator(checkpoint).plot(title, seed=0, max_tokens=200)
        return f"{plot.prompt}{plot.text}"

    return sample


def _tokens_per_character(corpus: PreparedCorpus) -> float:
    counts = corpus.manifest.splits["train"]
    return counts.body_tokens / counts.characters

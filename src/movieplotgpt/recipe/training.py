"""``movieplotgpt.train`` and ``movieplotgpt.prepare``: what Python and the command line call. Imports no torch by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from movieplotgpt.engine.waiting import choose_waiting
from movieplotgpt.errors import ConfigError
from movieplotgpt.recipe.reading import Reading
from movieplotgpt.recipe.settings import (
    Changes,
    as_overrides,
    choose_settings,
    is_settings_file,
    prepare_with_bars,
    refuse_contradictions,
)
from movieplotgpt.text.prepare import PrepareReport

if TYPE_CHECKING:
    from movieplotgpt.model.sizes import Size
    from movieplotgpt.recipe.training_run import TrainingRun
    from movieplotgpt.training.distributed import Workers


def train(
    config: str | Path,
    *,
    source: str | Path | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    title_column: str | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    no_header: bool = False,
    size: Size | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    settings: Changes = (),
    from_: str | Path | None = None,
    teachers: Sequence[str | Path] = (),
    resume: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
    stop: Callable[[], bool] = lambda: False,
    workers: Workers | None = None,
) -> TrainingRun:
    """Train a model on a text or table, with settings chosen for it, or as a settings file says.

    The text is read and prepared before this returns; training happens while the returned run is iterated over, or as soon as
    its ``generator`` or ``checkpoint`` is asked for.

    Example:
        >>> from movieplotgpt.training.events import StepDone
        >>> run = train("films.csv", title_column="Title", text_column="Plot", steps=3, progress=False)
        >>> losses = [event.loss for event in run if isinstance(event, StepDone)]
        >>> len(losses), run.finished.reason
        (3, 'complete')
        >>> plot = run.generator.plot("The Last Tram", max_tokens=50)

    Args:
        config: A text, a table, a folder of them, or a TOML file with settings.
        source: With a TOML: the corpus. It is prepared first if that was not done already.
        data: The folder that ``prepare`` made of the text; with a TOML it takes the place of ``source``.
        out: The run's folder (default: ``runs/`` and the name of the config without its suffix).
        title_column: For a table: the column with titles.
        text_column: For a table: the column with texts.
        encoding: The encoding of the files (default: UTF-8, or what a byte order mark says).
        separator: For a table: the character between fields (default: found by reading the file).
        no_header: For a table: the first row is data; the columns are named 1, 2, 3.
        size: tiny, mini, small, base, medium or large (1 M to 90 M parameters), or auto: by the speed of a few steps.
        minutes: How long to train, by the clock (default for a text: 5).
        steps: How long to train, in steps.
        epochs: How long to train, in passes over the text.
        settings: Settings to change: ``{"optimizer.learning_rate": 0.01}``.
        from_: The name or folder of a model to fine-tune; its tokenizer and format are kept.
        teachers: Names or folders of models to learn from beside the text (distillation).
        resume: Continue the run in its folder, with the settings, text and precision it began with.
        tensorboard: Also write TensorBoard logs (extra ``track``).
        progress: Show progress bars, the reasons for what was chosen, and samples, on stderr or in the notebook.
        stop: Asked after each step; when it returns true, the run is saved and ends.
        workers: This process among others, if it has joined them already (see ``training.distributed``).

    Raises:
        ConfigError: arguments or settings that contradict each other, or a value that does not fit.
        DataError: the text cannot be read, or is too short.
        CheckpointError: a model to start from, or the run to resume, is missing or damaged.
        TrainingError: the folder holds a run already, or another process is training into it. While iterating: the loss
            stays NaN or infinite, or memory does not suffice.
        StorageError: the disk refuses.
    """
    choose_waiting()  # before anything below imports torch
    from movieplotgpt.recipe.training_run import TrainingRequest, TrainingRun

    return TrainingRun(
        TrainingRequest(
            config=Path(config),
            source=Path(source) if source else None,
            data=Path(data) if data else None,
            out=Path(out) if out else None,
            reading=Reading(title_column, text_column, encoding, separator, no_header),
            size=size,
            minutes=minutes,
            steps=steps,
            epochs=epochs,
            changes=as_overrides(settings),
            start_from=str(from_) if from_ else None,
            teachers=tuple(map(str, teachers)),
            resume=resume,
            tensorboard=tensorboard,
            progress=progress,
            stop=stop,
            workers=workers,
        )
    )


def prepare(
    config: str | Path,
    out: str | Path,
    *,
    source: str | Path | None = None,
    title_column: str | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    no_header: bool = False,
    settings: Changes = (),
    progress: bool = True,
) -> PrepareReport:
    """Read a corpus, clean it, group duplicates, split it, train its tokenizer and write token arrays.

    Example:
        >>> report = prepare("films.csv", "data", title_column="Title", text_column="Plot", progress=False)
        >>> report.documents
        58
        >>> {split: counts.documents for split, counts in report.splits.items()}
        {'train': 56, 'validation': 1, 'test': 1}

    Args:
        config: A text, a table, a folder of them, or a TOML file with settings.
        out: The folder to write. A prepared corpus that is there is replaced as a whole.
        source: With a TOML: the corpus.
        title_column: For a table: the column with titles.
        text_column: For a table: the column with texts.
        encoding: The encoding of the files (default: UTF-8, or what a byte order mark says).
        separator: For a table: the character between fields (default: found by reading the file).
        no_header: For a table: the first row is data; the columns are named 1, 2, 3.
        settings: Settings to change: ``{"tokenizer.vocab_size": 2048}``.
        progress: Show progress bars on stderr or in the notebook.

    Returns:
        What was found and done: documents, splits, lengths, warnings. ``train`` takes the folder as ``data``.

    Raises:
        ConfigError: arguments or settings that contradict each other, or a value that does not fit.
        DataError: the corpus cannot be read.
        StorageError: the disk refuses; what was in ``out`` is untouched.
    """
    config, reading = Path(config), Reading(title_column, text_column, encoding, separator, no_header)
    refuse_contradictions(config, Path(source) if source else None, None, reading)
    if is_settings_file(config) and source is None:
        raise ConfigError(f"{config} holds settings; name the text to prepare with source=FILE")
    chosen = choose_settings(config, as_overrides(settings), {"minutes": None}, reading, lambda reason: None)
    text = Path(source) if source else config
    return prepare_with_bars(chosen, text, Path(out), lambda warning: None, progress=progress)

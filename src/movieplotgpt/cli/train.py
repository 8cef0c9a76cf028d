"""``movieplotgpt train``: from a TOML or a text file to a model."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from movieplotgpt.cli.reading import ReadingText, TextFlags
from movieplotgpt.engine.waiting import choose_waiting
from movieplotgpt.model.sizes import Size
from movieplotgpt.signals import stop_on_signal

INTERRUPTED = 130


def train(
    config: Path,
    *overrides: str,
    source: Path | None = None,
    data: Path | None = None,
    size: Size | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    out: Path | None = None,
    resume: bool = False,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    teacher: list[str] | None = None,
    reading: ReadingText = None,
    tensorboard: bool = False,
) -> int:
    """Train a model. Ctrl-C saves; --resume continues exactly where it stopped.

    Args:
        config: A TOML file (configs/ has four), or a text or table to train on with settings chosen for it.
        overrides: Settings to change, as section.key=value (optimizer.learning_rate=0.01).
        source: The corpus; it is prepared first if that was not done already.
        data: The folder that `prepare` made of the text; with a TOML it takes the place of --source.
        size: tiny, mini, small, base, medium or large (1 M to 90 M parameters), or auto: by the speed of a few steps.
        minutes: How long to train, by the clock.
        steps: How long to train, in steps.
        epochs: How long to train, in passes over the text.
        out: The run's folder (default: runs/ and the name of the config or text without its suffix).
        resume: Continue the run in the folder, with the settings, text and precision it began with. Precision and device
            may be changed by training.precision= and training.device=; the weights then differ in their last bits.
        from_: A model to fine-tune; its tokenizer and format are kept.
        teacher: A model to learn from beside the text (distillation); given again, from the mean of several.
        reading: How the files are read, and which columns of a table.
        tensorboard: Also write TensorBoard logs (extra `track`).
    """
    choose_waiting()  # before anything below imports torch
    from movieplotgpt.recipe.training import train as start
    from movieplotgpt.training.distributed import join_workers

    with join_workers() as workers:
        run = start(
            config,
            source=source,
            data=data,
            out=out,
            **asdict((reading or TextFlags()).reading),
            size=size,
            minutes=minutes,
            steps=steps,
            epochs=epochs,
            settings=overrides,
            from_=from_,
            teachers=teacher or (),
            resume=resume,
            tensorboard=tensorboard,
            stop=stop_on_signal("stopping after this step, then saving; Ctrl-C again stops at once"),
            workers=workers,
        )
        interrupted = run.finish().reason == "interrupted"
        if workers.first:
            prompt = "--title" if run.settings.format.header else "--input"
            command = f'movieplotgpt generate --model {run.folder} {prompt} "..."'
            after = f"saved in {run.folder}; continue with --resume" if interrupted else f"done; try: {command}"
            print(after, file=sys.stderr)
        return workers.leave(INTERRUPTED if interrupted else 0)

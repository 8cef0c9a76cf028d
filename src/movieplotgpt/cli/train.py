"""``movieplotgpt train``: from a TOML or a text file to a model."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from movieplotgpt.cli.reading import ReadingText, TextFlags
from movieplotgpt.cli.resuming import kept_settings, refuse_other_text, remember_config
from movieplotgpt.cli.settings import choose_settings, prepare_once, refuse_contradictions
from movieplotgpt.cli.signals import stop_on_signal
from movieplotgpt.errors import ConfigError, MissingExtraError, StorageError, TrainingError
from movieplotgpt.training.waiting import choose_waiting

if TYPE_CHECKING:
    from rich.console import Console

    from movieplotgpt.model.checkpoints import Checkpoint
    from movieplotgpt.text.token_files import PreparedCorpus
    from movieplotgpt.training.distributed import Workers
    from movieplotgpt.training.run import RunConfig, RunFolder

INTERRUPTED = 130


def train(
    config: Path,
    *overrides: str,
    source: Path | None = None,
    data: Path | None = None,
    size: str | None = None,
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
    """Train a model. Ctrl-C saves; --resume goes on exactly where it stopped.

    Args:
        config: A TOML file (configs/ has four), or a text or table to train on with settings chosen for it.
        overrides: Settings to change, as section.key=value (optimizer.learning_rate=0.01).
        source: The corpus; it is prepared first when that was not done.
        data: A folder that `prepare` made, in place of --source.
        size: tiny, mini, small, base, medium or large (1 M to 90 M parameters), or auto: by the speed of a few steps.
        minutes: How long to train, by the clock.
        steps: How long to train, in steps.
        epochs: How long to train, in passes over the text.
        out: The run's folder (default: runs/ and the name of the config or text without its suffix).
        resume: Continue the run in the folder, with the settings, text and precision it began with. Precision and device
            may be changed by training.precision= and training.device=; the bits are others then.
        from_: Start from another model's weights, its tokenizer and format kept: fine-tuning.
        teacher: Learn from this model beside the text (distillation); given again, from the mean of several.
        reading: How the files are read, and which columns of a table.
        tensorboard: Also write TensorBoard logs (extra `track`).
    """
    choose_waiting()  # before anything below imports torch
    from rich.console import Console

    from movieplotgpt.atomic import recover_folder
    from movieplotgpt.model.checkpoints import load_checkpoint
    from movieplotgpt.training.distributed import join_workers
    from movieplotgpt.training.run import RunFolder, run_name

    lengths = {"minutes": minutes, "steps": steps, "epochs": epochs}
    reading = reading or TextFlags()
    refuse_contradictions(config, source, data, reading.title_column or reading.text_column)
    _refuse_unheard(lengths, from_, size, resume)
    folder = RunFolder(out or Path("runs") / run_name(config))
    overrides += tuple(f"training.{name}={value}" for name, value in lengths.items() if value is not None)
    overrides += (f"model.size={size}",) if size else ()
    overrides += (f"distillation.teachers={json.dumps(teacher)}",) if teacher else ()
    start_from = load_checkpoint(from_) if from_ else None
    source = source if config.suffix == ".toml" else config
    with join_workers() as workers:
        console = Console(stderr=True, quiet=not workers.first)
        with folder.taken() if workers.first else nullcontext():
            if resume:
                settings = kept_settings(config, overrides, reading, folder, console)
            else:
                if workers.first:
                    recover_folder(folder.last)
                    folder.refuse_overwriting()
                settings = choose_settings(config, overrides, lengths, reading, console)
            if start_from:
                settings = _keep_form(settings, start_from)
            if source is not None and resume and (folder.path / "data" / "manifest.json").exists():
                refuse_other_text(source, folder, console)
            elif source is not None:
                data = data or folder.path / "data"
                with workers.first_alone():
                    prepare_once(settings, source, data, start_from, console)
            corpus = _prepared(data, folder, start_from)
            if workers.first and not resume:
                remember_config(config, folder)
            code = _run(settings, corpus, folder, console, workers, tensorboard, resume=resume, start_from=start_from)
        return workers.leave(code)


def _refuse_unheard(lengths: dict[str, float | None], start_from: str | None, size: str | None, resume: bool) -> None:
    """Of two flags that cannot both be met, none is left out in silence."""
    given = [f"--{name}" for name, value in lengths.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other; give one of --minutes, --steps and --epochs")
    if start_from and size:
        raise ConfigError(f"--from {start_from} keeps that model's size; leave --size {size} out")
    if start_from and resume:
        raise ConfigError(f"--resume continues the run's own weights; leave --from {start_from} out, or --resume")


def _keep_form(settings: RunConfig, start_from: Checkpoint) -> RunConfig:
    """Fine-tuning keeps what the weights were trained on and are: format, cleaning, dimensions."""
    network = start_from.model.config.model_dump(exclude={"vocab_size", "norm_eps"})
    hints = getattr(settings.corpus, "hints", {})
    return settings.model_copy(
        update={
            "format": start_from.format.for_table(settings.format.title_column, hints, settings.format.has_plan),
            "cleaning": start_from.cleaning,
            "model": settings.model.model_copy(update=network),
        }
    )


def _prepared(data: Path | None, folder: RunFolder, start_from: Checkpoint | None) -> PreparedCorpus:
    from movieplotgpt.text.token_files import PreparedCorpus

    own = folder.path / "data"
    if data is None and not own.exists():
        raise ConfigError("say what to train on: --source FILE, or --data FOLDER that `movieplotgpt prepare` made")
    corpus = PreparedCorpus.load(data or own)
    if start_from and corpus.tokenizer.to_json() != start_from.tokenizer.to_json():
        raise ConfigError(
            f"{corpus.folder} was prepared with another tokenizer than the model to start from has; give the text itself "
            "with --source, and it is prepared with the model's"
        )
    return corpus


def _run(
    settings: RunConfig,
    corpus: PreparedCorpus,
    folder: RunFolder,
    console: Console,
    workers: Workers,
    tensorboard: bool,
    *,
    resume: bool,
    start_from: Checkpoint | None,
) -> int:
    from movieplotgpt.evaluation.likelihood import validation_scorer
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
    from movieplotgpt.training.sizing import settle_by_timing
    from movieplotgpt.training.trainer import train
    from movieplotgpt.training.windows import too_small

    problem = too_small(corpus, settings.model.context_length)
    if problem:
        raise TrainingError(problem)
    folder.path.mkdir(parents=True, exist_ok=True)
    settings, reasons = settle_by_timing(settings, corpus, lambda flops: workers.world_size * workers.from_first(flops))
    for reason in reasons:
        console.print(reason, markup=False, highlight=False)
    train_counts = corpus.manifest.splits["train"]
    tokens_per_character = train_counts.body_tokens / train_counts.characters
    events = train(
        settings,
        corpus,
        folder,
        evaluate=validation_scorer(corpus),
        sample=_sampler(corpus),
        resume=resume,
        start_from=start_from,
        stop=stop_on_signal("stopping after this step, then saving; Ctrl-C again stops at once"),
        workers=workers,
    )
    if not workers.first:
        end = deque(events, maxlen=1).pop()
        return INTERRUPTED if isinstance(end, Finished) and end.reason == "interrupted" else 0
    with ConsoleProgress(console, tokens_per_character) as progress:
        monitors: list[Monitor] = [progress, SamplesFile(folder.samples)]
        monitors += [TensorBoard(folder.path)] if tensorboard else []
        last: Event | None = None
        for event in events:
            if last is None:  # the first event tells where the run goes on
                monitors.append(MetricsFile(folder.metrics, resume_at=getattr(event, "step", 0) if resume else None))
            for reason in notify(monitors, event):
                console.print(reason, markup=False, highlight=False)
            last = event
    if isinstance(last, Finished) and last.reason == "interrupted":
        console.print(f"saved in {folder.last}; continue with --resume", markup=False, highlight=False)
        return INTERRUPTED
    try:
        draw_loss(folder, tokens_per_character)
    except (MissingExtraError, StorageError) as error:
        console.print(f"no loss figure: {error}", markup=False, highlight=False)
    prompt = "--title" if corpus.format.header else "--input"
    command = f'movieplotgpt generate --model {folder.path} {prompt} "..."'
    console.print(f"done; try: {command}", markup=False, highlight=False)
    return 0


def _sampler(corpus: PreparedCorpus) -> Callable[..., str]:
    """What `train` writes at each evaluation: a text for an unseen title, where the corpus has titles."""
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.model.checkpoints import Checkpoint
    from movieplotgpt.model.gpt import GPT

    def sample(model: GPT) -> str:
        checkpoint = Checkpoint(
            model.config, corpus.tokenizer, corpus.format, corpus.manifest.cleaning, {}, model=model
        )
        generator = PlotGenerator(checkpoint)
        title = corpus.split("validation").titles[0] if corpus.format.header else ""
        plot = generator.plot(title, seed=0, max_tokens=200)
        return f"{plot.prompt}{plot.text}"

    return sample

"""What a training would take and bring, from a few of its steps and a study of the same text."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from pydantic import BaseModel, ConfigDict

from movieplotgpt.errors import ConfigError, MoviePlotGPTError, TrainingError
from movieplotgpt.evaluation.likelihood import score_split
from movieplotgpt.model.gpt import GPT
from movieplotgpt.study.results import StudyResults
from movieplotgpt.study.scaling import TextLaw
from movieplotgpt.text.prepare import peak_memory
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.text.tokenizers import Tokenizer
from movieplotgpt.training.events import Started, StepDone
from movieplotgpt.training.hardware import device_name
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.sizing import MEMORISED_AFTER
from movieplotgpt.training.trainer import train

TIMED = 3  # steps, after one that compiles and one that settles
BELIEVED = 2.0  # times the parameters and characters of a study's runs, its law is still believed
FRESH = 4  # epochs, up to which text read again is nearly worth new text (arXiv 2305.16264)
_SCORED = 20  # validation documents that are scored to see how long all take


class Plan(BaseModel):
    """A training before it is done: times in seconds, memory in bytes.

    ``minutes`` counts the first step, which compiles, and the evaluations. ``off_by`` is what the study's law was off by when it
    foretold a run from the others. ``bits_per_character`` is None where the study says nothing of this training, and
    ``unknown`` why.
    """

    model_config = ConfigDict(frozen=True)

    size: str
    parameters: int
    tokens_per_step: int
    device: str
    precision: str
    first_step: float
    step: float
    tokens_per_second: float
    evaluation: float
    epoch_minutes: float
    steps: int
    epochs: float
    minutes: float
    memory: int
    bits_per_character: float | None
    off_by: float | None
    unknown: str | None
    warnings: tuple[str, ...]


class _Measured(BaseModel):
    device: str
    precision: str
    seconds: tuple[float, ...]
    scoring: float  # seconds a validation token
    memory: int
    parameters: int
    windows: int  # of an epoch


def make_plan(config: RunConfig, corpus: PreparedCorpus, study: StudyResults | None = None) -> Plan:
    """Take five steps of the training in a process of its own, and reckon with them.

    Raises:
        ConfigError: the config does not say how long to train.
        TrainingError: the steps cannot be taken, for want of memory for instance.
    """
    training = config.training
    if training.minutes is None and training.steps is None and training.epochs is None:
        raise ConfigError("say how long the training would be: --minutes 30, or training.epochs=4")
    measured = _measure(config, corpus.folder)
    first, step = measured.seconds[0], median(measured.seconds[-TIMED:])
    validation, counts = corpus.manifest.splits["validation"], corpus.manifest.splits["train"]
    scoring = measured.scoring * (validation.body_tokens + validation.documents)
    context_length = config.model.context_length
    tokens_per_step = training.batch_size(context_length) * context_length
    epoch = measured.windows * context_length
    steps = _steps(config, epoch / tokens_per_step, first, step, scoring)
    epochs = steps * tokens_per_step / epoch
    unknown = _unknown(study, corpus, measured.parameters, epochs)
    law = None if unknown or study is None else _laws(study)[_name(corpus.tokenizer)]
    return Plan(
        size=config.model.size,
        parameters=measured.parameters,
        tokens_per_step=tokens_per_step,
        device=measured.device,
        precision=measured.precision,
        first_step=first,
        step=step,
        tokens_per_second=tokens_per_step / step,
        evaluation=scoring,
        epoch_minutes=epoch / tokens_per_step * step / 60,
        steps=steps,
        epochs=epochs,
        minutes=(first + step * (steps - 1) + scoring * training.evaluations) / 60,
        memory=measured.memory,
        bits_per_character=law.bits(measured.parameters, epochs * counts.characters) if law else None,
        off_by=law.foretold_error if law else None,
        unknown=unknown,
        warnings=tuple(_warnings(epochs, counts.characters)),
    )


def _steps(config: RunConfig, steps_per_epoch: float, first: float, step: float, scoring: float) -> int:
    training = config.training
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        return max(1, round(training.epochs * steps_per_epoch))
    seconds = 60 * (training.minutes or 0) - first - scoring * training.evaluations
    return max(1, 1 + int(seconds / step))


def _name(tokenizer: Tokenizer) -> str:
    """As a study names it."""
    return f"bpe-{tokenizer.vocab_size}" if tokenizer.kind == "bpe" else tokenizer.kind


def _laws(study: StudyResults) -> dict[str, TextLaw]:
    return {law.tokenizer: law.text for law in study.laws if law.text}


def _unknown(study: StudyResults | None, corpus: PreparedCorpus, n_parameters: int, epochs: float) -> str | None:
    """Why the study does not tell the result of a training; None where it does.

    Its law was fitted to text that was read once or less, and is believed up to twice what its runs had of each.
    """
    if study is None:
        return "`movieplotgpt compare` makes a study of a text, and --study names it"
    if study.corpus_hash != corpus.manifest.corpus_hash:
        return f"{study.name} is a study of another text, {study.source}, or of the same prepared otherwise"
    name = _name(corpus.tokenizer)
    runs = [row for row in study.rows if row.variant == name]
    if name not in _laws(study):
        tried = ", ".join(dict.fromkeys(row.variant for row in study.rows))
        return f"{study.name} has no law for {name} (it tried {tried}): that takes a size trained for three lengths or more"
    characters = epochs * corpus.manifest.splits["train"].characters
    smallest, largest = min(row.parameters for row in runs), max(row.parameters for row in runs)
    longest = max(row.characters for row in runs)
    if (
        smallest / BELIEVED <= n_parameters <= BELIEVED * largest
        and characters <= BELIEVED * longest
        and epochs <= FRESH
    ):
        return None
    return (
        f"the runs of {study.name} have {smallest / 1e6:.1f} to {largest / 1e6:.1f} M parameters and read up to "
        f"{longest / 1e6:.1f} M characters; this training is too far from them"
    )


def _warnings(epochs: float, characters: int) -> list[str]:
    if epochs <= MEMORISED_AFTER:
        return []
    return [
        f"your {characters / 1e3:,.0f} kB are read {epochs:,.0f} times, and will be memorised after about "
        f"{MEMORISED_AFTER} epochs: take fewer minutes, a smaller size, dropout and patience, or more text"
    ]


def _measure(config: RunConfig, data: Path) -> _Measured:
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_child, args=(there, config, data))
    child.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        raise TrainingError(
            "the first steps ended their process, for want of memory most likely; take a smaller size, or fewer "
            "training.tokens_per_step"
        ) from None
    finally:
        child.join()
    if isinstance(found, MoviePlotGPTError):
        raise found
    assert isinstance(found, _Measured)
    return found


def _child(pipe: Connection, config: RunConfig, data: Path) -> None:
    try:
        pipe.send(_first_steps(config, PreparedCorpus.load(data)))
    except MoviePlotGPTError as error:
        pipe.send(error)


def _first_steps(config: RunConfig, corpus: PreparedCorpus) -> _Measured:
    """A whole training of few steps, which scores a few documents at its end."""
    short = {"minutes": None, "epochs": None, "steps": 2 + TIMED, "evaluations": 1, "checkpoint_every": None}
    config = config.model_copy(update={"training": config.training.model_copy(update=short)})
    some = corpus.split("validation")
    some = replace(some, offsets=some.offsets[:_SCORED])
    scored_tokens = sum(len(some.body(i)) + 1 for i in range(some.n_documents))
    seconds: list[float] = []
    scoring = 0.0

    def score(model: GPT) -> float:
        nonlocal scoring
        began = time.perf_counter()
        score_split(model, some, corpus.tokenizer.end_id)
        scoring = time.perf_counter() - began
        return 0.0

    with tempfile.TemporaryDirectory() as folder:
        for event in train(config, corpus, RunFolder(Path(folder)), evaluate=score):
            if isinstance(event, Started):
                started = event
            elif isinstance(event, StepDone):
                seconds.append(event.seconds)
    hardware = started.hardware
    return _Measured(
        device=device_name(hardware.device),
        precision=str(hardware.dtype).removeprefix("torch."),
        seconds=tuple(seconds),
        scoring=scoring / scored_tokens,
        memory=torch.cuda.max_memory_reserved() if hardware.device.type == "cuda" else peak_memory(),
        parameters=started.parameters,
        windows=started.windows_per_epoch,
    )

"""What a training would take and bring, from a few of its steps and a study of the same text."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from movieplotgpt.errors import ConfigError, TrainingError
from movieplotgpt.evaluation.likelihood import score_split
from movieplotgpt.machine import peak_memory
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import device_name
from movieplotgpt.records import Record
from movieplotgpt.study.results import Law, StudyResults
from movieplotgpt.study.scaling import TextLaw
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.events import Evaluated, Started, StepDone
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.sizing import MEMORISED_AFTER
from movieplotgpt.training.trainer import train

TIMED = 3  # steps, after one that compiles and one that settles
BELIEVED = 2.0  # times what a study's runs had of parameters and text, or so many times less, its law is believed
FRESH = 4  # epochs, up to which text read again is nearly worth new text (arXiv 2305.16264)
_SCORED = 20  # validation documents that are scored to see how long all take


class Plan(Record):
    """A training before it is done: times in seconds, memory in bytes.

    ``minutes`` counts the first step, which compiles, and the evaluations. ``off_by`` is what the study's law was off by when it
    foretold a run from the others. ``bits_per_character`` is None if the study does not cover this training, and
    ``unknown`` why.
    """

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


class _Measured(Record):
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
        raise ConfigError("say how long the training would be: minutes=30, or training.epochs=4")
    measured = _measure(config, corpus.folder)
    first, step = measured.seconds[0], median(measured.seconds[-TIMED:])
    validation, counts = corpus.manifest.splits["validation"], corpus.manifest.splits["train"]
    scoring = measured.scoring * (validation.body_tokens + validation.documents)
    context_length = config.model.context_length
    tokens_per_step = training.batch_size(context_length) * context_length
    epoch = measured.windows * context_length
    steps = _steps(config, epoch / tokens_per_step, first, step, scoring)
    epochs = steps * tokens_per_step / epoch
    law = _law_for(config, corpus, measured.parameters, epochs, study)
    told = law if isinstance(law, TextLaw) else None
    memorised = (
        f"your {counts.characters / 1e3:,.0f} kB are read {epochs:,.0f} times, and will be memorised after about "
        f"{MEMORISED_AFTER} epochs: take fewer minutes, a smaller size, dropout and patience, or more text"
    )
    return Plan(
        **measured.model_dump(include={"parameters", "device", "precision", "memory"}),
        size=config.model.size,
        tokens_per_step=tokens_per_step,
        first_step=first,
        step=step,
        tokens_per_second=tokens_per_step / step,
        evaluation=scoring,
        epoch_minutes=epoch / tokens_per_step * step / 60,
        steps=steps,
        epochs=epochs,
        minutes=(first + step * (steps - 1) + scoring * training.evaluations) / 60,
        bits_per_character=told.bits(measured.parameters, epochs * counts.characters) if told else None,
        off_by=told.foretold_error if told else None,
        unknown=law if isinstance(law, str) else None,
        warnings=(memorised,) if epochs > MEMORISED_AFTER else (),
    )


def _steps(config: RunConfig, steps_per_epoch: float, first: float, step: float, scoring: float) -> int:
    training = config.training
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        return max(1, round(training.epochs * steps_per_epoch))
    seconds = 60 * (training.minutes or 0) - first - scoring * training.evaluations
    return max(1, 1 + int(seconds / step))


def _law_for(
    config: RunConfig, corpus: PreparedCorpus, n_parameters: int, epochs: float, study: StudyResults | None
) -> TextLaw | str:
    """Return the study's law that predicts the result of a training, or the reason why none does.

    A law holds for the text and the settings of its runs. It was fitted to text that was read a few times or less, and is
    believed from half the parameters and the text of its runs to twice as much.
    """
    if study is None:
        return "`movieplotgpt compare` makes a study of a text, and study=FILE names it"
    if study.corpus_hash != corpus.manifest.corpus_hash:
        return f"{study.name} is a study of another text, {study.source}, or of the same prepared otherwise"
    tokenizer = corpus.tokenizer
    name = f"bpe-{tokenizer.vocab_size}" if tokenizer.kind == "bpe" else tokenizer.kind  # as a study names it
    variants = {row.variant for row in study.rows if row.tokenizer == name}
    laws = [law for law in study.laws if law.tokenizer in variants and law.text]
    if not laws:
        tried = ", ".join(dict.fromkeys(row.variant for row in study.rows))
        return f"{study.name} has no law for {name} (it tried {tried}): that takes a size trained for three lengths or more"
    law = min(laws, key=lambda law: len(_differing(law, config)))
    if differing := _differing(law, config):
        return f"the runs of {study.name} were trained otherwise: {', '.join(differing)}"
    assert law.text
    return _too_far(study, law, n_parameters, epochs, corpus.manifest.splits["train"].characters) or law.text


def _differing(law: Law, config: RunConfig) -> list[str]:
    """The settings that a law's runs had otherwise."""
    here = config.learning
    keys = dict.fromkeys([*law.settings, *here])
    return [
        f"{key} was {_shown(law.settings.get(key))}, here it is {_shown(here.get(key))}"
        for key in keys
        if law.settings.get(key) != here.get(key)
    ]


def _shown(value: object) -> str:
    """Return a setting's value as text: "not set" if only one of them has it, or its default depends on others."""
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _too_far(study: StudyResults, law: Law, n_parameters: int, epochs: float, text: int) -> str | None:
    runs = [row for row in study.rows if row.variant == law.tokenizer]
    sizes, lengths = [row.parameters for row in runs], [row.characters for row in runs]
    if not min(sizes) / BELIEVED <= n_parameters <= BELIEVED * max(sizes):
        what = f"have {_millions(sizes)} parameters, and this network {n_parameters / 1e6:.1f} M"
    elif not min(lengths) / BELIEVED <= epochs * text <= BELIEVED * max(lengths):
        what = f"read {_millions(lengths)} characters, and this training reads {epochs * text / 1e6:.1f} M"
    elif epochs > FRESH:
        what = f"read the text up to {max(lengths) / text:.1f} times, and this training {epochs:.1f} times: "
        what += f"beyond {FRESH} epochs repeats count for less than the law predicts"
    else:
        return None
    return f"the runs of {study.name} {what}"


def _millions(amounts: Sequence[float]) -> str:
    return f"{min(amounts) / 1e6:.1f} to {max(amounts) / 1e6:.1f} M"


def _measure(config: RunConfig, data: Path) -> _Measured:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_first_steps, config, data).result()
        except RuntimeError as error:  # of PyTorch, or of the pool whose process has gone
            raise TrainingError(
                "the first steps ended their process, for want of memory most likely; take a smaller size, or fewer "
                "training.tokens_per_step"
            ) from error


def _first_steps(config: RunConfig, data: Path) -> _Measured:
    """A whole training of few steps, which scores a few documents at its end."""
    corpus = PreparedCorpus.load(data)
    short = {"minutes": None, "epochs": None, "steps": 2 + TIMED, "evaluations": 1, "checkpoint_every": None}
    config = config.model_copy(update={"training": config.training.model_copy(update=short)})
    some = corpus.split("validation")
    some = replace(some, offsets=some.offsets[:_SCORED])
    scored_tokens = sum(len(some.body(i)) + 1 for i in range(some.n_documents))

    def score(model: GPT) -> float:
        return float(score_split(model, some, corpus.tokenizer.end_id).body.sum())

    with tempfile.TemporaryDirectory() as folder:
        events = list(train(config, corpus, RunFolder(Path(folder)), evaluate=score))
    [started] = (event for event in events if isinstance(event, Started))
    [evaluated] = (event for event in events if isinstance(event, Evaluated))
    hardware = started.hardware
    return _Measured(
        device=device_name(hardware.device),
        precision=str(hardware.dtype).removeprefix("torch."),
        seconds=tuple(event.seconds for event in events if isinstance(event, StepDone)),
        scoring=evaluated.seconds / scored_tokens,
        memory=torch.cuda.max_memory_reserved() if hardware.device.type == "cuda" else peak_memory(),
        parameters=started.parameters,
        windows=started.windows_per_epoch,
    )

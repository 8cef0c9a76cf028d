"""What a training run tells while it goes on: the words between the loop and whoever watches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from movieplotgpt.model.hardware import Hardware


@dataclass(frozen=True)
class Started:
    """The run begins, or goes on, at ``step``."""

    step: int
    total_steps: int | None
    parameters: int
    tokens_per_step: int
    windows_per_epoch: int
    hardware: Hardware


@dataclass(frozen=True)
class StepDone:
    """One step; ``loss`` in nats per token, ``seconds`` of this step alone."""

    step: int
    total_steps: int | None
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    epoch: int


@dataclass(frozen=True)
class Skipped:
    """A step whose loss or gradient was NaN or infinite: the weights stay as they were. ``total``: how many there have been."""

    step: int
    loss: float
    total: int
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """The validation split was scored, in bits per character."""

    step: int
    bits_per_character: float
    best: bool
    seconds: float


@dataclass(frozen=True)
class Sampled:
    """A text the model writes at this point."""

    step: int
    text: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk, whole."""

    step: int
    folder: Path


@dataclass(frozen=True)
class Noted:
    """Something a person should know."""

    message: str


@dataclass(frozen=True)
class Finished:
    """The run is over: complete, stopped early for lack of progress, or interrupted and saved."""

    step: int
    reason: str
    seconds: float


Event = Started | StepDone | Skipped | Evaluated | Sampled | Saved | Noted | Finished

"""RunConfig: the whole TOML, composed of the parts' settings; and the layout of a run folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from movieplotgpt.config import Settings
from movieplotgpt.errors import TrainingError
from movieplotgpt.locks import occupied
from movieplotgpt.model.sizes import SizeSettings
from movieplotgpt.text.file_kinds import COMPRESSION_SUFFIXES, SUFFIXES
from movieplotgpt.text.prepare import PrepareSettings
from movieplotgpt.text.sources import printable
from movieplotgpt.training.distillation import DistillationSettings
from movieplotgpt.training.optimizers import MuonSettings, OptimizerSettings
from movieplotgpt.training.schedules import ScheduleSettings
from movieplotgpt.training.windows import WindowSettings

UNNAMED = "text"  # for a source without a name of its own, such as the root folder
KINDS = {".toml", *SUFFIXES, *COMPRESSION_SUFFIXES}  # suffixes that are not part of a name


class TrainingSettings(Settings):
    """How long, how much at once, on what, and how often to look.

    One of ``minutes``, ``steps`` and ``epochs`` says how long. Minutes become a number of steps once the first steps have
    been timed, and another number when the machine's speed changes; the plan is kept with the run.
    """

    minutes: float | None = Field(None, gt=0, description="Wall time for training, evaluation included.")
    steps: int | None = Field(None, ge=1, description="How long to train, in optimizer steps.")
    epochs: float | None = Field(None, gt=0, description="How long to train, in passes over the text.")
    tokens_per_step: int = Field(8192, ge=32, description="Tokens a step learns from; rows are this over the context.")
    seed: int = Field(1337, ge=0, description="Of the initial weights, the windows and dropout.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the embedding and of what each block adds.")
    previous_token_head: bool = Field(True, description="Start with a head that looks at the token before each.")
    gradient_clip: float | None = Field(1.0, gt=0, description="Largest norm of the gradient.")
    plain_tail: float = Field(0.1, ge=0, le=1, description="Last share of training in which no hint line is shown.")
    evaluations: int = Field(5, ge=1, description="How often the validation split is scored, the last step included.")
    patience: int | None = Field(None, ge=1, description="Stop after so many evaluations without a better one.")
    checkpoint_every: int | None = Field(None, ge=1, description="In steps; always at each evaluation and at the end.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to train; auto: a GPU if there is one."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of matrix products; auto: bfloat16 where the hardware has units for it."
    )
    compile: Literal["auto", "on", "off"] = Field("auto", description="torch.compile, where a compiler is.")

    def batch_size(self, context_length: int) -> int:
        """Windows of a step."""
        return max(1, self.tokens_per_step // context_length)

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        given = [name for name in ("minutes", "steps", "epochs") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of minutes, steps and epochs, not {' and '.join(given)}")
        return self


class UsualSampling(Settings):
    """The sampling settings that a model may set a default for; None leaves the general default."""

    guidance: float | None = Field(None, ge=1, le=10, description="Strength of the guidance by title and hints.")
    end_bias: float | None = Field(None, ge=-20, le=20, description="Nats added to the end token after a sentence.")
    distinct_names: bool | None = Field(None, description="Take back names that return too soon.")
    plan: Literal["auto", "none"] | None = Field(None, description="Whether a plan is written before the text.")
    cast: bool | None = Field(None, description="Whether parentheses, in which plots name actors, are allowed.")


_NOT_LEARNING: dict[str, Any] = {
    **dict.fromkeys(PrepareSettings.model_fields, True),
    "model": {"size"},
    "sampling": True,
    "training": {
        *("minutes", "steps", "epochs", "seed", "evaluations", "patience", "checkpoint_every"),
        *("device", "precision", "compile"),
    },
}


class RunConfig(PrepareSettings):
    """Everything a published run is made from: one TOML file."""

    model: SizeSettings = Field(SizeSettings(), description="The network's size.")
    windows: WindowSettings = Field(WindowSettings(), description="How documents are shown.")
    optimizer: OptimizerSettings = Field(MuonSettings(), description="Muon or AdamW.")
    schedule: ScheduleSettings = Field(ScheduleSettings(), description="The learning rate's course.")
    sampling: UsualSampling = Field(UsualSampling(), description="Sampling settings its model is used with by default.")
    distillation: DistillationSettings = Field(DistillationSettings(), description="Teachers beside the text.")
    training: TrainingSettings = Field(TrainingSettings(), description="How long and on what.")

    @property
    def learning(self) -> dict[str, Any]:
        """What bears on how much is learnt from a text, as section.key; but for the size, the length and the seed."""
        values = self.model_dump(mode="json", exclude=_NOT_LEARNING)
        return {f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()}


def run_name(source: Path) -> str:
    """Name the run or study of a settings file, text or folder: its name without the suffixes that say what kind of file it is.

    ``.`` and ``..`` have the name of the folder they are. A name that begins with a dot loses the dot. Bytes that are not
    UTF-8 are replaced.
    """
    path = source.resolve() if source.name in ("", "..") else source
    name = printable(path.name)  # other names are refused by the libraries that write the files
    if not source.is_dir():
        while (suffix := Path(name).suffix.lower()) in KINDS and Path(name).stem.strip("."):
            name = name[: -len(suffix)]
    return name.strip(".") or UNNAMED


class RunFolder:
    """Where a run keeps what it makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last"  # the newest checkpoint; its subfolder training/ holds what resuming needs
        self.best = path / "best"  # the checkpoint with the lowest bits per character on the validation split
        self.begun = path / "begun.json"  # what the settings file said when the run began
        self.metrics = path / "metrics.jsonl"  # one JSON object a line: every step and every evaluation
        self.samples = path / "samples.md"  # texts written while training
        self.figure = path / "loss.svg"

    def taken(self) -> AbstractContextManager[None]:
        """Keep other processes from training into the folder, on this machine and on others that share its disk.

        Raises:
            StorageError: the folder cannot be written.
            TrainingError: another process is training into it.
        """
        return occupied(self.path)

    def refuse_overwriting(self) -> None:
        """Check that a new run would replace nothing in the folder but what a run left there without a checkpoint.

        Raises:
            TrainingError: it holds a run, or another file or folder with a name that runs use.
        """
        if self.last.exists():
            raise TrainingError(
                f"{self.path} holds a run; continue it with resume=True, or name another folder with out=FOLDER"
            )
        for path in (self.best, *(() if _is_metrics(self.metrics) else (self.metrics, self.figure))):
            if path.exists():
                raise TrainingError(f"{path} would be replaced; move it, or name another folder with out=FOLDER")


def _is_metrics(path: Path) -> bool:
    """Return whether a run wrote ``path``, whose first line may be missing yet."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(10) in (b"", b'{"event": ')

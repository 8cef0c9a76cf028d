"""What ``movieplotgpt.json`` records of a model: typed, and checked when it is read, since strangers may write anything there."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from movieplotgpt.records import Record

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Point = Annotated[list[Number], Field(min_length=2, max_length=2)]
HintValue = Annotated[str, Field(max_length=200)]
HintValues = Annotated[list[HintValue], Field(max_length=100)]


class _Section(Record):
    model_config = ConfigDict(strict=True)


class CorpusRecord(_Section):
    """The text a model was trained on; ``hint_values`` has the usual values of its hints."""

    hash: str | None = None
    hint_values: dict[str, HintValues] = Field({})
    split_hash: str = ""
    source: str = ""
    source_sha256: str = ""


class TrainingRecord(_Section):
    """A training: what it took, where, and bits per character of the validation split by step."""

    step: Count
    tokens: Count
    seconds: Number
    device: str
    precision: str
    threads: Count
    torch: str = ""
    validation_bits_per_character: Number | None = None
    curve: list[Point] = Field([])


class DistillationRecord(_Section):
    """The models that a training listened to."""

    teachers: list[str] = Field([])
    weight: Number
    temperature: Number


class WindowsRecord(_Section):
    """How training windows were made: the share without a title."""

    no_title: Number = 0


class SettingsRecord(_Section):
    """The settings of a training, as far as they are read again."""

    corpus: dict[str, Any] = Field({})
    distillation: DistillationRecord | None = None
    optimizer: dict[str, Any] = Field({})
    sampling: dict[str, Any] = Field({})
    windows: WindowsRecord = Field(WindowsRecord())


class EvaluationRecord(_Section):
    """The number that an evaluation has found."""

    bits_per_character: Number | None = None


class ModelRecord(_Section):
    """All that this library reads of a model's record."""

    average: list[dict[str, Any]] = Field([])
    corpus: CorpusRecord = Field(CorpusRecord())
    end_bias: Number = 0
    evaluation: EvaluationRecord = Field(EvaluationRecord())
    imported: dict[str, Any] = Field({})
    settings: SettingsRecord = Field(SettingsRecord())
    trained_before: list[TrainingRecord] = Field([])
    training: TrainingRecord | None = None


def fault(info: dict[str, Any]) -> str | None:
    """Return what is wrong with a part that this library reads, by its name; None if nothing is."""
    if info.get("training", ...) is None:  # a training that is recorded is recorded whole
        return "training: Input should be an object"
    try:
        ModelRecord.model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].splitlines()[0]}"
    return None

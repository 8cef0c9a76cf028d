"""What ``movieplotgpt.json`` records of a model's training, checked when it is read: strangers may write anything there."""

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


class _Corpus(_Section):
    hash: str | None = None
    hint_values: dict[str, HintValues] = Field({})
    split_hash: str = ""
    source: str = ""
    source_sha256: str = ""


class _Training(_Section):
    step: Count
    tokens: Count
    seconds: Number
    device: str
    precision: str
    threads: Count
    torch: str = ""
    validation_bits_per_character: Number | None = None
    curve: list[Point] = Field([])


class _Distillation(_Section):
    teachers: list[str] = Field([])
    weight: Number
    temperature: Number


class _Settings(_Section):
    corpus: dict[str, Any] = Field({})
    distillation: _Distillation | None = None
    optimizer: dict[str, Any] = Field({})
    sampling: dict[str, Any] = Field({})
    windows: dict[str, Any] = Field({})


class _Evaluation(_Section):
    bits_per_character: Number | None = None


class _Info(_Section):
    average: list[dict[str, Any]] = Field([])
    corpus: _Corpus = Field(_Corpus())
    end_bias: Number = 0
    evaluation: _Evaluation = Field(_Evaluation())
    imported: dict[str, Any] = Field({})
    settings: _Settings = Field(_Settings())
    trained_before: list[_Training] = Field([])
    training: _Training | None = None


def fault(info: dict[str, Any]) -> str | None:
    """Return what is wrong with a part that this library reads, by its name; None if nothing is."""
    if info.get("training", ...) is None:  # a training that is recorded is recorded whole
        return "training: Input should be an object"
    try:
        _Info.model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].splitlines()[0]}"
    return None

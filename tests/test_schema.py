"""The schema for editors accepts what the library accepts, and explains every setting."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from movieplotgpt.cli import main
from movieplotgpt.schema import toml_schema
from movieplotgpt.study.grid import StudySettings
from movieplotgpt.training.run import RunConfig

CONFIGS = Path(__file__).parent.parent / "configs"
RUNS, STUDIES = sorted(CONFIGS.glob("*.toml")), sorted((CONFIGS / "studies").glob("*.toml"))


def mistakes(schema: dict[str, Any], values: Any) -> list[str]:
    return [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(values)]


@pytest.mark.parametrize("path", RUNS + STUDIES, ids=lambda path: path.stem)
def test_schema_accepts_the_configs(path: Path) -> None:
    schema = toml_schema(StudySettings if path in STUDIES else RunConfig)
    assert mistakes(schema, tomllib.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"minuts": 3}},
        {"model": {"size": "huge"}},
        {"schedule": {"decay": 2}},
        {"tokenizer": {"kind": "word"}},
        {"extends": 3},
    ],
)
def test_schema_refuses_what_the_library_refuses(values: dict[str, Any]) -> None:
    assert mistakes(toml_schema(RunConfig), values)


def test_schema_accepts_a_section_that_changes_one_setting() -> None:
    values = {"extends": "plots-bpe.toml", "optimizer": {"momentum": 0.9}, "corpus": {"encoding": "cp1252"}}
    assert mistakes(toml_schema(RunConfig), values) == []


@pytest.mark.parametrize("cls", [RunConfig, StudySettings])
def test_every_setting_has_a_description(cls: type[RunConfig | StudySettings]) -> None:
    schema = toml_schema(cls)
    assert [name for name, node in settings(schema) if not node.get("description") and "$ref" not in node] == []


def settings(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema["properties"].items()
    for name, member in schema["$defs"].items():
        for key, node in member.get("properties", {}).items():
            if key != "kind":
                yield f"{name}.{key}", node


def test_command_prints_both_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == toml_schema(RunConfig)
    assert main(["schema", "--study"]) == 0
    assert json.loads(capsys.readouterr().out) == toml_schema(StudySettings)

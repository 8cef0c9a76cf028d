"""configs/published/ has the settings that each published model records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.config import read_settings
from movieplotgpt.sharing.published import read_manifest
from movieplotgpt.training.run import RunConfig

REPOSITORY = Path(__file__).parent.parent
WEIGHTS = REPOSITORY / "weights"
SIZE = {"n_layer", "n_embd", "n_head", "n_kv_head", "head_dim", "n_ff", "rope_theta", "tie_embeddings"}  # by model.size
BEFORE = {"windows.separate": False, "training.previous_token_head": False}  # what trainings did that do not record it


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}": value}
    return found


@pytest.mark.parametrize("name", read_manifest(WEIGHTS).models)
def test_published_toml_builds_the_recorded_settings(name: str) -> None:
    """Compared is every setting that the model records of its last training.

    Left out are the network's dimensions, which follow from ``model.size``, the teachers' folders, and [sampling], which
    may be changed after the training.
    """
    record = json.loads((WEIGHTS / name / "movieplotgpt.json").read_text(encoding="utf-8"))
    recorded = {**BEFORE, **leaves(record["settings"])}
    built = leaves(
        read_settings(RunConfig, REPOSITORY / "configs" / "published" / f"{name}.toml").model_dump(mode="json")
    )
    left_out = {"distillation.teachers", *(f"model.{dimension}" for dimension in SIZE)}
    compared = {key for key in recorded if key not in left_out and not key.startswith("sampling.")}
    assert {key: built.get(key) for key in compared} == {key: recorded[key] for key in compared}
    assert bool(record.get("trained_before")) == (REPOSITORY / "configs" / "published" / f"{name}-1.toml").exists()

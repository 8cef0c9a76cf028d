"""The settings files that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from movieplotgpt.config import read_settings
from movieplotgpt.study.grid import Study
from movieplotgpt.training.run import RunConfig

STUDIES = sorted((Path(__file__).parent.parent / "configs" / "studies").glob("*.toml"))
CONFIGS = sorted({*(Path(__file__).parent.parent / "configs").rglob("*.toml")} - {*STUDIES})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_settings_file_describes_a_run(path: Path) -> None:
    config = read_settings(RunConfig, path)
    assert config.format.end == "END_OF_PLOT"
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config  # as it travels in a checkpoint


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_a_grid_of_runs(path: Path, tmp_path: Path) -> None:
    assert len(Study.read(path, tmp_path).cells) > 3


def test_only_settings_a_model_may_have_a_default_for_are_taken() -> None:
    values = read_settings(RunConfig, CONFIGS[0]).model_dump(mode="json")
    with pytest.raises(ValueError, match="temperature"):
        RunConfig.model_validate({**values, "sampling": {"temperature": 0.8}})

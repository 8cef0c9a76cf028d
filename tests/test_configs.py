"""The settings files that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from movieplotgpt.config import read_settings
from movieplotgpt.training.run import RunConfig

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_settings_file_describes_a_run(path: Path) -> None:
    config = read_settings(RunConfig, path)
    assert config.format.end == "END_OF_PLOT"
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config  # as it travels in a checkpoint

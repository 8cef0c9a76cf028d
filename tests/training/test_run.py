"""RunConfig is the whole TOML; a run folder has its places."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.config import build_settings, read_settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.training.optimizers import AdamWSettings, MuonSettings
from movieplotgpt.training.run import RunConfig, RunFolder, TrainingSettings, run_name

LENGTHS: dict[str, Any] = {"minutes": 5, "steps": 100, "epochs": 2.5}
TOML = '[corpus]\nkind = "table"\ntext = "Plot"\n'


def test_the_least_a_run_says_is_its_corpus(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML, encoding="utf-8")
    config = read_settings(RunConfig, tmp_path / "run.toml")
    assert (config.model.size, config.optimizer) == ("base", MuonSettings())
    with pytest.raises(ConfigError, match="setting corpus is missing"):
        build_settings(RunConfig, {"training": {"steps": 1}})


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("my.book.v1.txt", "my.book.v1"),
        ("my.book.v2", "my.book.v2"),
        ("configs/plots-bpe.toml", "plots-bpe"),
        ("films.CSV.gz", "films"),
        ("letters.tar.gz", "letters"),
        (".hidden.txt", "hidden"),
        (".txt", "txt"),
        ("..txt", "txt"),
        ("/dev/stdin", "stdin"),
        ("/", "text"),
        (".", "folder.txt"),
        ("..", "top"),
        ("../folder.txt", "folder.txt"),
    ],
)
def test_a_run_is_named_after_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str
) -> None:
    folder = tmp_path / "top" / "folder.txt"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert run_name(Path(source)) == name


def test_sections_reach_their_settings(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML, encoding="utf-8")
    overrides = ["optimizer.kind=adamw", "windows.no_title=0.2", "schedule.decay=0.3", "training.patience=none"]
    config = read_settings(RunConfig, tmp_path / "run.toml", overrides)
    assert config.optimizer == AdamWSettings()
    assert (config.windows.no_title, config.schedule.decay, config.training.patience) == (0.2, 0.3, None)


def test_settings_come_back_from_the_json_of_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML, encoding="utf-8")
    config = read_settings(RunConfig, tmp_path / "run.toml", ["optimizer.kind=adamw", "training.steps=7"])
    assert build_settings(RunConfig, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(LENGTHS, 2)))
def test_two_lengths_are_a_contradiction(first: str, second: str) -> None:
    values = {"corpus": {"kind": "table", "text": "Plot"}, "training": {key: LENGTHS[key] for key in (first, second)}}
    with pytest.raises(ConfigError, match=f"give one of minutes, steps and epochs, not {first} and {second}$"):
        build_settings(RunConfig, values)


@pytest.mark.parametrize("length", LENGTHS)
def test_one_length_is_enough_and_none_is_said_later(length: str) -> None:
    assert getattr(TrainingSettings(**{length: LENGTHS[length]}), length) == LENGTHS[length]
    assert TrainingSettings().minutes is TrainingSettings().steps is TrainingSettings().epochs is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("steps", 0), ("minutes", 0), ("dropout", 1.0), ("tokens_per_step", 8), ("evaluations", 0), ("device", "tpu")],
)
def test_a_value_out_of_range_is_named(key: str, value: Any) -> None:
    values = {"corpus": {"kind": "plain"}, "training": {key: value}}
    with pytest.raises(ConfigError, match=rf"setting training\.{key}: .*not "):
        build_settings(RunConfig, values)


def test_a_run_folder_has_its_places() -> None:
    folder = RunFolder(Path("runs") / "films")
    places = (folder.last, folder.best, folder.metrics, folder.samples, folder.figure)
    names = ("last", "best", "metrics.jsonl", "samples.md", "loss.svg")
    assert places == tuple(Path("runs") / "films" / name for name in names)

"""What a run is resumed with, compared with what it began with: nothing is ignored in silence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from movieplotgpt import atomic
from movieplotgpt.config import build_settings, override, read_toml
from movieplotgpt.errors import ConfigError, TrainingError
from movieplotgpt.recipe.reading import Reading
from movieplotgpt.recipe.settings import Report, is_settings_file
from movieplotgpt.text.prepare import is_text_of
from movieplotgpt.training.resuming import read_settings
from movieplotgpt.training.run import RunConfig, RunFolder

_OF_THE_MACHINE = ("training.precision=", "training.device=")  # what may change when a run is resumed
_RESUME_OR_START = "resume the run, or train in another folder, perhaps from the weights of this one"


def remember_config(config: Path, folder: RunFolder) -> None:
    """Keep the settings file of a new run, to compare it when the run is resumed.

    Raises:
        ConfigError: the TOML cannot be read.
        StorageError: the disk refuses.
    """
    if is_settings_file(config):
        atomic.write_text(folder.begun, json.dumps(read_toml(config), indent=2, default=str) + "\n")


def kept_settings(
    config: Path, changes: Sequence[str], reading: Reading, folder: RunFolder, report: Report
) -> RunConfig:
    """Return the settings a run began with; another setting would make it another run.

    Only precision and device may be changed, by changes that name them.

    Raises:
        CheckpointError: there is nothing to resume from, or it is damaged.
        ConfigError: the settings file or a change differs from what the run began with.
    """
    kept = read_settings(folder.last)
    settings = build_settings(RunConfig, kept, where=str(folder.last))
    if is_settings_file(config):
        _compare_config(config, folder, kept, report)
    for text in (*reading.all_overrides, *changes):
        changed = build_settings(RunConfig, override(kept, [text]), where=text)
        if text.replace(" ", "").startswith(_OF_THE_MACHINE):
            kept, settings = override(kept, [text]), changed
        elif changed != settings:
            raise ConfigError(
                f"{text} is not what the run in {folder.path} began with; leave it out to {_RESUME_OR_START}"
            )
    return settings


def refuse_other_text(source: Path, folder: RunFolder, report: Report) -> None:
    """Refuse to resume with another text than the run's; one that was deleted in the meantime is not needed.

    Raises:
        TrainingError: it is another text.
    """
    if not source.exists():
        report(f"{source} no longer exists; the text prepared in {folder.path} is used")
    elif not is_text_of(source, folder.path / "data"):
        raise TrainingError(
            f"{source} is not the text that the run in {folder.path} began with; name that text to {_RESUME_OR_START}"
        )


def _compare_config(config: Path, folder: RunFolder, kept: dict[str, Any], report: Report) -> None:
    """Refuse a TOML that was changed. A run of an older version keeps no copy: report how its settings differ."""
    if not config.exists():
        report(f"{config} no longer exists; the settings of the run in {folder.path} are used")
        return
    now, begun = _leaves(json.loads(json.dumps(read_toml(config), default=str))), _begun(folder)
    if begun is not None:
        then = _leaves(begun)
        if changed := [key for key in {**then, **now} if then.get(key) != now.get(key)]:
            raise ConfigError(
                f"{config} is not what the run in {folder.path} began with: {_differs(changed[0], then, now)}"
                f"{f', and {len(changed) - 1} more' if changed[1:] else ''}; undo that to {_RESUME_OR_START}"
            )
        return
    then = _leaves(kept)
    for key in (key for key in now if then.get(key) != now[key]):
        report(f"{config} is not what is trained: {_differs(key, then, now)}; the run's setting is used")


def _begun(folder: RunFolder) -> dict[str, Any] | None:
    """Return the contents of the TOML when the run began; None if the run keeps no copy."""
    try:
        begun = json.loads(folder.begun.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{folder.begun} is damaged ({error}); delete it to resume without comparing") from None
    if not isinstance(begun, dict):
        raise ConfigError(f"{folder.begun} is damaged (not a JSON object); delete it to resume without comparing")
    return begun


def _leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def _differs(key: str, then: dict[str, Any], now: dict[str, Any]) -> str:
    was, is_now = (json.dumps(values[key]) if key in values else "not set" for values in (then, now))
    return f"{key} was {was} and is {is_now}"

"""What ``train --resume`` is given, compared with what the run began with: nothing is ignored in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from movieplotgpt.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from rich.console import Console

    from movieplotgpt.cli.reading import TextFlags
    from movieplotgpt.training.run import RunConfig, RunFolder

_OF_THE_MACHINE = ("training.precision=", "training.device=")  # what may be another when a run is resumed


def remember_config(config: Path, folder: RunFolder) -> None:
    """Keep the settings file of a new run, to compare it when the run is resumed.

    Raises:
        ConfigError: the TOML cannot be read.
        StorageError: the disk refuses.
    """
    from movieplotgpt import atomic
    from movieplotgpt.config import read_toml

    if config.suffix == ".toml":
        atomic.write_text(folder.begun, json.dumps(read_toml(config), indent=2, default=str) + "\n")


def kept_settings(
    config: Path, overrides: tuple[str, ...], reading: TextFlags, folder: RunFolder, console: Console
) -> RunConfig:
    """The settings a run began with; another setting would make it another run.

    Precision and device alone may be changed, by overrides that name them.

    Raises:
        CheckpointError: there is nothing to resume from, or it is damaged.
        ConfigError: the settings file, an override or a flag differs from what the run began with.
    """
    from movieplotgpt.config import build_settings, override
    from movieplotgpt.training.quickstart import column_overrides
    from movieplotgpt.training.resuming import read_settings
    from movieplotgpt.training.run import RunConfig

    kept = read_settings(folder.last)
    settings = build_settings(RunConfig, kept, where=str(folder.last))
    if config.suffix == ".toml":
        _compare_config(config, folder, kept, console)
    for text in (*reading.overrides, *column_overrides(reading.title_column, reading.text_column), *overrides):
        changed = build_settings(RunConfig, override(kept, [text]), where=text)
        if text.replace(" ", "").startswith(_OF_THE_MACHINE):
            kept, settings = override(kept, [text]), changed
        elif changed != settings:
            raise ConfigError(
                f"{text} is not what the run in {folder.path} began with; leave it out to {_or_anew(folder)}"
            )
    return settings


def refuse_other_text(source: Path, folder: RunFolder, console: Console) -> None:
    """Refuse to resume with another text than the run's; one that was deleted in the meantime is not needed.

    Raises:
        TrainingError: it is another text.
    """
    from movieplotgpt.text.prepare import is_text_of

    if not source.exists():
        console.print(f"{source} is gone; the text as prepared in {folder.path} is used", markup=False, highlight=False)
    elif not is_text_of(source, folder.path / "data"):
        raise TrainingError(
            f"{source} is not the text that the run in {folder.path} began with; name that text to {_or_anew(folder)}"
        )


def _or_anew(folder: RunFolder) -> str:
    return f"--resume, or begin another run with --out (its weights: --from {folder.path})"


def _compare_config(config: Path, folder: RunFolder, kept: dict[str, Any], console: Console) -> None:
    """Refuse a TOML that was changed; where what it said is not kept, report in what it differs from the settings."""
    from movieplotgpt.config import read_toml

    if not config.exists():
        console.print(
            f"{config} is gone; the settings of the run in {folder.path} are used", markup=False, highlight=False
        )
        return
    now, begun = _leaves(json.loads(json.dumps(read_toml(config), default=str))), _begun(folder)
    if begun is not None:
        then = _leaves(begun)
        if changed := [key for key in {**then, **now} if then.get(key) != now.get(key)]:
            raise ConfigError(
                f"{config} is not what the run in {folder.path} began with: {_differs(changed[0], then, now)}"
                f"{f', and {len(changed) - 1} more' if changed[1:] else ''}; undo that to {_or_anew(folder)}"
            )
        return
    then = _leaves(kept)
    for key in (key for key in now if then.get(key) != now[key]):
        console.print(
            f"{config} is not what is trained: {_differs(key, then, now)}; the run's setting is used",
            markup=False,
            highlight=False,
        )


def _begun(folder: RunFolder) -> dict[str, Any] | None:
    """What the TOML said when the run began; None for a run that keeps nothing of it."""
    try:
        begun = json.loads(folder.begun.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{folder.begun} is damaged ({error}); delete it to resume without comparing") from None
    if not isinstance(begun, dict):
        raise ConfigError(f"{folder.begun} is damaged (no JSON object); delete it to resume without comparing")
    return begun


def _leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def _differs(key: str, then: dict[str, Any], now: dict[str, Any]) -> str:
    was, is_now = (json.dumps(values[key]) if key in values else "not set" for values in (then, now))
    return f"{key} was {was} and is {is_now}"

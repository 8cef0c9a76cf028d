"""What `train` and `plan` are told: a TOML with overrides, or a text that settings are chosen for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from movieplotgpt.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from movieplotgpt.cli.reading import TextFlags
    from movieplotgpt.model.checkpoints import Checkpoint
    from movieplotgpt.training.run import RunConfig


def refuse_contradictions(config: Path, source: Path | None, data: Path | None, column: str | None) -> None:
    """Nothing that was asked for is left out in silence, and no prepared folder is written over."""
    if config.suffix == ".toml":
        if source and data:
            raise ConfigError("--source and --data exclude each other: a corpus to prepare, or one that is prepared")
        if column:
            raise ConfigError(f"--title-column and --text-column are for a table; {config} names the columns itself")
    elif source or data:
        raise ConfigError(
            f"{config} is the text to train on; leave --source and --data out, or name a TOML before them"
        )


def choose_settings(
    config: Path,
    overrides: tuple[str, ...],
    lengths: dict[str, float | None],
    flags: TextFlags,
    console: Console,
) -> RunConfig:
    """Settings of a TOML, or for a text or table, every choice said; a length that is given takes the place of another.

    Raises:
        ConfigError: a table without the name of its text column, or an override that does not fit.
    """
    from movieplotgpt.config import build_settings, override, read_settings
    from movieplotgpt.training.quickstart import suggest
    from movieplotgpt.training.run import RunConfig

    overrides = (*flags.overrides, *overrides)
    if config.suffix == ".toml":
        known = tuple(f"training.{name}=" for name in ("minutes", "steps", "epochs"))
        cleared = [f"{name}none" for name in known] if any(text.startswith(known) for text in overrides) else []
        return read_settings(RunConfig, config, (*cleared, *overrides))
    suggestion = suggest(
        config,
        minutes=lengths["minutes"] or 5,
        title_column=flags.title_column,
        text_column=flags.text_column,
        overrides=overrides,
    )
    for reason in suggestion.reasons:
        console.print(reason, markup=False, highlight=False)
    values = suggestion.config.model_dump(mode="json", exclude_unset=True)
    if any(value is not None for value in lengths.values()):
        del values["training"]["minutes"]
    return build_settings(RunConfig, override(values, overrides))


def prepare_once(
    settings: RunConfig, source: Path, data: Path, start_from: Checkpoint | None, console: Console
) -> None:
    """Prepare ``source`` into ``data`` unless it is there already, made from the same text with the same settings."""
    from movieplotgpt.cli.progress import stage_bars
    from movieplotgpt.text.prepare import is_prepared, prepare

    if start_from is None and is_prepared(settings, source, data):
        return
    console.print(f"preparing {source} into {data}", markup=False, highlight=False)
    with stage_bars() as progress:
        report = prepare(settings, source, data, progress, tokenizer=start_from.tokenizer if start_from else None)
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False)

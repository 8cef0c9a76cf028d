"""The settings of a training: those of a TOML with changes, or chosen for a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from movieplotgpt.config import build_settings, override, read_settings
from movieplotgpt.errors import ConfigError
from movieplotgpt.progress_bars import stage_bars
from movieplotgpt.recipe.reading import Reading
from movieplotgpt.text.prepare import PrepareReport, PrepareSettings, is_prepared, prepare
from movieplotgpt.training.quickstart import suggest
from movieplotgpt.training.run import RunConfig

if TYPE_CHECKING:
    from movieplotgpt.model.checkpoints import Checkpoint

Changes: TypeAlias = Mapping[str, Any] | Sequence[str]
Report: TypeAlias = Callable[[str], object]
LENGTHS = ("minutes", "steps", "epochs")


def as_overrides(changes: Changes) -> tuple[str, ...]:
    """Return changes of settings as ``section.key=value``, given as such or as a mapping of dotted names."""
    if isinstance(changes, Mapping):
        return tuple(
            f"{name}={'none' if value is None else json.dumps(value, default=str)}" for name, value in changes.items()
        )
    return tuple(changes)


def is_settings_file(path: Path) -> bool:
    """Return whether ``path`` names settings rather than a text."""
    return path.suffix == ".toml"


def refuse_contradictions(config: Path, source: Path | None, data: Path | None, reading: Reading) -> None:
    """Check that what is trained on is named once.

    Raises:
        ConfigError: two of the arguments contradict each other.
    """
    if not is_settings_file(config):
        if source:
            raise ConfigError(
                f"{config} is the text to train on; leave source={source} out, or name a TOML instead of the text"
            )
        return
    if source and data:
        raise ConfigError(
            f"source={source} and data={data} exclude each other: a corpus to prepare, or one that is prepared"
        )
    if reading.title_column or reading.text_column:
        given = (
            f"text_column={reading.text_column!r}" if reading.text_column else f"title_column={reading.title_column!r}"
        )
        raise ConfigError(f"{given} is for a table; {config} names the columns itself")


def choose_settings(
    config: Path, changes: Sequence[str], lengths: Mapping[str, float | None], reading: Reading, report: Report
) -> RunConfig:
    """Return the settings of a TOML, or those chosen for a text or table, and report the reason for each choice.

    Args:
        config: A TOML, a text or a table.
        changes: ``section.key=value``. A length among them replaces the TOML's.
        lengths: Minutes, steps and epochs, as far as they are given; they are among the changes as well.
        reading: How the text or table is read.
        report: Called with each reason.

    Raises:
        ConfigError: a table without the name of its text column, or a change that does not fit.
    """
    changes = (*reading.overrides, *changes)
    if is_settings_file(config):
        known = tuple(f"training.{name}=" for name in LENGTHS)
        cleared = [f"{name}none" for name in known] if any(text.startswith(known) for text in changes) else []
        return read_settings(RunConfig, config, (*cleared, *changes))
    suggestion = suggest(
        config,
        minutes=lengths["minutes"] or 5,
        title_column=reading.title_column,
        text_column=reading.text_column,
        overrides=changes,
    )
    for reason in suggestion.reasons:
        report(reason)
    values = suggestion.config.model_dump(mode="json", exclude_unset=True)
    if any(value is not None for value in lengths.values()):
        del values["training"]["minutes"]
    return build_settings(RunConfig, override(values, changes))


def prepare_with_bars(
    settings: PrepareSettings,
    source: Path,
    out: Path,
    report: Report,
    *,
    progress: bool,
    start_from: Checkpoint | None = None,
) -> PrepareReport:
    """Prepare ``source`` into the folder ``out``, with a bar for each stage if ``progress``; report its warnings.

    The tokenizer of ``start_from``, a model to fine-tune, is kept.
    """
    tokenizer = start_from.tokenizer if start_from else None
    if progress:
        with stage_bars() as bars:
            made = prepare(settings, source, out, bars, tokenizer=tokenizer)
    else:
        made = prepare(settings, source, out, tokenizer=tokenizer)
    for warning in made.warnings:
        report(f"warning: {warning}")
    return made


def prepare_once(
    settings: PrepareSettings,
    text: Path | None,
    data: Path | None,
    own: Path,
    report: Report,
    *,
    progress: bool,
    start_from: Checkpoint | None = None,
) -> Path:
    """Return the folder of the corpus to train on: ``data``, or ``own``, into which the text is prepared if it was not already.

    Raises:
        ConfigError: neither a text nor a folder is named, or ``data`` does not hold the text with these settings.
    """
    if text and data and not is_prepared(settings, text, data):
        raise ConfigError(
            f"{data} does not hold {text} prepared with these settings; prepare it again, or leave data={data} out"
        )
    if data:
        return data
    if not text and not own.exists():
        raise ConfigError(
            "nothing to train on is named; name a text with source=FILE, or a prepared folder with data=FOLDER"
        )
    if text and (start_from is not None or not is_prepared(settings, text, own)):
        report(f"preparing {text} into {own}")
        prepare_with_bars(settings, text, own, report, progress=progress, start_from=start_from)
    return own

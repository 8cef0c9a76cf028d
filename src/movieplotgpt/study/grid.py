"""A study: sizes x tokenizers x seeds at an equal budget, each run a process with a folder of its own.

<out>/data/<tokenizer>/         the corpus, prepared once for each tokenizer
<out>/runs/<cell>/              a run; its best checkpoint stays
<out>/evaluations/<cell>.json   what `evaluate` found: a cell that has one is done
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from movieplotgpt.config import Settings, build_settings, override, read_toml
from movieplotgpt.errors import ConfigError
from movieplotgpt.model.sizes import SizeName
from movieplotgpt.text.prepare import PrepareSettings, changed_settings, is_prepared, prepare
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import read_manifest
from movieplotgpt.training.run import RunConfig, RunFolder

BUDGETS = ("flops", "epochs", "minutes")
_LENGTHS = ("minutes", "steps", "epochs")
_OWN = {"model.size", "training.seed", *(f"training.{name}" for name in _LENGTHS)}
Amount = Annotated[float, Field(gt=0)]
_TOKENIZER = re.compile(r"char|byte|bpe-[1-9][0-9]*")


class Grid(Settings):
    """Every size with every tokenizer, budget and seed, and with every value of each setting that varies."""

    sizes: tuple[SizeName, ...] = Field(min_length=1, description="Named sizes of the network.")
    tokenizers: tuple[str, ...] = Field(min_length=1, description="char, byte, or bpe and its vocabulary: bpe-4096.")
    seeds: tuple[int, ...] = Field((1,), min_length=1, description="A run for each seed.")
    flops: tuple[Amount, ...] = Field((), description="Floating-point operations of each training.")
    epochs: tuple[Amount, ...] = Field((), description="Passes over the text, of each training.")
    minutes: tuple[Amount, ...] = Field((), description="Minutes of each training.")
    vary: dict[str, tuple[str | bool | float, ...]] = Field(
        {}, description="Other settings to try: section.key = [values]."
    )

    @property
    def changes(self) -> list[tuple[str, ...]]:
        """Each way to set what varies, as section.key=value."""
        axes = ([f"{key}={_toml(value)}" for value in values] for key, values in self.vary.items())
        return list(itertools.product(*axes))

    @field_validator("vary")
    @classmethod
    def _varied(cls, vary: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in vary.items():
            if key in _OWN or key.partition(".")[0] in PrepareSettings.model_fields:
                raise ValueError(
                    f"{key} is not varied: sizes, tokenizers, seeds and lengths have their own lists, and the text is one"
                )
            if not values:
                raise ValueError(f"{key} varies over no value")
        return vary

    @field_validator("tokenizers")
    @classmethod
    def _known(cls, tokenizers: tuple[str, ...]) -> tuple[str, ...]:
        for name in tokenizers:
            if not _TOKENIZER.fullmatch(name):
                raise ValueError(f"a tokenizer is char, byte, or bpe and its vocabulary as in bpe-4096, not {name!r}")
        return tokenizers

    @model_validator(mode="after")
    def _one_budget(self) -> Grid:
        given = [name for name in BUDGETS if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"a grid has one of flops, epochs and minutes, not {' and '.join(given) or 'none'}")
        return self

    @property
    def budget(self) -> str:
        """What is equal for the runs: the name of a setting."""
        return next(name for name in BUDGETS if getattr(self, name))


class StudySettings(Settings):
    """A study's TOML: what the runs share, and grids of what they differ in."""

    config: str = Field(description="The settings all runs share: a TOML, beside this one or by its path from it.")
    set: tuple[str, ...] = Field((), description="Settings to change for all, as section.key=value.")
    split: Split = Field("validation", description="The documents that are scored, and so chosen by.")
    memorisation: bool = Field(False, description="Also ask what each model has learnt by heart.")
    text: str | None = Field(None, description="The SHA-256 of the text a suggested study is of.")
    minutes: float | None = Field(None, description="What a suggested study was to take in all.")
    grid: tuple[Grid, ...] = Field(min_length=1, description="Grids of runs, one after the other.")

    @field_validator("set")
    @classmethod
    def _no_length(cls, changes: tuple[str, ...]) -> tuple[str, ...]:
        for change in changes:
            if change.partition("=")[0].strip() in {f"training.{name}" for name in _LENGTHS}:
                raise ValueError(f"a study says how long in its grids, not by {change!r}")
        return changes


def _toml(value: str | bool | float) -> str:
    """As an override of the command line writes it."""
    return exact(value) if isinstance(value, float) else json.dumps(value)


def exact(amount: float) -> str:
    """An amount in few digits, but all that tell it from another."""
    return f"{amount:g}" if float(f"{amount:g}") == amount else repr(amount)


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    size: SizeName
    tokenizer: str
    budget: str  # one of BUDGETS
    amount: float
    seed: int
    changes: tuple[str, ...] = ()  # settings as section.key=value

    @property
    def name(self) -> str:
        """What its files are called."""
        plain = f"{self.size}-{self.tokenizer}-{exact(self.amount)}-{self.budget}-{self.seed}"
        return "-".join([plain, *(re.sub(r"[^\w.=+-]", "", change) for change in self.changes)])

    @property
    def tokenizer_settings(self) -> dict[str, Any]:
        """The [tokenizer] section."""
        kind, _, vocabulary = self.tokenizer.partition("-")
        return {"kind": kind, **({"vocab_size": int(vocabulary)} if vocabulary else {})}


@dataclass(frozen=True)
class Study:
    """A study's settings, and the folder it works in."""

    settings: StudySettings
    config: Path
    values: dict[str, Any]  # of the shared TOML
    out: Path

    @classmethod
    def read(cls, path: Path, out: Path) -> Study:
        """Read a study's TOML and the one it names.

        Raises:
            ConfigError: one is missing, or a key or value does not fit.
        """
        settings = build_settings(StudySettings, read_toml(path), where=str(path))
        config = path.parent / settings.config
        study = cls(settings, config, override(read_toml(config), list(settings.set)), out)
        for cell in study.cells:
            study.run_config(cell)
        return study

    @property
    def cells(self) -> list[Cell]:
        """The runs, each once, small ones first."""
        cells = {
            Cell(size, tokenizer, grid.budget, amount, seed, changes): None
            for grid in self.settings.grid
            for amount in getattr(grid, grid.budget)
            for size in grid.sizes
            for tokenizer in grid.tokenizers
            for seed in grid.seeds
            for changes in grid.changes
        }
        return sorted(cells, key=lambda cell: (cell.budget, cell.amount))

    def run_config(self, cell: Cell) -> RunConfig:
        """The whole settings of a run, but for how long it is.

        Raises:
            ConfigError: the shared settings do not fit.
        """
        values = {**self.values, "tokenizer": cell.tokenizer_settings}
        training = {key: value for key, value in values.get("training", {}).items() if key not in _LENGTHS}
        values["training"] = {**training, "seed": cell.seed}
        values["model"] = {**values.get("model", {}), "size": cell.size}
        values = override(values, cell.changes)
        return build_settings(RunConfig, values, where=f"{self.config}, as {cell.name}")

    def key(self, cell: Cell) -> str:
        """Return the name of the cell's files; another text or setting is another run."""
        corpus = read_manifest(self.data(cell)).corpus_hash
        asked = self.run_config(cell).model_dump(mode="json")
        known = [asked, self.settings.split, self.settings.memorisation, corpus]
        return f"{cell.name}-{hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]}"

    def data(self, cell: Cell) -> Path:
        """The corpus prepared for the cell."""
        return self.out / "data" / cell.tokenizer

    def run(self, cell: Cell) -> RunFolder:
        """The cell's run."""
        return RunFolder(self.out / "runs" / self.key(cell))

    def evaluation(self, cell: Cell) -> Path:
        """Return the file of the cell's evaluation."""
        return self.out / "evaluations" / f"{self.key(cell)}.json"

    def prepare(self, source: Path | None, progress: Callable[[str, int, int], None] | None = None) -> None:
        """Prepare the corpus for each tokenizer, where that was not done.

        Raises:
            ConfigError: it was not done and no ``source`` is given.
            DataError, StorageError: as ``prepare``.
        """
        for cell in {cell.tokenizer: cell for cell in self.cells}.values():
            config, folder = self.run_config(cell), self.data(cell)
            if source is None:
                if not folder.exists():
                    raise ConfigError(f"{folder} does not exist; give the text with source=FILE, and it is prepared")
                if changed := changed_settings(config, folder):
                    raise ConfigError(
                        f"{folder} was prepared with another {', '.join(changed)}; give the text with source=FILE, and it is "
                        f"prepared anew"
                    )
            elif not is_prepared(config, source, folder):
                prepare(config, source, folder, progress)

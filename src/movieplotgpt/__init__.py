"""MoviePlotGPT: type a movie title, read a plot.

The public names, each imported when it is first used, so that ``import movieplotgpt`` costs nothing::

    from movieplotgpt import PlotGenerator

    plot = PlotGenerator.load("plots-large").plot("Mars, Texas")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from movieplotgpt.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DownloadError,
    MissingExtraError,
    MoviePlotGPTError,
    PromptError,
    StorageError,
    TrainingError,
)

if TYPE_CHECKING:
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.generation.settings import SamplingConfig
    from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint

__version__ = "0.1.0"

__all__ = [
    "PlotGenerator",
    "SamplingConfig",
    "Checkpoint",
    "load_checkpoint",
    "MoviePlotGPTError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DownloadError",
    "MissingExtraError",
    "PromptError",
    "StorageError",
    "TrainingError",
    "__version__",
]

_HOMES = {
    "PlotGenerator": "movieplotgpt.generation.generator",
    "SamplingConfig": "movieplotgpt.generation.settings",
    "Checkpoint": "movieplotgpt.model.checkpoints",
    "load_checkpoint": "movieplotgpt.model.checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

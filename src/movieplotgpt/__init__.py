"""Small GPTs trained from scratch on text you love.

The public names, each imported when it is first used, so that ``import movieplotgpt`` costs nothing::

    import movieplotgpt as mp

    plot = mp.PlotGenerator.load("plots-large").plot("Mars, Texas")
    run = mp.train("films.csv", title_column="Title", text_column="Plot", minutes=5)
    evaluation = mp.evaluate(run.folder, data=run.folder / "data")
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
    from movieplotgpt.evaluation.measuring import evaluate
    from movieplotgpt.generation.generator import PlotGenerator
    from movieplotgpt.generation.settings import SamplingConfig
    from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint
    from movieplotgpt.recipe.training import prepare, train

__version__ = "0.2.0"

__all__ = [
    "prepare",
    "train",
    "evaluate",
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
    "prepare": "movieplotgpt.recipe.training",
    "train": "movieplotgpt.recipe.training",
    "evaluate": "movieplotgpt.evaluation.measuring",
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

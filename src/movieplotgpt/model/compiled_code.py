"""The user's cache folder; compiled code is kept there between runs, and so are downloaded models."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Where one kind of things is kept; it may not be there yet.

    Raises:
        OSError: no home folder is known.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "no home folder is known; name a folder in XDG_CACHE_HOME") from None
    return cache / "movieplotgpt" / kind


def compiled_code_folder() -> Path:
    """The folder, made if it is missing.

    Raises:
        OSError: it cannot be made.
    """
    folder = cache_folder("compiled")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compiler_found() -> bool:
    """Whether a C++ compiler is here, which ``torch.compile`` needs on a CPU."""
    return any(map(shutil.which, ("g++", "clang++", "c++")))

"""Where compiled code is kept between runs: the user's cache folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def compiled_code_folder() -> Path:
    """The folder, made if it is missing.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "movieplotgpt" / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compiler_found() -> bool:
    """Whether a C++ compiler is here, which ``torch.compile`` needs on a CPU."""
    return any(map(shutil.which, ("g++", "clang++", "c++")))

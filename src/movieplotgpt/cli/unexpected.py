"""An error that nobody foresaw: one sentence on the screen, everything else in a log file."""

from __future__ import annotations

import os
import platform
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from movieplotgpt import __version__
from movieplotgpt.engine.places import state_folder

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
KEPT = 20  # logs; older ones are deleted
LONGEST_MESSAGE = 200  # characters


def report(error: BaseException, arguments: list[str]) -> str:
    """Write the traceback to a log file, and return the sentence to show."""
    kind = type(error).__name__
    message = " ".join(str(error).split())
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}..."
    what = f"unexpected error ({kind}: {message})" if message else f"unexpected error ({kind})"
    log = _write_log(error, arguments)
    return f"{what}; " + (f"please report it with the log {log}" if log else "no log of it could be written")


def _write_log(error: BaseException, arguments: list[str]) -> Path | None:
    text = "\n".join(
        [
            f"movieplotgpt {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {arguments}",
            f"time: {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
            "",
            *traceback.format_exception(error),
        ]
    )
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for place in (_folder, lambda: Path(tempfile.mkdtemp(prefix="movieplotgpt-"))):
        with suppress(OSError):
            folder = place()
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            _delete_old(folder)
            return path
    return None


def _folder() -> Path:
    return state_folder() / "errors"


def _delete_old(folder: Path) -> None:
    for path in sorted(folder.glob("*.log"))[:-KEPT]:
        with suppress(OSError):
            path.unlink()

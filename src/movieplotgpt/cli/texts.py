"""A text from a file or from stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from movieplotgpt.errors import PromptError


def read_text(file: str) -> str:
    """Return the text of a file, or of stdin for ``-``.

    Raises:
        PromptError: it cannot be read, or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise PromptError(
            f"the prompt {file} cannot be read: {error.strerror}; name a text file, or - for stdin"
        ) from None
    except UnicodeDecodeError as error:
        raise PromptError(f"the prompt {file} is not UTF-8 text (byte {error.start:,}); save it as UTF-8") from None

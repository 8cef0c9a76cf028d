"""``movieplotgpt completion``: commands and options completed by the Tab key."""

from __future__ import annotations

from typing import Literal

Shell = Literal["bash", "zsh", "fish", "powershell"]


def completion(shell: Shell) -> None:
    """Print a completion script for your shell.

    Args:
        shell: The shell that reads the script.
    """
    from movieplotgpt.cli import app

    print(app.generate_completion(shell=shell))

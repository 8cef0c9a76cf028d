"""A training or an evaluation in a process of its own: ``python -P -m movieplotgpt.recipe.process '["train", {...}]'``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Literal

from movieplotgpt.errors import MoviePlotGPTError
from movieplotgpt.signals import stop_on_signal

INTERRUPTED = 130


def command(call: Literal["train", "evaluate"], arguments: Mapping[str, Any]) -> list[str]:
    """Return the command that calls ``movieplotgpt.train`` or ``movieplotgpt.evaluate`` with ``arguments``.

    It exits with 0, with 1 after an error, which is the last line on stderr, or with 130 if a training was stopped and saved. Paths
    become strings. No module of the working folder is imported (-P).
    """
    return [sys.executable, "-P", "-m", "movieplotgpt.recipe.process", json.dumps([call, arguments], default=str)]


def main(asked: str) -> int:
    """Make the call that ``asked`` describes, and return the exit code."""
    from movieplotgpt.evaluation.measuring import evaluate
    from movieplotgpt.recipe.training import train

    call, arguments = json.loads(asked)
    try:
        if call == "evaluate":
            evaluate(**arguments)
            return 0
        stop = stop_on_signal("stopping after this step, then saving")
        return INTERRUPTED if train(**arguments, stop=stop).finish().reason == "interrupted" else 0
    except MoviePlotGPTError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""Text is generated where neither PyTorch nor what prepares corpora is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from movieplotgpt.generation.generator import PlotGenerator

HIDDEN = ("torch", "polars", "zstandard")
PROGRAM = """
import json, sys
for name in {hidden}:
    sys.modules[name] = None  # as if it were not installed
from movieplotgpt.generation.generator import PlotGenerator
plot = PlotGenerator.load(sys.argv[1]).plot("Ada", seed=1, max_tokens=20)
print(json.dumps([plot.text, plot.tokens]))
"""


def written(folder: Path, hidden: tuple[str, ...] = HIDDEN) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(hidden=hidden), str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_plot_needs_no_torch(folder: Path) -> None:
    ours = PlotGenerator.load(folder).plot("Ada", seed=1, max_tokens=20)
    assert written(folder) == [ours.text, ours.tokens]


def test_a_graph_that_is_there_needs_no_onnx(folder: Path) -> None:
    first = written(folder)
    assert written(folder, (*HIDDEN, "onnx")) == first


def test_what_needs_torch_says_so() -> None:
    program = "import sys; sys.modules['torch'] = None; import movieplotgpt.model.gpt"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "torch" in done.stderr, "nothing was hidden"

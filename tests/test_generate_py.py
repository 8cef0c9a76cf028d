"""``python generate.py --input "..."`` works from a checkout, as the project's first instructions have it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.engine.places import DEFAULT_MODEL, WEIGHTS_FOLDER
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

INCEPTION = "The plot summary of the movie named 'Inception' is:"
ECHO = "import json\n\n\ndef main(arguments):\n    print(json.dumps(list(arguments)))\n    return 7\n"


def generate(script: Path, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """The script beside a package of its own that only tells its arguments."""
    package = tmp_path / "checkout" / "src" / "movieplotgpt"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(ECHO, encoding="utf-8")
    shutil.copy(repository / "generate.py", tmp_path / "checkout")
    return tmp_path / "checkout"


@pytest.mark.parametrize("arguments", [["--input", INCEPTION], ["--title", "Amélie 🎬", "-n", "2"], ["--help"], []])
def test_it_is_the_generate_of_its_own_checkout(checkout: Path, tmp_path: Path, arguments: list[str]) -> None:
    """Whichever is installed, from whichever folder."""
    for cwd, script in ((checkout, Path("generate.py")), (tmp_path, checkout / "generate.py")):
        done = generate(script, *arguments, cwd=cwd)
        assert (json.loads(done.stdout), done.returncode, done.stderr) == (["generate", *arguments], 7, "")


@pytest.mark.slow
def test_it_writes_what_the_library_writes(
    repository: Path, tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    save_checkpoint(tmp_path / "weights" / DEFAULT_MODEL, tiny_checkpoint())
    plot = PlotGenerator.load(tmp_path / "weights" / DEFAULT_MODEL).plot("Inception", seed=1, max_tokens=20)
    shelf = {WEIGHTS_FOLDER: str(tmp_path / "weights")}
    done = generate(
        repository / "generate.py", "--input", INCEPTION, "--seed", "1", "--max-tokens", "20", cwd=tmp_path, **shelf
    )
    assert (done.returncode, done.stdout) == (0, plot.text + "\n")
    done = generate(repository / "generate.py", "--input", INCEPTION, "--model", "gone", cwd=tmp_path, **shelf)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.slow
def test_published_model_writes_without_training_packages(repository: Path, tmp_path: Path) -> None:
    blocked = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'polars', 'zstandard']))\n"
    (tmp_path / "sitecustomize.py").write_text(blocked, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != WEIGHTS_FOLDER}
    environment["PYTHONPATH"] = str(tmp_path)
    probe = [sys.executable, "-c", "import torch"]
    assert subprocess.run(probe, env=environment, capture_output=True, check=False).returncode, "torch can be imported"
    command = [sys.executable, "generate.py", "--input", INCEPTION]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 20
    assert "END_OF_PLOT" not in done.stdout and INCEPTION not in done.stdout
    assert done.stderr == "" or "cut after a sentence at the limit" in done.stderr

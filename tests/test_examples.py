"""The scripts and the notebook in examples/ run, in a short form."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

Script = Callable[..., str]
TEXT = "invented.txt"


@pytest.fixture
def script(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text_of: Callable[[int], str],
) -> Script:
    """``script("write", *arguments)`` runs an example in a folder with an invented text, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    Path(TEXT).write_text(text_of(9_000), encoding="utf-8")

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(repository / "examples" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_is_tried(repository: Path) -> None:
    names = {path.name for path in (repository / "examples").iterdir() if path.suffix in (".py", ".ipynb")}
    assert names == {"write.py", "train.py", "fine_tune.py", "measure.py", "notebook.ipynb"}
    listed = (repository / "examples" / "README.md").read_text(encoding="utf-8")
    assert all(name in listed for name in names)


@pytest.mark.slow
def test_write(script: Script) -> None:
    out = script("write", "Harbour Lights", "--max-tokens", "20")
    assert out.count("\n\n") >= 4 and "\n1: " in out and "\n3: " in out


@pytest.mark.slow
def test_train_measure_and_fine_tune(script: Script, tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    out = script("train", TEXT, "--minutes", "0.02", "--out", "run")
    assert "bits per character on unseen text" in out and "The model is in run." in out
    out = script("measure", "run")
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names[0] == "run" and "xz" in out and "8-grams" in out
    save_checkpoint(Path("model"), tiny_checkpoint(header="", context_length=128))
    assert script("fine_tune", TEXT, "--model", "model", "--minutes", "0.02", "--out", "tuned").strip()
    assert json.loads(Path("tuned/last/movieplotgpt.json").read_text(encoding="utf-8"))["training"]["step"]


@pytest.mark.slow
def test_the_notebook(script: Script, repository: Path) -> None:
    """Its cells run one after the other, the magic that installs the package left out."""
    notebook = json.loads((repository / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    program = (
        "\n".join(cells)
        .replace("    %pip install", "    raise SystemExit # ")
        .replace('MINUTES = Path("mytext.txt"), 5', 'MINUTES = Path("mytext.txt"), 0.02')
    )
    Path("cells.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "cells.py"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "the model: " in done.stdout and Path("runs/mytext/last").exists()

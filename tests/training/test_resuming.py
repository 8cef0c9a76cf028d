"""A run survives what happens to processes: kill -9, Ctrl-C, a closed terminal, a damaged file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.training.optimizers import MuonSettings
from movieplotgpt.training.resuming import FOLDER, Progress, read_settings, read_state, write_state

STEPS = 60
SETTINGS = f"""
[corpus]
kind = "table"
text = "Plot"

[format]
header = "The plot of '{{Title}}':"

[split]
kind = "group"
validation = 0.1
test = 0.1

[tokenizer]
kind = "bpe"
vocab_size = 300

[model]
size = "tiny"
context_length = 64
n_layer = 1
n_embd = 32
n_head = 1
head_dim = 32
n_ff = 64

[training]
steps = {STEPS}
tokens_per_step = 512
evaluations = 2
checkpoint_every = 7
dropout = 0.1
compile = "off"
precision = "float32"
"""


class Run:
    """``movieplotgpt train`` in a process of its own."""

    def __init__(self, folder: Path, csv: Path) -> None:
        self.out, self.toml, self.csv = folder / "run", folder / "run.toml", csv
        folder.mkdir()
        self.toml.write_text(SETTINGS, encoding="utf-8")

    def start(self, *flags: str) -> subprocess.Popen[str]:
        paths = map(str, (self.toml, "--source", self.csv, "--out", self.out))
        command = [sys.executable, "-m", "movieplotgpt", "train", *paths]
        source = Path(__file__).parents[2] / "src"
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, *flags], env=environment, stderr=subprocess.PIPE, text=True)

    def finish(self, *flags: str) -> int:
        process = self.start(*flags)
        _, said = process.communicate(timeout=300)
        assert "Traceback" not in said, said
        return process.returncode

    def interrupt(self, number: int, after: int) -> int:
        """Start, and send a signal once ``after`` steps are done."""
        process = self.start()
        while process.poll() is None and len(self.steps()) < after:
            time.sleep(0.005)
        process.send_signal(number)
        process.communicate(timeout=300)
        return process.returncode

    def steps(self) -> list[int]:
        path = self.out / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [record["step"] for record in map(json.loads, lines) if record["event"] == "step"]

    def weights(self) -> tuple[bytes, bytes]:
        last = self.out / "last"
        return (last / "model.safetensors").read_bytes(), (last / FOLDER / "optimizer.safetensors").read_bytes()


@pytest.fixture
def uninterrupted(tmp_path: Path, plots_csv: Path) -> Run:
    run = Run(tmp_path / "uninterrupted", plots_csv)
    assert run.finish() == 0
    return run


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_very_same_weights(tmp_path: Path, plots_csv: Path, uninterrupted: Run) -> None:
    killed = Run(tmp_path / "killed", plots_csv)
    assert killed.interrupt(signal.SIGKILL, after=17) == -signal.SIGKILL  # checkpoints are at 7, 14, 21, ...
    assert killed.finish("--resume") == 0
    assert killed.weights() == uninterrupted.weights()
    assert killed.steps() == list(range(STEPS))  # the log reads as that of one run


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_saves_says_130_and_goes_on(
    tmp_path: Path, plots_csv: Path, uninterrupted: Run, name: str
) -> None:
    run = Run(tmp_path / "interrupted", plots_csv)
    assert run.interrupt(getattr(signal, name), after=10) == 130
    progress = json.loads((run.out / "last" / FOLDER / "progress.json").read_text(encoding="utf-8"))
    assert 10 <= progress["step"] < STEPS
    assert run.finish("--resume") == 0
    assert run.weights() == uninterrupted.weights()
    assert run.steps() == list(range(STEPS))


@pytest.fixture
def saved(tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint]) -> tuple[Path, Checkpoint]:
    """A checkpoint after one step of Muon and AdamW, with what resuming needs."""
    checkpoint = tiny_checkpoint()
    optimizers = MuonSettings().build(checkpoint.model)
    step(checkpoint, optimizers)
    folder = tmp_path / "last"
    save_checkpoint(folder, checkpoint)
    write_state(folder, Progress(step=1, total_steps=9, best_bits=2.5), checkpoint.model, optimizers)
    return folder, checkpoint


def step(checkpoint: Checkpoint, optimizers: list[torch.optim.Optimizer]) -> None:
    ids_BT = torch.arange(32).view(2, 16)
    checkpoint.model.loss(ids_BT, ids_BT.roll(-1, 1)).backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def test_optimizers_go_on_from_their_state(saved: tuple[Path, Checkpoint]) -> None:
    folder, checkpoint = saved
    optimizers = MuonSettings().build(checkpoint.model)
    assert read_state(folder, checkpoint.model, optimizers) == Progress(step=1, total_steps=9, best_bits=2.5)
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    assert len(states) == sum(1 for _ in checkpoint.model.parameters())
    step(checkpoint, optimizers)  # and they take a step from there


def test_only_safetensors_and_json_are_kept(saved: tuple[Path, Checkpoint]) -> None:
    assert sorted(path.name for path in (saved[0] / FOLDER).iterdir()) == ["optimizer.safetensors", "progress.json"]


@pytest.mark.parametrize("name", ["optimizer.safetensors", "progress.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b'{"step": 1, "colour": "red"}'])
def test_damaged_state_is_one_sentence(saved: tuple[Path, Checkpoint], name: str, content: bytes | None) -> None:
    folder, checkpoint = saved
    path = folder / FOLDER / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"nothing to resume from|is damaged") as caught:
        read_state(folder, checkpoint.model, MuonSettings().build(checkpoint.model))
    assert "\n" not in str(caught.value)


def test_a_published_model_holds_nothing_to_resume_from(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    save_checkpoint(tmp_path / "m", tiny_checkpoint())
    with pytest.raises(CheckpointError, match=r"holds nothing to resume from; train without --resume, or --from it"):
        read_settings(tmp_path / "m")

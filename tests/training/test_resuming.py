"""What a checkpoint needs to go on: read back to the bit, damaged with a sentence, and exact after any kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.gpt import GPT
from movieplotgpt.training.optimizers import AdamWSettings, MuonSettings
from movieplotgpt.training.resuming import RunProgress, read_settings, read_state, write_state

PROGRESS, OPTIMIZER = "training/progress.json", "training/optimizer.safetensors"
KINDS: dict[str, AdamWSettings | MuonSettings] = {"adamw": AdamWSettings(), "muon": MuonSettings()}
Optimizers = list[torch.optim.Optimizer]


def built(kind: str) -> tuple[GPT, Optimizers]:
    model = GPT(ModelConfig(vocab_size=32, context_length=16, n_layer=2, n_embd=16, n_head=1, n_kv_head=1, head_dim=8))
    model.initialize(0)
    return model, KINDS[kind].build(model)


def step(model: GPT, optimizers: Optimizers, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)
    for optimizer in optimizers:
        optimizer.step()


def saved(folder: Path, kind: str = "muon") -> tuple[GPT, Optimizers, RunProgress]:
    """Two steps, written to ``folder``."""
    model, optimizers = built(kind)
    for seed in (1, 2):
        step(model, optimizers, seed)
    progress = RunProgress(step=2, total_steps=9, best_bits=1.5, evaluated=2, seconds=3.25, threads=4)
    folder.mkdir()
    write_state(folder, progress, model, optimizers)
    return model, optimizers, progress


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_step_is_the_one_of_the_run_that_went_on(tmp_path: Path, kind: str) -> None:
    model, optimizers, progress = saved(tmp_path / "a", kind)
    other, fresh = built(kind)
    other.load_state_dict(model.state_dict())
    assert read_state(tmp_path / "a", other, fresh) == progress
    for each in ((model, optimizers), (other, fresh)):
        step(*each, seed=3)
    for (name, weight), found in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, found), name


def test_state_files_are_deterministic(tmp_path: Path) -> None:
    _, _, progress = saved(tmp_path / "a")
    saved(tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "training").iterdir()) == [
        "optimizer.safetensors",
        "progress.json",
    ]
    assert json.loads((tmp_path / "a" / PROGRESS).read_text("utf-8")) == asdict(progress)
    names = load_file(tmp_path / "a" / OPTIMIZER)
    assert "0/model.layers.1.mlp.up_proj.weight/momentum" in names and "1/model.norm.weight/exp_avg" in names
    assert (tmp_path / "a" / OPTIMIZER).read_bytes() == (tmp_path / "b" / OPTIMIZER).read_bytes()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def scribble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe no state at all")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", [PROGRESS, OPTIMIZER])
@pytest.mark.parametrize("damage", [shorten, scribble, empty])
def test_a_damaged_state_is_one_sentence(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    saved(tmp_path / "a")
    damage(tmp_path / "a" / name)
    with pytest.raises(CheckpointError, match=r"training is damaged \(.*\); train with from_=.*a to keep its weights$"):
        read_state(tmp_path / "a", *built("muon"))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[1, 2]",
            '{"steps": 3}',
            "null",
            '{"step": "3"}',
            '{"step": -3}',
            '{"step": 1.5}',
            '{"curve": [3]}',
            '{"parts": 0}',
        ),
        *("[" * 100_000, '{"step": %s}' % ("9" * 5_000), '{"\\ud800": 1}'),
    ],
)
def test_a_progress_of_another_form_is_damaged(tmp_path: Path, text: str) -> None:
    saved(tmp_path / "a")
    (tmp_path / "a" / PROGRESS).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_state(tmp_path / "a", *built("muon"))


@pytest.mark.parametrize("name", [PROGRESS, OPTIMIZER])
def test_a_state_that_is_missing_cannot_be_resumed(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(
        CheckpointError, match=r"holds nothing to resume from; leave resume=True out, or train with from_=.*a$"
    ):
        read_state(tmp_path / "a", *built("muon"))


@pytest.mark.parametrize("name", ["0/model.layers.7.mlp.up_proj.weight/momentum", "5/model.norm.weight/exp_avg", "x"])
def test_the_state_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "a")
    save_file({name: torch.zeros(3)}, tmp_path / "a" / OPTIMIZER)
    with pytest.raises(CheckpointError, match=rf"is of another model or optimizer \({name}\); train with from_="):
        read_state(tmp_path / "a", *built("muon"))


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a", "muon")
    with pytest.raises(CheckpointError, match="is of another model or optimizer"):
        read_state(tmp_path / "a", *built("adamw"))


def test_settings_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "last"
    with pytest.raises(
        CheckpointError, match=r"last holds nothing to resume from; leave resume=True out, or train with from_=.*last$"
    ):
        read_settings(folder)
    (folder / "training").mkdir(parents=True)
    about = folder / "movieplotgpt.json"
    wrong = ('{"settings": []}', '{"settings": null}', '{"settings": "x"}', "[" * 100_000, "9" * 5_000)
    for text in (None, "{", "[]", '{"other": 1}', *wrong):
        if text is not None:
            about.write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"movieplotgpt\.json is damaged \(.*\); train again$"):
            read_settings(folder)
    about.write_text('{"settings": {"training": {"steps": 3}}}', encoding="utf-8")
    assert read_settings(folder) == {"training": {"steps": 3}}
    folder.rename(folder.with_name(".last.old"))  # killed between the two renames of a save
    assert read_settings(folder) == {"training": {"steps": 3}}


SMALL = """
[tokenizer]
kind = "bpe"
vocab_size = 300

[model]
context_length = 64
n_layer = 2
n_embd = 64
n_head = 1
head_dim = 32
n_ff = 64

[training]
tokens_per_step = 1024
dropout = 0.1
evaluations = 4
device = "cpu"
precision = "float32"
compile = "off"
"""
STEPS, EVERY = 80, 7
WORDS = (
    "the a lantern ferryman of in harbour finds keeps letter until night broken tower sings and never winter".split()
)


class Training:
    """``movieplotgpt train`` in a process of its own, on an invented table."""

    def __init__(self, folder: Path, films_toml_in: Callable[..., Path]) -> None:
        self.folder = folder
        rng = random.Random(5)
        rows = [f"Film {i},{' '.join(rng.choices(WORDS, k=60)).capitalize()}." for i in range(60)]
        (folder / "films.csv").write_text("\n".join(["Title,Plot", *rows]) + "\n", encoding="utf-8")
        films_toml_in(folder, SMALL)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "movieplotgpt", "train", "films.toml", *arguments, "--out", name]
        source = Path(__file__).resolve().parents[2] / "src"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(source)}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_signals,
        )

    def begin(self, name: str) -> subprocess.Popen[str]:
        return self.start(name, "--source", "films.csv", "--steps", str(STEPS), f"training.checkpoint_every={EVERY}")

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """The lines of the metrics file, the clock left out."""
        path = self.folder / name / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]

    def steps_told(self, name: str) -> int:
        path = self.folder / name / "metrics.jsonl"
        return path.read_text("utf-8").count('"event": "step"') if path.exists() else 0

    def file(self, name: str, path: str) -> bytes:
        return (self.folder / name / path).read_bytes()

    def step_kept(self, name: str) -> int:
        return int(json.loads(self.file(name, f"last/{PROGRESS}"))["step"])


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, films_toml_in: Callable[..., Path]) -> Training:
    """A folder with a run that was never interrupted: ``whole``."""
    training = Training(tmp_path_factory.mktemp("training"), films_toml_in)
    process = training.begin("whole")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return training


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"])
def test_killed_run_resumes_exactly(training: Training, name: str) -> None:
    process = training.begin(name)
    wait_until(lambda: training.steps_told(name) >= 2 * EVERY + 3, process)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=300)
    kept = training.step_kept(name)
    assert 2 * EVERY <= kept < STEPS, "it was killed too late to show anything"
    if name == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, err
        assert "stopping after this step, then saving" in err and "continue with --resume" in err
        assert training.steps_told(name) == kept, "saved after the last step it made"
    assert out == ""
    process = training.start(name, "--resume")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    for path in ("last/model.safetensors", f"last/{OPTIMIZER}", "best/model.safetensors"):
        assert training.file(name, path) == training.file("whole", path), path
    lines = training.metrics(name)
    assert lines == training.metrics("whole")
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(STEPS))
    assert [line["step"] for line in lines if line["event"] == "evaluated"] == [20, 40, 60, 80]


def heed_signals() -> None:
    """Undo what a shell in the background or nohup may have had ignored: a training would leave it so."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)

"""Two workers are one: the same losses, the same weights, one voice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.errors import TrainingError
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.training.distributed import Workers, join_workers

SIX_STEPS = """
[model]
size = "tiny"
n_layer = 1
n_embd = 16
n_head = 1
head_dim = 16
n_ff = 32
context_length = 192

[training]
steps = 6
tokens_per_step = 960
evaluations = 2
compile = "off"
precision = "float32"
device = "cpu"
"""


def test_alone_nobody_is_asked() -> None:
    with join_workers() as workers:
        assert workers.first and workers.sum(1.5, 2.0) == [1.5, 2.0] and workers.from_first(3.0) == 3.0
        assert workers.any(True) and not workers.any(False) and workers.leave(3) == 3
        with workers.first_alone():
            pass


def test_workers_that_cannot_be_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(TrainingError, match="WORLD_SIZE is 2, but the other workers cannot be met"), join_workers():
        pass


def test_the_first_worker_is_rank_0() -> None:
    assert Workers(0, 2).first and not Workers(1, 2).first


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line.get("loss", line.get("bits_per_character")) for line in lines]


@pytest.mark.slow
def test_two_workers_give_the_losses_of_one(
    tmp_path: Path, plots_csv: Path, films_toml_in: Callable[..., Path]
) -> None:
    films_toml_in(tmp_path, SIX_STEPS)
    train = ["-m", "movieplotgpt", "train", "films.toml", "--source", str(plots_csv)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = {}
    for name, launcher in (("one", []), ("two", torchrun)):
        command = [sys.executable, *launcher, *train, "--out", name]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told[name] = done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 8
    assert two == pytest.approx(one, rel=1e-5)
    weights = [load_checkpoint(tmp_path / name / "last").model.parameters() for name in ("one", "two")]
    for ours, theirs in zip(*weights, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert told["two"].count("complete after 6 steps") == 1, "only the first worker speaks"

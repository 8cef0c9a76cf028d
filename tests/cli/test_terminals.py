"""A terminal that is closed while a command works costs nothing but its messages."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")

TINY = [
    *("model.n_layer=1", "model.n_embd=16", "model.n_head=1", "model.head_dim=16", "model.n_ff=32"),
    *("model.context_length=96", "training.compile=off", "training.precision=float32", "training.tokens_per_step=96"),
    *("training.evaluations=1", "windows.separate=false"),
]
STEPS = 200


@pytest.fixture
def text(tmp_path: Path, text_of: Callable[[int], str]) -> Path:
    path = tmp_path / "mytext.txt"
    path.write_text(text_of(9_000), encoding="utf-8")
    return path


@contextmanager
def in_a_terminal(*arguments: str, cwd: Path, ignoring: bool = False) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a command in a terminal of its own, as a shell does, or as `nohup` does, and yield our end and the process."""
    import fcntl
    import termios

    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignoring else signal.SIG_DFL)

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "movieplotgpt", *arguments],
        cwd=cwd,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    try:
        yield ours, process
    finally:
        with suppress(OSError):
            os.close(ours)
        process.kill()
        process.wait()


def read_until(terminal: int, reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    seen = b""
    while not reached():
        assert process.poll() is None, seen[-2_000:].decode(errors="replace")
        if select.select([terminal], [], [], 0.01)[0]:
            seen += os.read(terminal, 65_536)


def steps(run: Path) -> int:
    with suppress(OSError):
        return (run / "metrics.jsonl").read_bytes().count(b'"event": "step"')
    return 0


def steps_kept(run: Path) -> int:
    return int(json.loads((run / "last" / "training" / "progress.json").read_text(encoding="utf-8"))["step"])


@pytest.mark.parametrize("ignoring", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "nohup"])
def test_a_training_outlives_its_terminal_or_saves(text: Path, ignoring: bool) -> None:
    run = text.parent / f"run-{ignoring}"
    command = ["train", text.name, "--steps", str(STEPS), "--out", run.name, *TINY]
    with in_a_terminal(*command, cwd=text.parent, ignoring=ignoring) as (terminal, process):
        read_until(terminal, lambda: steps(run) >= 3, process)
        os.close(terminal)
        code = process.wait(timeout=300)
    assert code == (0 if ignoring else 130)
    assert steps_kept(run) == steps(run)
    assert steps_kept(run) == STEPS if ignoring else 3 <= steps_kept(run) < STEPS
    assert not list(run.glob(".in-use*"))


@pytest.mark.slow
def test_a_comparison_outlives_its_terminal(text: Path) -> None:
    (text.parent / "config.toml").write_text('[corpus]\nkind = "plain"\n[training]\n', encoding="utf-8")
    study = 'config = "config.toml"\nset = {}\n[[grid]]\nsizes = ["tiny"]\ntokenizers = ["char"]\nseeds = [1]\nepochs = [0.2]\n'
    changes = [change for change in TINY if not change.startswith("training.evaluations")]
    (text.parent / "study.toml").write_text(study.format(json.dumps(changes)), encoding="utf-8")
    out = text.parent / "study"
    command = ["compare", "study.toml", "--source", text.name, "--out", out.name]
    with in_a_terminal(*command, cwd=text.parent, ignoring=True) as (terminal, process):
        read_until(terminal, lambda: any(out.glob("runs/*.log")), process)
        os.close(terminal)
        process.wait(timeout=300)
    assert (out / "STUDY.md").is_file() and len(list(out.glob("evaluations/*.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("where", ["full", "closed pipe"])
def test_a_training_needs_no_place_for_its_messages(text: Path, where: str) -> None:
    out = f"run-{where.partition(' ')[0]}"
    command = [sys.executable, "-m", "movieplotgpt", "train", text.name, "--steps", "5", "--out", out, *TINY]
    ours, theirs = os.pipe()
    os.close(ours)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=text.parent, stderr=full if where == "full" else theirs, check=False)
    os.close(theirs)
    assert done.returncode == 0 and steps_kept(text.parent / out) == 5

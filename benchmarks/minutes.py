"""Does `train --minutes` keep its minutes when the machine becomes four times slower, or faster, midway?

    python benchmarks/minutes.py --minutes 2 --out results/benchmarks/minutes.json

A small network is trained on invented text in a process of its own. To slow it down fourfold the process is stopped and
continued (SIGSTOP, SIGCONT) 25 times a second, and stopped three quarters of the time: other processes do not feel it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import keep, machine, settings_of

PERIOD, RUNNING = 0.04, 0.25  # seconds; share of them in which a slowed process runs
SMALL = ("model.n_layer=2", "model.n_embd=64", "model.n_head=1", "model.head_dim=64", "model.n_ff=128")
CASES = {
    "steady": (False, False),
    "slower midway": (False, True),
    "faster midway": (True, False),
}  # slowed: first half, second


def train(folder: Path, minutes: float, slowed: tuple[bool, bool]) -> dict[str, Any]:
    """Train, slowed in one half or the other, and return what it took."""
    run = folder / "run"
    command = [sys.executable, "-m", "movieplotgpt", "train", str(folder / "text.txt"), "--minutes", str(minutes)]
    more = [
        *SMALL,
        "model.context_length=64",
        "training.tokens_per_step=1024",
        "training.compile=off",
        "training.patience=none",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, *more, "--out", str(run)], stdout=log, stderr=log)
        while process.poll() is None and not (run / "metrics.jsonl").exists():
            time.sleep(0.01)
        began = time.time()
        while process.poll() is None:
            if slowed[time.time() - began > 30 * minutes]:
                process.send_signal(signal.SIGSTOP)
                time.sleep(PERIOD * (1 - RUNNING))
                process.send_signal(signal.SIGCONT)
                time.sleep(PERIOD * RUNNING)
            else:
                time.sleep(PERIOD)
    said = (folder / "log").read_text(encoding="utf-8")
    if process.returncode:
        raise SystemExit(said)
    progress = json.loads((run / "last/training/progress.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [line["learning_rate"] for line in lines if line["event"] == "step"]
    seconds = (run / "samples.md").stat().st_mtime - began  # written last
    return {
        "seconds": seconds,
        "off": seconds / (60 * minutes) - 1,
        "steps": progress["step"],
        "plans reported": said.count(" at this speed"),
        "last rate of the highest": rates[-1] / max(rates),
    }


def main() -> None:
    """Train once for each case, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    words = "the a lantern ferryman of in harbour finds keeps letter until night broken tower sings and never winter".split()
    load, found = os.getloadavg()[0], {}
    for name, slowed in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            text = " ".join(random.Random(1).choices(words, k=60_000))
            Path(folder, "text.txt").write_text(text, encoding="utf-8")
            found[name] = train(Path(folder), arguments.minutes, slowed)
        print(f"{name:15} " + ", ".join(f"{key} {value:.3g}" for key, value in found[name].items()), flush=True)
    keep(arguments.out, {"settings": settings_of(arguments), "load_before": load, "trainings": found})


if __name__ == "__main__":
    main()

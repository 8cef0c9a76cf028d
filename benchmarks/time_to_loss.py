"""Seconds from the start of the process to a loss: a peer's last one, and when ours is as low, on the same lines.

    python benchmarks/time_to_loss.py --office the-office-lines.csv.gz --nanogpt ../nanoGPT

The text is The Office, scene by scene, the last tenth of its characters kept for validation. A peer reads it character
by character, at the size its own guide gives for a CPU (4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps),
and is scored on the whole validation text in windows that follow each other. Ours is `movieplotgpt train` with
office-minutes.toml, whole process, imports and compilation included; its loss is that of every character of the same
scenes. Both are told in nats per character.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from machine import keep, machine, settings_of
from movieplotgpt.config import read_settings
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunConfig
from peers import CONTENDERS, SHAPES, Contender, Shape
from train_step import commit

TOML = Path(__file__).with_name("office-minutes.toml")
PEERS = ("original", "nanogpt")
RATES = {"original": 3e-4, "nanogpt": 1e-3}  # of the guide of each


def documents(corpus: PreparedCorpus, split: str) -> str:
    """A split as one text, a blank line between documents."""
    part = corpus.split(split)  # type: ignore[arg-type]
    return "\n\n".join(corpus.tokenizer.decode(part.body(i)) for i in range(part.n_documents))


def without_dropout(model: torch.nn.Module) -> None:
    """As nanoGPT's guide for a CPU has it."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            setattr(module, "dropout", 0.0)  # noqa: B010 - what the fused attention is called with


def train_peer(pipe: Connection, name: str, clone: Path | None, texts: tuple[str, str], steps: int) -> None:
    """The child: train on the first text, tell the nats per character of the second."""
    shape = SHAPES["original-cpu"]
    alphabet = {character: i for i, character in enumerate(sorted(set("".join(texts))))}
    shape = type(shape)(**{**vars(shape), "vocab_size": len(alphabet)})
    train, validation = (torch.tensor([alphabet[character] for character in text]) for text in texts)
    made = CONTENDERS[name](shape, clone, "cpu")
    if name == "nanogpt":
        without_dropout(made.model)
    random = np.random.default_rng(0)
    for step in range(steps):
        rate = RATES[name]
        if name == "nanogpt":  # warm-up, then a cosine to a tenth
            rate *= min((step + 1) / 100, 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        for group in made.optimizers[0].param_groups:
            group["lr"] = rate
        starts = random.integers(0, len(train) - shape.context_length - 1, shape.batch_size)
        rows = torch.stack([train[at : at + shape.context_length + 1] for at in starts.tolist()])
        made.step(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
    pipe.send(nats_per_character(made, validation, shape))


@torch.no_grad()
def nats_per_character(made: Contender, ids: torch.Tensor, shape: Shape) -> float:
    """Mean over windows that follow each other."""
    made.model.eval()
    windows, at_once = len(ids) // shape.context_length - 1, 4 * shape.batch_size
    total = 0.0
    for start in range(0, windows, at_once):
        at = torch.arange(start, min(start + at_once, windows))[:, None] * shape.context_length
        rows = ids[at + torch.arange(shape.context_length + 1)]
        with made.around():
            total += made.loss(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()).item() * len(rows)
    return total / windows


def peer(name: str, arguments: argparse.Namespace, texts: tuple[str, str]) -> tuple[float, float]:
    """Wall seconds of a peer's training and scoring, and its nats per character."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=train_peer, args=(theirs, name, arguments.nanogpt, texts, arguments.peer_steps)
    )
    began = time.perf_counter()
    child.start()
    nats = ours.recv()
    seconds = time.perf_counter() - began
    child.join()
    return seconds, nats


def ours(arguments: argparse.Namespace, data: Path, steps: int) -> tuple[float, float]:
    """Wall seconds of `movieplotgpt train` for so many steps, and its nats per character."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "movieplotgpt", "train", str(TOML), "--data", str(data), "--steps", str(steps)]
        began = time.perf_counter()
        subprocess.run([*command, *arguments.set, "--out", f"{folder}/run"], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        lines = [json.loads(line) for line in Path(folder, "run/metrics.jsonl").read_text("utf-8").splitlines()]
    return seconds, [line["bits_per_character"] for line in lines if line["event"] == "evaluated"][-1] * math.log(2)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peers and ours in turn."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        prepare(read_settings(RunConfig, TOML), arguments.office, data)
        corpus = PreparedCorpus.load(data)
        texts = documents(corpus, "train"), documents(corpus, "validation")
        rows: dict[str, dict[str, list[float]]] = {}
        for repeat in range(arguments.repeats):
            for name in [name for name in PEERS if name != "nanogpt" or arguments.nanogpt]:
                note(rows, name, *peer(name, arguments, texts))
            for steps in arguments.steps:
                note(rows, f"ours, {steps} steps", *ours(arguments, data, steps))
            print(f"round {repeat + 1} of {arguments.repeats}", flush=True)
    return {
        "settings": settings_of(arguments),
        "nanogpt_commit": commit(arguments.nanogpt),
        "characters": [len(text) for text in texts],
        "runs": rows,
    }


def note(rows: dict[str, dict[str, list[float]]], name: str, seconds: float, nats: float) -> None:
    """Keep and tell one run."""
    row = rows.setdefault(name, {"seconds": [], "nats_per_character": []})
    row["seconds"].append(seconds)
    row["nats_per_character"].append(nats)
    print(f"{name:<20}{seconds:>8.1f} s{nats:>9.3f} nats per character", flush=True)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--office", type=Path, required=True, help="the Office lines (CSV)")
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--steps", type=int, nargs="+", default=[60, 100, 150], help="of ours, one run for each")
    parser.add_argument("--peer-steps", type=int, default=2000)
    parser.add_argument("--set", nargs="*", default=[], help="other settings of ours: section.key=value")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    measured = measure(arguments)
    print(f"\n{'medians':<20}{'seconds':>10}{'nats per character':>20}")
    for name, row in measured["runs"].items():
        print(f"{name:<20}{median(row['seconds']):>10.1f}{median(row['nats_per_character']):>20.3f}")
    keep(arguments.out, measured)


if __name__ == "__main__":
    main()

"""Bits per character after the same minutes: ours, nanoGPT's best character model and the original, on the same plots.

    python benchmarks/equal_minutes.py --plots wiki_movie_plots_deduped.csv --nanogpt ../nanoGPT --minutes 10

nanoGPT (10.7 M parameters, context 256, batch 64: its guide's for characters; compiled, no dropout) and the original's
configuration (8 layers, 8 heads, 512 wide, context 256, dropout 0.2, batch 128, AdamW at 3e-4) read random windows of the
plots of the training split, a blank line between them, and are scored on those of the validation split in windows that
follow each other. Ours is `movieplotgpt train configs/plots-minutes.toml`, scored on the same characters and the end of
each plot, behind its title. The clocks start when text and imports are ready, so that compiling counts, and stop before
scoring; ours scores within its minutes, and a peer's last step may end behind them.
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
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from machine import keep, machine, settings_of
from movieplotgpt.config import read_settings
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunConfig
from peers import CONTENDERS, SHAPES, missing
from time_to_loss import documents, nats_per_character
from train_step import commit

TOML = Path(__file__).parents[1] / "configs" / "plots-minutes.toml"
PEERS = {"nanogpt-patched": "10M", "original": "original"}  # and their shapes
RATE = 1e-3  # of nanoGPT's guide: warmed up, then a cosine to a tenth; the original's stays as it is


def train_peer(
    pipe: Connection, peer: str, clone: Path | None, shape_name: str, texts: tuple[str, str], seconds: float
) -> None:
    """The child: train for so many seconds, its start included, tell nats per character, steps and parameters."""
    alphabet = {character: i for i, character in enumerate(sorted(set("".join(texts))))}
    train, validation = (torch.tensor([alphabet[character] for character in text]) for text in texts)
    shape = replace(SHAPES[shape_name], vocab_size=len(alphabet))
    made = CONTENDERS[peer](shape, clone, "cpu")
    random = np.random.default_rng(0)
    began = time.perf_counter()
    steps = 0
    while (spent := time.perf_counter() - began) < seconds:
        if peer.startswith("nanogpt"):
            rate = RATE * min((steps + 1) / 100, 0.1 + 0.45 * (1 + math.cos(math.pi * spent / seconds)))
            for group in made.optimizers[0].param_groups:
                group["lr"] = rate
        starts = random.integers(0, len(train) - shape.context_length - 1, shape.batch_size)
        rows = torch.stack([train[at : at + shape.context_length + 1] for at in starts.tolist()])
        made.step(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        steps += 1
    spent = time.perf_counter() - began
    nats = nats_per_character(made, validation, shape)
    pipe.send(
        {
            "bits_per_character": nats / math.log(2),
            "steps": steps,
            "characters": steps * shape.tokens,
            "parameters": made.parameters,
            "precision": made.precision,
            "seconds": spent,
        }
    )


def peer(name: str, arguments: argparse.Namespace, texts: tuple[str, str]) -> dict[str, Any]:
    """What a peer reached, in a process of its own."""
    here, there = multiprocessing.Pipe()
    given = (there, name, arguments.nanogpt, arguments.shape or PEERS[name], texts, arguments.minutes * 60)
    child = multiprocessing.get_context("spawn").Process(target=train_peer, args=given)
    child.start()
    there.close()
    found: dict[str, Any] = here.recv()
    child.join()
    return found


def ours(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Our bits per character, steps and what was chosen."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "movieplotgpt", "train", str(TOML), "--data", str(data)]
        command += [*arguments.set, "--minutes", f"{arguments.minutes}", "--out", f"{folder}/run"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - began
        info = json.loads(Path(folder, "run/last/movieplotgpt.json").read_text(encoding="utf-8"))
    training, model = info["training"], info["settings"]["model"]
    return {
        "bits_per_character": training["curve"][-1][1],
        "steps": training["step"],
        "tokens": training["tokens"],
        "size": model["size"],
        "seconds": seconds,
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots", type=Path, required=True, help="the movie plots (CSV)")
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT; none: without it")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--shape", choices=list(SHAPES), help="of the peers, in place of their own")
    parser.add_argument("--set", nargs="*", default=[], help="other settings of ours: section.key=value")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        prepare(read_settings(RunConfig, TOML), arguments.plots, data)
        corpus = PreparedCorpus.load(data)
        texts = documents(corpus, "train"), documents(corpus, "validation")
        rows = {"ours": ours(arguments, data)}
        for name in arguments.peers:
            if why := missing(name, arguments.nanogpt):
                print(f"{name} is left out: {why}")
            else:
                rows[name] = peer(name, arguments, texts)
    for name, row in rows.items():
        print(f"{name:<18}{row['bits_per_character']:.4f} bits per character after {row['steps']:,} steps", flush=True)
    keep(
        arguments.out,
        {
            "settings": settings_of(arguments),
            "nanogpt_commit": commit(arguments.nanogpt),
            "runs": rows,
        },
    )


if __name__ == "__main__":
    main()

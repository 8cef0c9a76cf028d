"""A whole training step, ours and the peers', side by side on the same shapes, batches and text.

    python benchmarks/train_step.py --shape 10M --nanogpt ../nanoGPT --text tinyshakespeare.txt.gz

Each contender lives in a process of its own; they take turns, all others idle, so that the machine's drift meets all
alike. The time to the first step (imports, compilation) is told apart.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import subprocess
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from machine import keep, machine, seconds_of
from peers import CONTENDERS, SHAPES, Shape, flops_per_token, missing


def characters(text: Path | None, shape: Shape) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The text as ids of its own characters, the rarest beyond the vocabulary folded; without a text, seeded noise."""
    if text is None:
        return np.random.default_rng(0).integers(0, shape.vocab_size, 1_000_000)
    data = gzip.decompress(text.read_bytes()) if text.suffix == ".gz" else text.read_bytes()
    points = np.frombuffer(data.decode("utf-8").encode("utf-32-le"), np.uint32)
    _, ids = np.unique(points, return_inverse=True)
    return ids % shape.vocab_size


def contender(
    pipe: Connection, name: str, shape: Shape, clone: Path | None, ids: np.ndarray[Any, Any], threads: int
) -> None:
    """The child: make the contender, then run as many steps as the parent asks for, telling the seconds of each."""
    torch.set_num_threads(threads)
    began = time.perf_counter()
    made = CONTENDERS[name](shape, clone)
    random = np.random.default_rng(1)

    def batch() -> tuple[Tensor, Tensor]:
        starts = random.integers(0, len(ids) - shape.context_length - 1, shape.batch_size)
        rows = torch.from_numpy(np.stack([ids[at : at + shape.context_length + 1] for at in starts]))
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    made.step(*batch())
    pipe.send((made.parameters, made.precision, time.perf_counter() - began))
    while steps := pipe.recv():
        seconds = []
        for _ in range(steps):
            ids_BT, targets_BT = batch()
            began = time.perf_counter()
            loss = made.step(ids_BT, targets_BT)
            seconds.append(time.perf_counter() - began)
        pipe.send((seconds, loss))


def matmul_tflops(shape: Shape) -> float:
    """The bfloat16 forward rate of the widest product of the network."""
    x, w = torch.randn(shape.tokens, shape.n_embd).bfloat16(), torch.randn(4 * shape.n_embd, shape.n_embd).bfloat16()
    return 2e-12 * x.numel() * len(w) / seconds_of(lambda: x @ w.T)


def commit(clone: Path | None) -> str | None:
    """The commit a clone stands at."""
    if clone is None:
        return None
    done = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All contenders, round by round."""
    shape, clone, threads = SHAPES[arguments.shape], arguments.nanogpt, torch.get_num_threads()
    ids = characters(arguments.text, shape)
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in arguments.contenders:
        if why := missing(name, clone):
            print(f"{name} is left out: {why}")
            continue
        pipes[name], theirs = context.Pipe()
        context.Process(target=contender, args=(theirs, name, shape, clone, ids, threads), daemon=True).start()
        parameters, precision, first = pipes[name].recv()  # the others idle meanwhile
        rows[name] = {"parameters": parameters, "precision": precision, "seconds_to_first_step": first, "seconds": []}
        print(f"{name}: {parameters / 1e6:.1f} M parameters, {precision}, first step after {first:.1f} s", flush=True)
    for number in range(arguments.rounds):
        for name, pipe in pipes.items():
            slow = median(rows[name]["seconds"] or [0]) > arguments.slow
            pipe.send(1 if slow else arguments.steps)
            seconds, rows[name]["loss"] = pipe.recv()
            rows[name]["seconds"] += seconds if number or len(seconds) == 1 else seconds[1:]
    for pipe in pipes.values():
        pipe.send(0)
    rate = matmul_tflops(shape)
    for row in rows.values():
        row["tokens_per_second"] = shape.tokens / median(row["seconds"])
        row["slowest_fastest"] = [shape.tokens / max(row["seconds"]), shape.tokens / min(row["seconds"])]
        used = row["tokens_per_second"] * flops_per_token(shape, row["parameters"])
        row["share_of_matmul_rate"] = used / rate / 1e12
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    return {"settings": settings, "nanogpt_commit": commit(clone), "matmul_tflops": rate, "contenders": rows}


def show(measured: dict[str, Any]) -> None:
    """The table."""
    rows = measured["contenders"]
    best = rows.get("ours", {}).get("tokens_per_second")
    print(f"bfloat16 forward product: {measured['matmul_tflops']:.2f} TFLOP/s")
    print(f"{'':<16}{'params':>8}{'first step':>12}{'tokens/s':>10}{'from - to':>20}{'of matmul':>11}{'ours is':>9}")
    for name, row in rows.items():
        low, high = row["slowest_fastest"]
        ratio = f"{best / row['tokens_per_second']:.1f} x" if best else ""
        print(
            f"{name:<16}{row['parameters'] / 1e6:>6.1f} M{row['seconds_to_first_step']:>10.1f} s"
            f"{row['tokens_per_second']:>10,.0f}{f'{low:,.0f} - {high:,.0f}':>20}"
            f"{row['share_of_matmul_rate']:>10.0%} {ratio:>8}"
        )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="10M")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--steps", type=int, default=4, help="steps of a contender in each round (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all contenders (default 5)")
    parser.add_argument("--slow", type=float, default=4.0, help="seconds of a step from which a round has one only")
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--text", type=Path, help="characters to train on, .gz or not (default: seeded noise)")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    measured = measure(arguments)
    show(measured)
    keep(arguments.out, measured)


if __name__ == "__main__":
    main()

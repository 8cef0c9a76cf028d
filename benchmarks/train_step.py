"""A whole training step, ours and the peers', side by side on the same shapes, batches and text.

    python benchmarks/train_step.py --shape 10M --nanogpt ../nanoGPT --text tinyshakespeare.txt.gz

Ours and one peer after the other take turns, each in a process of its own, so that the machine's drift meets both
alike. The time to the first step (imports, compilation) is told apart.
"""

from __future__ import annotations

import argparse
import gzip
import math
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

from machine import gpu_peak, keep, machine, seconds_of, settings_of
from movieplotgpt.machine import keep_freed_memory
from peers import CONTENDERS, SHAPES, Contender, Shape, flops_per_token, missing


def characters(text: Path | None, shape: Shape) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The text as ids of its own characters, the rarest beyond the vocabulary folded; without a text, seeded noise."""
    if text is None:
        return np.random.default_rng(0).integers(0, shape.vocab_size, 1_000_000)
    data = gzip.decompress(text.read_bytes()) if text.suffix == ".gz" else text.read_bytes()
    points = np.frombuffer(data.decode("utf-8").encode("utf-32-le"), np.uint32)
    _, ids = np.unique(points, return_inverse=True)
    return ids % shape.vocab_size


def contender(
    pipe: Connection, name: str, shape: Shape, clone: Path | None, device: str, ids: np.ndarray[Any, Any], threads: int
) -> None:
    """The child: make the contender, then run as many steps as the parent asks for, telling the seconds of each.

    On a GPU the steps of a turn are timed together, as nobody waits between them.
    """
    torch.set_num_threads(threads)
    began = time.perf_counter()
    made = CONTENDERS[name](shape, clone, device)
    random = np.random.default_rng(1)

    def batch() -> tuple[Tensor, Tensor]:
        starts = random.integers(0, len(ids) - shape.context_length - 1, shape.batch_size)
        rows = torch.from_numpy(np.stack([ids[at : at + shape.context_length + 1] for at in starts])).to(device)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    made.step(*batch()).item()
    pipe.send((made.parameters, made.precision, time.perf_counter() - began))
    while steps := pipe.recv():
        batches = [batch() for _ in range(steps)]
        if device == "cpu":
            pipe.send([_seconds(made, [one]) for one in batches])
        else:
            made.step(*batches[0]).item()
            pipe.send([_seconds(made, batches[1:]) / (steps - 1)])


def _seconds(made: Contender, batches: list[tuple[Tensor, Tensor]]) -> float:
    began = time.perf_counter()
    for ids_BT, targets_BT in batches:
        loss = made.step(ids_BT, targets_BT)
    loss.item()
    return time.perf_counter() - began


def matmul_tflops(shape: Shape, device: str, precision: str) -> float:
    """The forward rate of the widest product of the network, in the precision that ours computes in."""
    keep_freed_memory()  # else this measures page faults
    sizes = (shape.tokens, shape.n_embd), (4 * shape.n_embd, shape.n_embd)
    x, w = (torch.randn(size, device=device).to(getattr(torch, precision)) for size in sizes)
    return 2e-12 * x.numel() * len(w) / seconds_of(lambda: x @ w.T)


def commit(clone: Path | None) -> str | None:
    """The commit a clone stands at."""
    if clone is None or not (clone / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


class Child:
    """A contender in a process of its own."""

    def __init__(self, name: str, arguments: argparse.Namespace, ids: np.ndarray[Any, Any]) -> None:
        self.name, self._steps = name, arguments.steps
        self._slow = arguments.slow if arguments.device == "cpu" else math.inf
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        given = (
            theirs,
            name,
            SHAPES[arguments.shape],
            arguments.nanogpt,
            arguments.device,
            ids,
            torch.get_num_threads(),
        )
        self._process = context.Process(target=contender, args=given, daemon=True)
        self._process.start()
        theirs.close()
        parameters, precision, first = self._told()
        self.facts = {"parameters": parameters, "precision": precision, "seconds_to_first_step": first}
        print(f"{name}: {parameters / 1e6:.1f} M parameters, {precision}, first step after {first:.1f} s", flush=True)

    def round(self) -> list[float]:
        """Seconds of each step of a turn; the first of several warms up and is left out."""
        steps = 1 if self.facts["seconds_to_first_step"] > self._slow else 1 + self._steps
        self._pipe.send(steps)
        seconds: list[float] = self._told()
        return seconds[-self._steps :]

    def end(self) -> None:
        """Give its memory back."""
        self._pipe.send(0)
        self._process.join()

    def _told(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise SystemExit(f"{self.name} was killed; it may need more memory than there is") from None


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ours and each peer in turn, pair by pair, so that only two are in memory at once."""
    shape = SHAPES[arguments.shape]
    ids = characters(arguments.text, shape)
    ours = Child("ours", arguments, ids)
    rows: dict[str, dict[str, Any]] = {"ours": {**ours.facts, "seconds": []}}
    for name in arguments.peers:
        if why := missing(name, arguments.nanogpt):
            print(f"{name} is left out: {why}")
            continue
        peer = Child(name, arguments, ids)
        rows[name] = {**peer.facts, "seconds": [], "ours_is_faster": []}
        for _ in range(arguments.rounds):
            pair = ours.round(), peer.round()
            rows["ours"]["seconds"] += pair[0]
            rows[name]["seconds"] += pair[1]
            rows[name]["ours_is_faster"].append(median(pair[1]) / median(pair[0]))
        peer.end()
    ours.end()
    rate = matmul_tflops(shape, arguments.device, ours.facts["precision"])
    peak = gpu_peak() if arguments.device == "cuda" else None
    for row in rows.values():
        row["tokens_per_second"] = shape.tokens / median(row["seconds"])
        row["slowest_fastest"] = [shape.tokens / max(row["seconds"]), shape.tokens / min(row["seconds"])]
        used = row["tokens_per_second"] * flops_per_token(shape, row["parameters"])
        row["share_of_matmul_rate"] = used / rate / 1e12
        if peak:
            row["mfu"] = used / peak / 1e12
    return {
        "settings": settings_of(arguments),
        "shape": vars(shape),
        "nanogpt_commit": commit(arguments.nanogpt),
        "matmul_tflops": rate,
        "peak_tflops": peak,
        "contenders": rows,
    }


def show(measured: dict[str, Any]) -> None:
    """The table."""
    peak = f", of {measured['peak_tflops']:.0f} on the datasheet" if measured["peak_tflops"] else ""
    print(
        f"{measured['contenders']['ours']['precision']} forward product: {measured['matmul_tflops']:.2f} TFLOP/s{peak}"
    )
    print(f"{'':<16}{'params':>8}{'first step':>12}{'tokens/s':>10}{'from - to':>18}{'of matmul':>11}{'ours is':>9}")
    for name, row in measured["contenders"].items():
        low, high = row["slowest_fastest"]
        mfu = f", MFU {row['mfu']:.1%}" if "mfu" in row else ""
        ratio = f"{median(row['ours_is_faster']):.1f} x" if name != "ours" else ""
        print(
            f"{name:<16}{row['parameters'] / 1e6:>6.1f} M{row['seconds_to_first_step']:>10.1f} s"
            f"{row['tokens_per_second']:>10,.0f}{f'{low:,.0f} - {high:,.0f}':>18}"
            f"{row['share_of_matmul_rate']:>10.0%} {ratio:>8}{mfu}"
        )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="10M")
    peers = [name for name in CONTENDERS if name != "ours"]
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peers", nargs="+", choices=peers, default=peers)
    parser.add_argument("--steps", type=int, default=3, help="counted steps in each turn (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of ours and of each peer (default 5)")
    parser.add_argument("--slow", type=float, default=30, help="a first step this long: one step a turn (seconds)")
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

"""What does one busy process cost a training, by the way in which OpenMP's threads wait, and by their number?

    python benchmarks/busy_neighbour.py --out results/benchmarks/busy_neighbour.json

Each policy trains for some seconds alone and beside a process that never rests, in turn and in several rounds; medians are kept. Run
it on a machine that does nothing else. Wanted: alone at most 5 % less than the default, and at least half of that beside the
busy process. `training/waiting.py` has the number that was chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from machine import keep, machine, settings_of
from movieplotgpt.machine import keep_freed_memory
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import choose_hardware
from movieplotgpt.model.sizes import SizeSettings
from movieplotgpt.training.compiling import CompiledLoss
from movieplotgpt.training.optimizers import MuonSettings
from movieplotgpt.training.run import TrainingSettings

POLICIES = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"spins {spins}": {"GOMP_SPINCOUNT": str(spins)} for spins in (1_000, 3_000, 10_000, 100_000)},
}
CONTEXT, VOCABULARY = 256, 1024
BUSY = [sys.executable, "-c", "while True: pass"]


def steps(size: str, tokens_per_step: int, seconds: float, compiled: bool) -> float:
    """Train for ``seconds`` after two steps to warm up, and return tokens a second."""
    settings = TrainingSettings(device="cpu", compile="on" if compiled else "off")
    hardware = choose_hardware(settings)
    keep_freed_memory()
    model = GPT(SizeSettings.model_validate({"size": size, "context_length": CONTEXT}).model_config_for(VOCABULARY))
    model.initialize(0)
    model.compute_dtype = hardware.dtype
    loss = CompiledLoss(model) if compiled else model.loss
    optimizers = MuonSettings().build(model)
    ids_BT = torch.randint(VOCABULARY, (max(1, tokens_per_step // CONTEXT), CONTEXT))

    def step() -> None:
        loss(ids_BT, ids_BT).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    for _ in range(2):
        step()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds or done < 2:
        step()
        done += 1
    return done * ids_BT.numel() / (time.perf_counter() - began)


def trained(arguments: argparse.Namespace, policy: dict[str, str], threads: int, *, busy: bool) -> float:
    """Tokens a second of a process of its own with that policy, beside a busy one or alone."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, __file__, "--child", "--size", arguments.size, "--seconds", str(arguments.seconds)]
    command += ["--tokens", str(arguments.tokens), *(["--compile"] if arguments.compile else [])]
    neighbour = subprocess.Popen(BUSY) if busy else None
    try:
        environment = {**kept, **policy, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Train by each policy in rounds, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--tokens", type=int, default=2048, help="of a step")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=[*POLICIES])
    parser.add_argument("--compile", action="store_true", help="train compiled code")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(steps(arguments.size, arguments.tokens, arguments.seconds, arguments.compile)))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the load of the machine is {load:.1f} before anything is measured", file=sys.stderr)
    counts = [cores, cores - 1] if cores > 1 else [cores]
    cases = [(name, threads) for name in arguments.policies for threads in counts]
    measured: dict[tuple[str, int], dict[bool, list[float]]] = {case: {False: [], True: []} for case in cases}
    for _ in range(arguments.rounds):
        for case in cases:
            for busy in (False, True):
                measured[case][busy].append(trained(arguments, POLICIES[case[0]], case[1], busy=busy))
    best = median(measured[cases[0]][False])
    print(f"{'policy':14} threads    alone   beside a busy process   (tokens/s; shares of {cases[0][0]} alone)")
    found: list[dict[str, Any]] = []
    for (name, threads), rates in measured.items():
        alone, beside = median(rates[False]), median(rates[True])
        print(f"{name:14} {threads:7} {alone:8,.0f} {alone / best:5.0%} {beside:8,.0f} {beside / best:5.0%}")
        found.append({"policy": name, "threads": threads, "alone": rates[False], "beside": rates[True]})
    keep(arguments.out, {"settings": settings_of(arguments), "load_before": load, "tokens_per_second": found})


if __name__ == "__main__":
    main()

"""What every benchmark says of the machine it ran on, and how it measures."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch

from movieplotgpt import atomic
from movieplotgpt.machine import cpu_info

GPU_PEAKS = {"H100 80GB HBM3": 989.4, "H200": 989.4, "A100": 312.0}
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def machine() -> dict[str, Any]:
    """Processor, its units, threads, versions."""
    cpu = cpu_info()
    gpu = {"gpu": torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {}
    return {
        **gpu,
        "processor": cpu.get("model name", platform.processor()),
        "units": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


def gpu_peak() -> float | None:
    """Dense bfloat16 TFLOP/s by the datasheet, of GPUs known here."""
    name = torch.cuda.get_device_name(0)
    return next((peak for known, peak in GPU_PEAKS.items() if known in name), None)


def seconds_of(work: Callable[[], object], *, repeats: int = 7, least: float = 0.05) -> float:
    """The median time of one call; each repeat calls often enough to last ``least`` seconds."""
    _seconds(work, 1)
    calls = max(1, int(least / max(_seconds(work, 1), 1e-9)))
    return median(_seconds(work, calls) / calls for _ in range(repeats))


def _seconds(work: Callable[[], object], calls: int) -> float:
    wait_for_gpu()
    began = time.perf_counter()
    for _ in range(calls):
        work()
    wait_for_gpu()
    return time.perf_counter() - began


def wait_for_gpu() -> None:
    """Until a GPU has done all it was handed."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a benchmark was asked for; of a path its last name, as the rest is this machine's affair."""
    return {key: value.name if isinstance(value, Path) else value for key, value in vars(arguments).items()}


def keep(out: Path | None, values: dict[str, Any]) -> None:
    """Write what was measured, with the machine, where ``--out`` says."""
    if out:
        atomic.write_text(out, json.dumps({"machine": machine(), **values}, indent=2) + "\n")
        print(f"kept in {out}")

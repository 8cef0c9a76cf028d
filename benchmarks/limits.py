"""What this machine can do at most: matrix products on the model's shapes, and memory bandwidth.

python benchmarks/limits.py --out results/limits.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from machine import keep, machine, seconds_of
from movieplotgpt.machine import keep_freed_memory
from movieplotgpt.model.sizes import LADDER

VOCABULARY = 4096


def shapes(size: str) -> dict[str, tuple[int, int]]:
    """The matrices of a size of the ladder: (inputs, outputs)."""
    _, n_embd, n_head, head_dim, n_ff = LADDER[size]  # type: ignore[index]
    return {
        "attention": (n_embd, n_head * head_dim),
        "up": (n_embd, n_ff),
        "down": (n_ff, n_embd),
        "head": (n_embd, VOCABULARY),
    }


def matmul_rates(tokens: int, fan_in: int, fan_out: int, dtype: torch.dtype, device: str) -> dict[str, float]:
    """TFLOP/s of y = x w, of the gradient of x and of that of w."""
    x, w, dy = (
        torch.randn(shape, device=device).to(dtype)
        for shape in ((tokens, fan_in), (fan_out, fan_in), (tokens, fan_out))
    )
    work = {"forward": lambda: x @ w.T, "input gradient": lambda: dy @ w, "weight gradient": lambda: dy.T @ x}
    return {name: 2e-12 * tokens * fan_in * fan_out / seconds_of(product) for name, product in work.items()}


def bandwidth(device: str, megabytes: int = 512) -> dict[str, float]:
    """GB/s of reading an array far larger than the cache, and of copying it (read and written bytes counted)."""
    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.empty_like(source)
    size = source.numel() * 4
    return {
        "read": size / seconds_of(lambda: source.sum(), least=0) / 1e9,
        "copy": 2 * size / seconds_of(lambda: target.copy_(source), least=0) / 1e9,
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["small", "base", "medium"], choices=list(LADDER))
    parser.add_argument("--tokens", type=int, default=8192, help="rows of the products (default 8192)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="default: as many as PyTorch takes")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    rows: list[dict[str, Any]] = []
    print(f"{'TFLOP/s':<26}{'':>10}{'forward':>10}{'input gr.':>10}{'weight gr.':>11}")
    for size in arguments.sizes:
        for name, (fan_in, fan_out) in shapes(size).items():
            for dtype in (torch.bfloat16, torch.float32):
                rates = matmul_rates(arguments.tokens, fan_in, fan_out, dtype, arguments.device)
                precision = str(dtype).removeprefix("torch.")
                rows.append({"size": size, "matrix": name, "shape": [fan_in, fan_out], "precision": precision, **rates})
                label = f"{size} {name} {fan_in}x{fan_out}"
                print(f"{label:<26}{precision:>10}" + "".join(f"{rate:>10.2f}" for rate in rates.values()))
    memory = bandwidth(arguments.device)
    print(f"memory: {memory['read']:.1f} GB/s read, {memory['copy']:.1f} GB/s copied")
    keep(
        arguments.out,
        {"device": arguments.device, "tokens": arguments.tokens, "matmul_tflops": rows, "bandwidth_gb_s": memory},
    )


if __name__ == "__main__":
    main()

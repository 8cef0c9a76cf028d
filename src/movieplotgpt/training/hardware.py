"""Which device, precision and compiler a run uses, each with the reason."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from movieplotgpt.errors import TrainingError
from movieplotgpt.training.run import TrainingSettings

# with AVX-512 but no AMX: bfloat16 products 0.16 TFLOP/s, float32 0.31 (two cores, results/LOG.md)
INTEL = "GenuineIntel"


@dataclass(frozen=True)
class Hardware:
    """The choice made, and why, one sentence each."""

    device: torch.device
    dtype: torch.dtype
    compile: bool
    reasons: tuple[str, ...]


def choose_hardware(settings: TrainingSettings) -> Hardware:
    """Turn "auto" into a device, a precision and compiled or eager.

    Raises:
        TrainingError: a device was asked for that is not here.
    """
    device, why_device = _device(settings.device)
    dtype, why_dtype = _precision(settings.precision, device)
    compiled, why_compiled = _compiler(settings.compile, device)
    return Hardware(device, dtype, compiled, (why_device, why_dtype, why_compiled))


def cpu_info() -> dict[str, str]:
    """What Linux says of the first processor (``vendor_id``, ``model name``, ``flags``); empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def device_name(device: torch.device) -> str:
    """What a GPU calls itself, else ``cpu`` or ``mps``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _device(wanted: str) -> tuple[torch.device, str]:
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted != "auto":
        if not here[wanted]:
            there_is = ", ".join(name for name, available in here.items() if available)
            raise TrainingError(f"device {wanted} is not available to this PyTorch; there is {there_is}")
        return torch.device(wanted), f"device {wanted}: as asked"
    name = next(name for name in ("cuda", "mps", "cpu") if here[name])
    if name == "cuda":
        why = f"{torch.cuda.get_device_name(0)} is the fastest device here"
    elif name == "mps":
        why = "Apple's GPU is the fastest device here"
    else:
        why = f"no GPU is visible to PyTorch; {torch.get_num_threads()} threads"
    return torch.device(name), f"device {name}: {why}"


def _precision(wanted: str, device: torch.device) -> tuple[torch.dtype, str]:
    if wanted != "auto":
        return getattr(torch, wanted), f"precision {wanted}: as asked"
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "precision bfloat16: the GPU has units for it"
    info = cpu_info() if device.type == "cpu" else {}
    flags = info.get("flags", "").split()
    if "amx_bf16" in flags or ("avx512_bf16" in flags and info.get("vendor_id") != INTEL):
        return torch.bfloat16, "precision bfloat16: the processor has units for it"
    if "avx512_bf16" in flags:
        return torch.float32, "precision float32: twice as fast as bfloat16 on an Intel processor without AMX"
    return torch.float32, f"precision float32: no bfloat16 units found in this {device.type}"


def _compiler(wanted: str, device: torch.device) -> tuple[bool, str]:
    if wanted != "auto":
        return wanted == "on", f"compile {wanted}: as asked"
    if device.type == "mps" or platform.system() == "Windows":
        return False, "compile off: not dependable on this platform"
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return False, "compile off: no C++ compiler found (install g++ or clang to train faster)"
    return True, "compile on: the first step takes longer, each later one less"


def device_memory(device: torch.device) -> int:
    """Bytes of memory ``device`` has; 0 where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return physical_memory()


def physical_memory() -> int:
    """Bytes of memory this process may use: the machine's, or less where a container sets a limit; 0 if not told."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    limits = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes"))
    for limit in limits:
        with suppress(OSError, ValueError):
            return min(installed, int(limit.read_text(encoding="ascii")))
    return installed


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks for reuse in place of handing them back after each; True where it could.

    A training step frees and asks for the same gigabytes again; without this each time costs page faults, two thirds of
    a step on a two-core AVX2 machine (results/LOG.md). For glibc; others are left as they are.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # glibc's malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 256 << 20))
        return all(libc.mallopt(name, value) for name, value in settings)
    except (OSError, AttributeError):
        return False

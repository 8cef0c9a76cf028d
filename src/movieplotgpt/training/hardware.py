"""Which device, precision and compiler a run uses, each with the reason."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from movieplotgpt.errors import TrainingError

if TYPE_CHECKING:
    from movieplotgpt.training.run import TrainingSettings

# with AVX-512 but no AMX: bfloat16 products 0.16 TFLOP/s, float32 0.31 (two cores, results/LOG.md)
INTEL = "GenuineIntel"
COMPILERS = ("clang++", "g++", "c++") if sys.platform == "darwin" else ("g++", "clang++", "c++")
PATIENCE = 60.0  # seconds for a compiler to build a library of one function


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
    """Return what Linux reports of the first processor (``vendor_id``, ``model name``, ``flags``); empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def device_name(device: torch.device) -> str:
    """Return a GPU's own name, or ``cpu`` or ``mps``."""
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
    if device.type == "cpu" and (fault := _choose_compiler()):
        return False, f"compile off: {fault}"
    return True, "compile on: the first step takes longer, each later one less"


def _choose_compiler() -> str | None:
    """Name a C++ compiler that works in CXX, where PyTorch looks for it; return what is wrong if there is none."""
    named = os.environ.get("CXX")
    names = [name for name in ([named] if named else COMPILERS) if shutil.which(name)]
    if not names:
        return f"no C++ compiler found{f' by the name of CXX={named}' if named else ''} (install g++ or clang to train faster)"
    faults = {name: compiler_fault(name) for name in names}
    working = next((name for name, fault in faults.items() if fault is None), None)
    if working is None:
        return f"{names[0]} does not work ({faults[names[0]]}); reinstall it to train faster"
    os.environ["CXX"] = working
    return None


@functools.cache
def compiler_fault(name: str) -> str | None:
    """Build a small library as PyTorch does, with OpenMP and Python's headers; return what went wrong, if anything."""
    openmp = ["-fopenmp"] if sys.platform == "linux" else []
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "probe.so")
        command = [name, "-x", "c++", "-shared", "-fPIC", *openmp, f"-I{sysconfig.get_paths()['include']}"]
        try:
            done = subprocess.run(
                [*command, "-o", str(library), "-"],
                input='#include <Python.h>\n#include <cmath>\nextern "C" double probe() { return std::sqrt(2.0); }\n',
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                encoding="utf-8",
                errors="replace",
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode == 0 and library.exists():
            return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else f"exit code {done.returncode}")


def device_memory(device: torch.device) -> int:
    """Return the bytes of memory of ``device``; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return physical_memory()


def physical_memory() -> int:
    """Return the bytes of memory this process may use: the machine's, or a container's limit; 0 if unknown."""
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

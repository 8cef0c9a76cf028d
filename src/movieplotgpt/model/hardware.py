"""Which device, precision and compiler a run uses, each with the reason."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Protocol

import torch

from movieplotgpt.errors import TrainingError
from movieplotgpt.machine import choose_compiler, cpu_info, physical_memory

# with AVX-512 but no AMX: bfloat16 products 0.16 TFLOP/s, float32 0.31 (two cores, results/LOG.md)
INTEL = "GenuineIntel"


@dataclass(frozen=True)
class Hardware:
    """The choice made, and why, one sentence each."""

    device: torch.device
    dtype: torch.dtype
    compile: bool
    reasons: tuple[str, ...]


class HardwareSettings(Protocol):
    """What is asked for: a name, or "auto"."""

    @property
    def device(self) -> str:
        """cpu, cuda or mps."""

    @property
    def precision(self) -> str:
        """float32 or bfloat16."""

    @property
    def compile(self) -> str:
        """Whether to use ``torch.compile``: on or off."""


def choose_hardware(settings: HardwareSettings) -> Hardware:
    """Turn "auto" into a device, a precision and compiled or eager.

    Raises:
        TrainingError: a device was asked for that is not here.
    """
    device, why_device = _device(settings.device)
    dtype, why_dtype = _precision(settings.precision, device)
    compiled, why_compiled = _compiler(settings.compile, device)
    return Hardware(device, dtype, compiled, (why_device, why_dtype, why_compiled))


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
    if device.type == "cpu" and (fault := choose_compiler()):
        return False, f"compile off: {fault}"
    return True, "compile on: the first step takes longer, each later one less"


def device_memory(device: torch.device) -> int:
    """Return the bytes of memory of ``device``; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return physical_memory()

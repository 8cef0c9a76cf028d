"""What the machine has: its processor, its memory, a C++ compiler that works."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

COMPILERS = ("clang++", "g++", "c++") if sys.platform == "darwin" else ("g++", "clang++", "c++")
PATIENCE = 60.0  # seconds for a compiler to build a library of one function


def cpu_info() -> dict[str, str]:
    """Return what Linux reports of the first processor (``vendor_id``, ``model name``, ``flags``); empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


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


def peak_memory() -> int:
    """Return the most bytes this process has held; 0 if unknown.

    Of this one alone: on Linux ``getrusage`` counts the process that started it, too.
    """
    try:
        peak = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        peak = None
    if peak:
        return int(peak[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


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


def choose_compiler() -> str | None:
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

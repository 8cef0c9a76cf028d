"""How many threads a session takes: what the system lets this process have."""

from __future__ import annotations

import math
import os
from pathlib import Path

VARIABLE = "OMP_NUM_THREADS"


def thread_count(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the variable OMP_NUM_THREADS, or else the processors that affinity and cgroup quota leave, at least one."""
    named = os.environ.get(VARIABLE, "").split(",")[0].strip()
    if named.isdecimal() and int(named) > 0:
        return int(named)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(group))))


def _quota(group: Path) -> float:
    """Processors' worth of time that the process's cgroup may use, version 2 or 1; infinite where nothing limits it."""
    try:
        own = next((line[3:] for line in _read(Path("/proc/self/cgroup")).splitlines() if line.startswith("0::")), "")
        folder, limits = group / own.strip("/"), [math.inf]
        while folder.is_relative_to(group):
            if (folder / "cpu.max").is_file():
                limits.append(_processors(*_read(folder / "cpu.max").split()))
            folder = folder.parent
        if len(limits) > 1:
            return min(limits)
        return _processors(*(_read(group / "cpu" / f"cpu.cfs_{part}_us") for part in ("quota", "period")))
    except (OSError, ValueError, TypeError, ZeroDivisionError):  # no cgroups, or none that tell
        return math.inf


def _processors(quota: str, period: str) -> float:
    return int(quota) / int(period) if quota.strip() not in ("max", "-1") else math.inf


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii")

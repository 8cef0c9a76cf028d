"""What the machine has, and what happens where the system does not report it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from movieplotgpt import machine
from movieplotgpt.machine import compiler_fault, cpu_info, keep_freed_memory, physical_memory


@pytest.mark.skipif(sys.platform != "linux", reason="shell scripts for compilers")
@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("exit 1", "exit code 1"),
        ("exit 0", "exit code 0"),
        ("echo 'note: x' >&2; echo 'error: no cc1plus' >&2; exit 1", "error: no cc1plus"),
        (None, "No such file or directory"),
    ],
)
def test_a_compiler_is_tried(tmp_path: Path, script: str | None, fault: str) -> None:
    compiler = tmp_path / "g++"
    if script:
        compiler.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        compiler.chmod(0o755)
    assert fault in (compiler_fault(str(compiler)) or "it works")


@pytest.mark.usefixtures("compiler")
def test_the_compiler_that_is_chosen_works() -> None:
    assert compiler_fault(os.environ["CXX"]) is None


def test_what_the_system_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(os, "sysconf", refuse)
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert cpu_info() == {}
    assert physical_memory() == 0
    assert keep_freed_memory() is False


def test_the_first_processor_speaks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor : 0\nmodel name : amx_bf16 in name only\nflags\t\t: fpu avx2 fma\n\nprocessor : 1\nflags : fpu\n"
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: text)
    assert cpu_info() == {"processor": "0", "model name": "amx_bf16 in name only", "flags": "fpu avx2 fma"}


@pytest.mark.parametrize(
    ("name", "limit", "memory"),
    [
        ("memory.max", "3000000", 3_000_000),
        ("memory.max", "9000000", 8_000_000),
        ("memory.max", "max", 8_000_000),
        ("memory/memory.limit_in_bytes", "3000000", 3_000_000),
        ("memory/memory.limit_in_bytes", "9223372036854771712", 8_000_000),
        ("of another system", "3000000", 8_000_000),
    ],
)
def test_a_container_has_the_memory_of_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: str, memory: int
) -> None:
    file = tmp_path / "sys/fs/cgroup" / name
    file.parent.mkdir(parents=True)
    file.write_text(f"{limit}\n", encoding="ascii")
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / path.removeprefix("/"))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4000, "SC_PHYS_PAGES": 2000}.__getitem__)
    assert physical_memory() == memory


def test_peak_memory_is_that_of_the_process_alone() -> None:
    code = "from movieplotgpt.machine import peak_memory; print(peak_memory())"
    held = np.ones(800 << 20, dtype=np.uint8)  # in this process, so that a child would inherit it
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert held.any() and 0 < int(told) < 400e6

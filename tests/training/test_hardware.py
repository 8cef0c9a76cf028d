"""Device, precision and compiler: chosen for a reason that is said, or as asked."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from pathlib import Path

import pytest
import torch

from movieplotgpt.errors import TrainingError
from movieplotgpt.training import hardware
from movieplotgpt.training.hardware import choose_hardware, compiler_fault, cpu_info, keep_freed_memory, physical_memory
from movieplotgpt.training.run import TrainingSettings


class Machine:
    """What a machine offers, as far as PyTorch and the path tell."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.offers()

    def offers(
        self,
        *,
        cuda: bool = False,
        mps: bool = False,
        bf16: bool = False,
        flags: str = "",
        vendor: str = "AuthenticAMD",
        compiler: str | None = None,
        fault: str | None = None,
        system: str = "Linux",
    ) -> None:
        self.patch.setattr(torch.cuda, "is_available", lambda: cuda)
        self.patch.setattr(torch.cuda, "get_device_name", lambda index: "Imaginary 9000")
        self.patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
        self.patch.setattr(torch.backends.mps, "is_available", lambda: mps)
        self.patch.setattr(hardware, "cpu_info", lambda: {"flags": flags, "vendor_id": vendor})
        self.patch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == compiler else None)
        self.patch.setattr(hardware, "compiler_fault", lambda name: fault)
        self.patch.setattr(platform, "system", lambda: system)
        self.patch.setenv("CXX", "")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_bare_cpu(machine: Machine) -> None:
    chosen = choose_hardware(TrainingSettings())
    assert (chosen.device.type, chosen.dtype, chosen.compile) == ("cpu", torch.float32, False)
    assert chosen.reasons == (
        f"device cpu: no GPU is visible to PyTorch; {torch.get_num_threads()} threads",
        "precision float32: no bfloat16 units found in this cpu",
        "compile off: no C++ compiler found (install g++ or clang to train faster)",
    )


@pytest.mark.parametrize("compiler", ["g++", "clang++", "c++"])
def test_a_compiler_is_used(machine: Machine, compiler: str) -> None:
    machine.offers(compiler=compiler)
    chosen = choose_hardware(TrainingSettings())
    assert chosen.compile and chosen.reasons[2].startswith("compile on: ")
    assert os.environ["CXX"] == compiler, "PyTorch itself looks for no other than g++"


def test_a_compiler_that_does_not_work_is_not_used(machine: Machine) -> None:
    machine.offers(compiler="g++", fault="no cc1plus")
    chosen = choose_hardware(TrainingSettings())
    assert not chosen.compile
    assert chosen.reasons[2] == "compile off: g++ does not work (no cc1plus); reinstall it to train faster"


def test_the_compiler_named_in_cxx_is_the_one(machine: Machine) -> None:
    machine.offers(compiler="g++")
    os.environ["CXX"] = "nowhere-g++"
    reason = choose_hardware(TrainingSettings()).reasons[2]
    assert (
        reason
        == "compile off: no C++ compiler found by the name of CXX=nowhere-g++ (install g++ or clang to train faster)"
    )


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


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [("fma avx2", torch.float32), ("avx2 amx_bf16", torch.bfloat16), ("avx512_bf16 sse", torch.bfloat16)],
)
def test_bfloat16_where_the_processor_has_units_for_it(machine: Machine, flags: str, dtype: torch.dtype) -> None:
    machine.offers(flags=flags)
    assert choose_hardware(TrainingSettings()).dtype is dtype


@pytest.mark.parametrize(("flags", "dtype"), [("avx512_bf16", torch.float32), ("avx512_bf16 amx_bf16", torch.bfloat16)])
def test_but_not_where_they_are_slower_than_float32(machine: Machine, flags: str, dtype: torch.dtype) -> None:
    machine.offers(flags=flags, vendor="GenuineIntel")
    assert choose_hardware(TrainingSettings()).dtype is dtype


@pytest.mark.parametrize("bf16", [True, False])
def test_a_gpu_comes_first(machine: Machine, bf16: bool) -> None:
    machine.offers(cuda=True, mps=True, bf16=bf16, flags="amx_bf16")
    chosen = choose_hardware(TrainingSettings())
    assert (chosen.device.type, chosen.compile) == ("cuda", True)
    assert chosen.dtype is (torch.bfloat16 if bf16 else torch.float32)
    assert chosen.reasons[0] == "device cuda: Imaginary 9000 is the fastest device here"


def test_apple_s_gpu_is_not_compiled_for(machine: Machine) -> None:
    machine.offers(mps=True, compiler="clang++", flags="amx_bf16")
    chosen = choose_hardware(TrainingSettings())
    assert (chosen.device.type, chosen.dtype, chosen.compile) == ("mps", torch.float32, False)
    assert chosen.reasons[2] == "compile off: not dependable on this platform"


def test_nor_is_windows(machine: Machine) -> None:
    machine.offers(compiler="g++", system="Windows")
    assert not choose_hardware(TrainingSettings()).compile


def test_what_is_asked_for_is_done(machine: Machine) -> None:
    machine.offers(cuda=True, bf16=True, compiler="g++")
    chosen = choose_hardware(TrainingSettings(device="cpu", precision="bfloat16", compile="off"))
    assert (chosen.device.type, chosen.dtype, chosen.compile) == ("cpu", torch.bfloat16, False)
    assert chosen.reasons == ("device cpu: as asked", "precision bfloat16: as asked", "compile off: as asked")
    assert choose_hardware(TrainingSettings(device="cpu", compile="on")).compile


@pytest.mark.parametrize(("device", "there_is"), [("cuda", "mps, cpu"), ("mps", "cpu")])
def test_a_device_that_is_not_here(machine: Machine, device: str, there_is: str) -> None:
    machine.offers(mps=device == "cuda")
    with pytest.raises(TrainingError, match=f"^device {device} is not available to this PyTorch; there is {there_is}$"):
        choose_hardware(TrainingSettings.model_validate({"device": device}))


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
    monkeypatch.setattr(hardware, "Path", lambda path: tmp_path / path.removeprefix("/"))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4000, "SC_PHYS_PAGES": 2000}.__getitem__)
    assert physical_memory() == memory

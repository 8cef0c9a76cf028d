"""Device, precision and compiler: chosen for a reason that is said, or as asked."""

from __future__ import annotations

import os
import platform
import shutil

import pytest
import torch

import movieplotgpt.machine
from movieplotgpt.errors import TrainingError
from movieplotgpt.model import hardware
from movieplotgpt.model.hardware import choose_hardware
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
        self.patch.setattr(movieplotgpt.machine, "compiler_fault", lambda name: fault)
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

"""``movieplotgpt doctor``: what this machine offers, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from json import dumps

from movieplotgpt import __version__
from movieplotgpt.engine.places import cache_folder, weights_folder

EXTRAS = {
    "torch": ("train", "training and evaluating models"),
    "polars": ("train", "tables to train on"),
    "zstandard": ("train", "texts compressed as .zst"),
    "matplotlib": ("plots", "the loss figure"),
    "pyppmd": ("evaluate", "the PPMd compressor beside bits per character"),
    "tensorboard": ("track", "TensorBoard logs"),
}


def doctor(*, json: bool = False) -> None:
    """Show what text is generated with, what models are trained with, memory, versions and what is not installed.

    Args:
        json: Print JSON.
    """
    import onnxruntime

    from movieplotgpt.engine.byte_products import sums_are_exact
    from movieplotgpt.engine.threads import thread_count

    missing = [package for package in EXTRAS if importlib.util.find_spec(package) is None]
    facts = {
        "movieplotgpt": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "onnxruntime": onnxruntime.__version__,
        "threads": f"{thread_count()} of {os.cpu_count()} cores",
        "int8 products": "exact: this processor adds them up without overflow"
        if sums_are_exact()
        else "exact, by slower kernels: this processor's own would overflow",
        "graph cache": _graph_cache(),
        **({} if "torch" in missing else _training()),
        "disk free here": f"{shutil.disk_usage('.').free / 1e9:.1f} GB",
        "published models": ", ".join(sorted(p.parent.name for p in weights_folder().glob("*/config.json"))) or "none",
    }
    lines = [f"{name} ({EXTRAS[name][1]}): pip install 'movieplotgpt[{EXTRAS[name][0]}]'" for name in missing]
    if json:
        print(dumps({**facts, "missing": lines}, indent=2))
        return
    for name, value in facts.items():
        print(f"{name:<17} {value}")
    for line in lines:
        print(f"not installed     {line}")


def _graph_cache() -> str:
    try:
        folder = cache_folder("graphs")
        size = sum(path.stat().st_size for path in folder.glob("*.onnx"))
    except OSError as error:
        return f"none ({error.strerror})"
    return f"{size / 1e6:.1f} MB in {folder}"


def _training() -> dict[str, str]:
    """Return what PyTorch would train with here."""
    import torch

    from movieplotgpt.machine import physical_memory
    from movieplotgpt.model.hardware import choose_hardware
    from movieplotgpt.training.run import TrainingSettings

    device, precision, compiler = choose_hardware(TrainingSettings()).reasons
    return {
        "torch": torch.__version__,
        "device": device,
        "precision": precision,
        "compiler": compiler,
        "training threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "memory": f"{physical_memory() / 1e9:.1f} GB",
    }

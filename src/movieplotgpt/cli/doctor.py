"""``movieplotgpt doctor``: what this machine offers, and what is missing."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

EXTRAS = {
    "matplotlib": ("plots", "the loss figure"),
    "pyppmd": ("evaluate", "the PPMd compressor beside bits per character"),
    "tensorboard": ("track", "TensorBoard logs"),
}


def doctor(*, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show device, precision, compiler, memory, versions and what is not installed.

    Args:
        json: Print JSON.
    """
    import importlib.util
    import os
    import platform
    import shutil

    import torch

    from movieplotgpt import __version__
    from movieplotgpt.model.checkpoints import weights_folder
    from movieplotgpt.training.hardware import choose_hardware, physical_memory
    from movieplotgpt.training.run import TrainingSettings

    device, precision, compiler = choose_hardware(TrainingSettings()).reasons
    facts = {
        "movieplotgpt": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "device": device,
        "precision": precision,
        "compiler": compiler,
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "memory": f"{physical_memory() / 1e9:.1f} GB",
        "disk free here": f"{shutil.disk_usage('.').free / 1e9:.1f} GB",
        "published models": ", ".join(sorted(p.parent.name for p in weights_folder().glob("*/config.json"))) or "none",
    }
    missing = [
        f"{package} ({what}): pip install 'movieplotgpt[{extra}]'"
        for package, (extra, what) in EXTRAS.items()
        if importlib.util.find_spec(package) is None
    ]
    if json:
        from json import dumps

        print(dumps({**facts, "missing": missing}, indent=2))
        return
    for name, value in facts.items():
        print(f"{name:<17} {value}")
    for line in missing:
        print(f"not installed     {line}")

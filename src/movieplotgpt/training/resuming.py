"""What a checkpoint needs to resume exactly (optimizer, step, best score), and what it records of its run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file

from movieplotgpt.atomic import recover_folder
from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.weight_files import save_tensors
from movieplotgpt.text.token_files import Manifest

FOLDER = "training"


@dataclass
class RunProgress:
    """The progress of a run. A batch is a function of its step, so no loader state is kept."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # when it is read

    step: Annotated[int, Field(ge=0)] = 0  # steps done
    total_steps: int | None = None  # None until a budget in minutes has been turned into steps
    planned_at: int = 0  # the step at which total_steps was last changed, and what had been reached by then:
    planned_rate: float = 1.0  # the multiplier of the learning rate, warm-up aside
    planned_evaluations: int = 0
    look_seconds: float | None = None  # what the last evaluation took, with saving and sampling
    best_bits: float | None = None  # bits per character
    evaluated: int = 0  # the step that was scored last
    curve: list[list[float]] = field(default_factory=list)  # step and bits per character of each evaluation
    evaluations_since_best: int = 0
    seconds: float = 0.0
    compiled: bool = False
    threads: int = 0
    workers: int = 1
    parts: Annotated[int, Field(ge=1)] = 1  # in how many a batch is taken, for want of memory
    skipped: int = 0  # steps whose loss was NaN or infinite
    skipped_in_a_row: int = 0


def write_state(folder: Path, progress: RunProgress, model: GPT, optimizers: list[torch.optim.Optimizer]) -> None:
    """Write ``training/`` into a model folder that is being written."""
    target = folder / FOLDER
    target.mkdir()
    names = {id(weight): name for name, weight in model.named_parameters()}
    tensors = {}
    for i, optimizer in enumerate(optimizers):
        for weight, state in optimizer.state.items():
            for key, value in state.items():
                tensors[f"{i}/{names[id(weight)]}/{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    save_tensors(tensors, target / "optimizer.safetensors")
    (target / "progress.json").write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")


def run_record(
    settings: dict[str, Any],
    manifest: Manifest,
    progress: RunProgress,
    tokens_per_step: int,
    before: list[dict[str, Any]],
    **place: str,
) -> dict[str, Any]:
    """Return the record of a run for its model folder: text, settings, this training and earlier ones."""
    record = {
        "corpus": {
            "hash": manifest.corpus_hash,
            "split_hash": manifest.split_hash,
            "cleaner_hash": manifest.cleaner_hash,
            "source": manifest.source.name,
            "source_sha256": manifest.source.sha256,
            "hint_values": {name: [*values] for name, values in manifest.hint_values.items()},
        },
        "settings": settings,
        "training": {
            "step": progress.step,
            "total_steps": progress.total_steps,
            "tokens": progress.step * tokens_per_step,
            "seconds": round(progress.seconds, 1),
            "validation_bits_per_character": progress.best_bits,
            "curve": progress.curve,
            **place,  # device and precision
            "threads": progress.threads,
            "workers": progress.workers,
            "torch": torch.__version__.partition("+")[0],
        },
    }
    return {**record, "trained_before": before} if before else record


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that the run with the checkpoint ``folder`` began with.

    Raises:
        CheckpointError: there is nothing to resume from, or it is damaged.
    """
    recover_folder(folder)
    if not (folder / FOLDER).is_dir():
        raise CheckpointError(
            f"{folder} holds nothing to resume from; leave resume=True out, or train with from_={folder}"
        )
    try:
        settings = json.loads((folder / "movieplotgpt.json").read_text(encoding="utf-8"))["settings"]
        if not isinstance(settings, dict):
            raise TypeError("its settings are not an object")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'movieplotgpt.json'} is damaged ({error}); train again") from None
    return settings


def read_state(folder: Path, model: GPT, optimizers: list[torch.optim.Optimizer]) -> RunProgress:
    """Fill ``optimizers`` from the checkpoint in ``folder`` and return its progress.

    Raises:
        CheckpointError: there is nothing to resume from, or it is damaged.
    """
    source = folder / FOLDER
    try:
        progress = TypeAdapter(RunProgress).validate_json((source / "progress.json").read_bytes(), strict=True)
        tensors = load_file(source / "optimizer.safetensors")
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} holds nothing to resume from; leave resume=True out, or train with from_={folder}"
        ) from None
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{source} is damaged ({reason}); train with from_={folder} to keep its weights"
        ) from None
    weights = dict(model.named_parameters())
    try:
        for name, value in tensors.items():
            i, weight, key = name.split("/")
            # copied: `value` maps the file, and Windows renames no folder with a mapped file in it
            optimizers[int(i)].state[weights[weight]][key] = value.to(weights[weight].device, copy=True)
    except (LookupError, ValueError):
        raise CheckpointError(
            f"{source / 'optimizer.safetensors'} is of another model or optimizer ({name}); "
            f"train with from_={folder} to keep its weights"
        ) from None
    return progress

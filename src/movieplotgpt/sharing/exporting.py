"""A checkpoint in the form of other tools, which write from it before it is kept: what they write must be ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from movieplotgpt import atomic
from movieplotgpt.errors import CheckpointError, ConfigError, MissingExtraError
from movieplotgpt.generation.prompts import PromptForm
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, write_description, write_model_files
from movieplotgpt.sharing.modelfile import modelfile
from movieplotgpt.sharing.onnx_file import save_onnx
from movieplotgpt.sharing.runners import LLAMA_CPP, ONNX_RUNTIME, OWN, TRANSFORMERS, Runner, Written

Target: TypeAlias = Literal["gguf", "onnx", "hf-bf16", "int8"]
FileType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0"]  # of one file, for another program
WeightType: TypeAlias = FileType | Literal["int8"]
TOKENS = 64  # that are compared
TITLE = "The Lighthouse Keeper's Daughter"
TYPES: Mapping[Target, tuple[WeightType, ...]] = {  # the first where none is asked for
    "gguf": ("bf16", "f32", "f16", "q8_0"),
    "onnx": ("f32", "f16", "bf16", "q8_0"),
    "hf-bf16": ("bf16",),
    "int8": ("int8",),
}
RUNNERS: Mapping[Target, Runner] = {
    "gguf": LLAMA_CPP,
    "onnx": ONNX_RUNTIME,
    "hf-bf16": TRANSFORMERS,
    "int8": OWN,
}
# Nats by which a token may be less likely than the model's own choice: what rounding decides is a tie
TIES: Mapping[WeightType, float] = {"f32": 1e-3, "f16": 0.05, "bf16": 0.2, "q8_0": 1.0, "int8": 1.0}


@dataclass(frozen=True)
class Exported:
    """What was written: the file to hand to a tool, or the folder.

    Of ``tokens`` that ``runner`` found likeliest, one after the other, ``agreeing`` are the model's own choice, too: if
    all are, the texts are equal. Both are None where the runner is not installed.
    """

    path: Path
    size: int
    runner: Runner
    tokens: int | None = None
    agreeing: int | None = None


def chosen_types(to: Target | Literal["all"], weights: WeightType | None = None) -> dict[Target, WeightType]:
    """Return the formats that ``to`` names, each with its type of weights: the one asked for, if the format has it.

    Raises:
        ConfigError: the target has no such weights.
        MissingExtraError: what writes one of them is not installed.
    """
    targets: tuple[Target, ...] = tuple(TYPES) if to == "all" else (to,)
    if to != "all" and weights is not None and weights not in TYPES[to]:
        raise ConfigError(f"{to} has no weights of type {weights}; take one of {', '.join(TYPES[to])}")
    for target in targets:
        _require(target)
    return {target: weights if weights in TYPES[target] and weights else TYPES[target][0] for target in targets}


def export(checkpoint: Checkpoint, target: Target, weights: WeightType, out: Path) -> Exported:
    """Write ``checkpoint`` into a new folder of ``out`` named after target and type, and let the target's runner write from it.

    Raises:
        CheckpointError: the runner cannot run it, or writes what is not the model's; nothing is kept.
        ConfigError: the folder is there already, or the model has no such weights.
        MissingExtraError: what writes the target is not installed.
        StorageError: the disk refuses; nothing is kept.
    """
    folder = out / (target if len(TYPES[target]) == 1 else f"{target}-{weights}")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; remove it, or name another folder with out=FOLDER")
    _require(target)
    runner = RUNNERS[target]
    with atomic.replacing_folder(folder) as partial:
        written = _write(checkpoint, partial, target, weights)
        size = sum(path.stat().st_size for path in partial.iterdir()) if written.is_dir() else written.stat().st_size
        found = _verify(checkpoint, runner, written, TIES[weights]) if runner.installed else None
    counts = () if found is None else (len(found), found.count(0))
    return Exported(folder / written.relative_to(partial), size, runner, *counts)


def prompt_ids(checkpoint: Checkpoint, title: str = TITLE) -> list[int]:
    """The BOS token and the header of a film, where the model knows titles."""
    prompt = PromptForm(checkpoint).from_title(title if checkpoint.format.header else "")
    return [checkpoint.tokenizer.end_id, *checkpoint.tokenizer.encode(prompt.header).tolist()]


def gaps(checkpoint: Checkpoint, prompt: list[int], written: Written) -> list[float]:
    """Return for each token by how many nats the model finds another one likelier; 0 if it is the model's choice."""
    tokens = [*written.tokens, *([checkpoint.tokenizer.end_id] if written.ended else [])]
    if not tokens:
        return []
    with torch.no_grad():
        ids_BT = torch.tensor([[*prompt, *tokens]], device=checkpoint.model.cos_TD.device)
        logits_TV = checkpoint.model(ids_BT[:, :-1])[0, len(prompt) - 1 :]
    own_T = logits_TV.gather(-1, ids_BT[0, len(prompt) :, None])[:, 0]
    found: list[float] = (logits_TV.amax(-1) - own_T).tolist()
    return found


def _verify(checkpoint: Checkpoint, runner: Runner, path: Path, tie: float) -> list[float]:
    prompt = prompt_ids(checkpoint)
    tokens = min(TOKENS, checkpoint.config.context_length - len(prompt))
    written = runner.write(path, prompt, tokens, end_id=checkpoint.tokenizer.end_id)
    if len(written.tokens) < tokens and not written.ended:
        raise CheckpointError(
            f"{runner.name} wrote {len(written.tokens)} tokens from {path.name} in place of {tokens}; nothing was kept, "
            f"try another version of {runner.package}"
        )
    found = gaps(checkpoint, prompt, written)
    if max(found, default=0) > tie:
        place = next(place for place, gap in enumerate(found) if gap > tie)
        raise CheckpointError(
            f"{runner.name} writes another text from {path.name} than the model: its token {place + 1} is "
            f"{found[place]:.2f} nats less likely than the model's; nothing was kept, try another type"
        )
    return found


def _require(target: Target) -> None:
    if target == "gguf" and find_spec("gguf") is None:
        raise MissingExtraError("gguf", "gguf")


def _write(checkpoint: Checkpoint, folder: Path, target: Target, weights: WeightType) -> Path:
    """The file to hand to a tool, or the folder."""
    if weights == "int8" or target not in ("gguf", "onnx"):
        write_model_files(folder, checkpoint, dtype=torch.int8 if weights == "int8" else torch.bfloat16)
        load_checkpoint(folder)
        return folder
    if target == "onnx":
        path = folder / "onnx" / "model.onnx"  # where transformers.js looks for it
        path.parent.mkdir()
        save_onnx(checkpoint, path, weights)
        write_description(folder, checkpoint, torch.float32)
        _name_one_file(folder / "config.json")
        return path
    from movieplotgpt.sharing.gguf_file import save_gguf

    path = folder / f"{model_name(checkpoint)}-{weights}.gguf"
    save_gguf(checkpoint, path, weights)
    atomic.write_text(folder / "Modelfile", modelfile(checkpoint, path.name))
    return path


def _name_one_file(config: Path) -> None:
    """Let transformers.js read ``model.onnx`` in a browser, too, where it looks for ``model_quantized.onnx`` by itself."""
    values = json.loads(config.read_text(encoding="utf-8"))
    atomic.write_text(config, json.dumps({**values, "transformers.js_config": {"dtype": "fp32"}}, indent=2) + "\n")


def model_name(checkpoint: Checkpoint) -> str:
    """Return the name for files: that of the model's folder, or the run's."""
    folder = checkpoint.folder.resolve() if checkpoint.folder else Path("movieplotgpt")
    return folder.parent.name if folder.name in ("best", "last") else folder.name

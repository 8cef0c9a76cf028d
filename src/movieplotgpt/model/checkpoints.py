"""The model folder: a Hugging Face model in the Qwen3 layout, plus ``movieplotgpt.json``.

Safetensors and JSON only: nothing a stranger publishes is executed. A folder is written whole or not at all.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from movieplotgpt.atomic import replacing_folder
from movieplotgpt.engine.huggingface import generation_config, huggingface_config
from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.engine.model_folder import FORMAT_VERSION, TextModel, load_folder
from movieplotgpt.engine.quantization import F32
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.weight_files import NO_LIMIT, save_bytes, save_weights
from movieplotgpt.text.chat_template import chat_template


@dataclass(frozen=True, kw_only=True)
class Checkpoint(TextModel):
    """A network that can be trained, and all that is needed to use it; no data file is."""

    model: GPT

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", self.model.config)  # also when another model replaces this one

    def weights(self) -> dict[str, F32]:
        """Return the weights as they are now, by name, in float32."""
        state = {name: value.detach().float().cpu().numpy() for name, value in self.model.state_dict().items()}
        if self.config.tie_embeddings:
            del state["lm_head.weight"]
        return state

    def version(self) -> tuple[object, ...]:
        """Return what changes whenever the weights do."""
        return tuple((weight.data_ptr(), weight._version) for weight in self.model.parameters())


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, dtype: torch.dtype | None = None) -> None:
    """Write ``checkpoint`` as a model folder, its weights in ``dtype`` (default: as they are).

    Raises:
        StorageError: the disk refused; what was there before is untouched.
    """
    with replacing_folder(folder) as partial:
        write_model_files(partial, checkpoint, dtype=dtype)


def write_model_files(
    folder: Path, checkpoint: Checkpoint, *, dtype: torch.dtype | None = None, largest_file: int = NO_LIMIT
) -> None:
    """Write the files of a model folder into an existing folder; weights of more bytes than ``largest_file`` in several.

    With torch.int8 matrices become bytes, and the folder one that only this library reads.
    """
    model, as_bytes = checkpoint.model, dtype == torch.int8
    dtype = torch.float32 if as_bytes else dtype or model.model.embed_tokens.weight.dtype
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_embeddings:
        del weights["lm_head.weight"]
    if as_bytes:
        save_bytes(weights, folder)
    else:
        save_weights(weights, folder, largest_file=largest_file)
    write_description(folder, checkpoint, dtype)


def write_description(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Write the files of a model folder that accompany its weights, into an existing folder."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    text = {
        "document_format": checkpoint.format.model_dump(mode="json"),
        "cleaning": checkpoint.cleaning.model_dump(mode="json"),
    }
    special = {"bos_token_id": tokenizer.end_id, "eos_token_id": tokenizer.end_id, "pad_token_id": tokenizer.pad_id}
    values = huggingface_config(config, str(dtype).removeprefix("torch."))
    _write_json(folder / "config.json", {**values, **special, "movieplotgpt": text})
    _write_json(folder / "generation_config.json", {**special, **generation_config(config)})
    template = chat_template(checkpoint.format, checkpoint.cleaning, tokenizer)
    tokenizer.save(folder, model_max_length=config.context_length, chat_template=template)
    about = {
        **checkpoint.info,
        "format_version": FORMAT_VERSION,
        **text,
    }
    _write_json(folder / "movieplotgpt.json", about)


def load_checkpoint(name: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a model folder, by published NAME or path, in float32 and evaluation mode.

    Raises:
        CheckpointError: a file is missing or damaged, or the format is another version's.
    """
    about = load_folder(name)
    model = network(about.config, about.weights())
    return Checkpoint(**{**vars(about), "model": model.eval().to(device)})


def network(config: ModelConfig, weights: Mapping[str, F32]) -> GPT:
    """Return the network of ``config`` with a copy of these weights; none are drawn."""
    with torch.device("meta"):
        model = GPT(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # arrays read from a file are not writable; they are copied
        own = {name: torch.from_numpy(value).clone() for name, value in weights.items()}
    if config.tie_embeddings:
        own["lm_head.weight"] = own["model.embed_tokens.weight"]
    model.load_state_dict(own, assign=True)
    if config.tie_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def trained_before(start_from: Checkpoint | None) -> list[dict[str, Any]]:
    """Return the earlier trainings of a checkpoint, oldest first: the record of each, and its corpus."""
    if start_from is None or "training" not in start_from.info:
        return []
    info = start_from.info
    last = {**info["training"], "corpus_hash": info.get("corpus", {}).get("hash")}
    return [*info.get("trained_before", []), last]


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

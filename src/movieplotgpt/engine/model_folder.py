"""A model folder without its weights: dimensions, tokenizer, document format; the weights are read when they are needed."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from movieplotgpt.engine.huggingface import model_config_from
from movieplotgpt.engine.model_config import ModelConfig, parameters
from movieplotgpt.engine.model_record import ModelRecord, fault
from movieplotgpt.engine.places import resolve
from movieplotgpt.engine.quantization import F32
from movieplotgpt.engine.weight_files import load_weights, remembered_sha256, weight_files
from movieplotgpt.errors import CheckpointError
from movieplotgpt.text.cleaning import CleaningSettings
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.tokenizer import Tokenizer
from movieplotgpt.text.tokenizer_json import load_tokenizer

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TextModel(ABC):
    """What text is generated with: a `ModelFolder` on disk, or the `Checkpoint` of a training in memory."""

    config: ModelConfig
    tokenizer: Tokenizer
    format: DocumentFormat
    cleaning: CleaningSettings
    info: dict[str, Any]  # the rest of movieplotgpt.json, as it is written again
    folder: Path | None = None

    @property
    def record(self) -> ModelRecord:
        """What ``info`` says, typed."""
        return ModelRecord.model_validate(self.info, strict=False)

    @abstractmethod
    def weights(self) -> dict[str, F32]:
        """Return the weights by name, in float32, tied ones once."""

    @abstractmethod
    def version(self) -> object:
        """Return what changes whenever the weights do; a string names weights on disk by their SHA-256."""


@dataclass(frozen=True)
class ModelFolder(TextModel):
    """A model folder on disk."""

    folder: Path

    def weights(self) -> dict[str, F32]:
        """Read the weights.

        Raises:
            CheckpointError: a file is missing or damaged, or does not fit ``config.json``.
        """
        return fitting_weights(self.config, load_weights(self.folder), self.folder)

    def version(self) -> str:
        """Return the SHA-256 of the weights.

        Raises:
            CheckpointError: a file is missing or cannot be read.
        """
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        try:
            return remembered_sha256(self.folder)
        except FileNotFoundError as error:
            missing = Path(error.filename).name
            raise CheckpointError(f"{self.folder} has no {missing}; copy or download the model again") from None
        except OSError as error:
            place = error.filename or self.folder
            raise CheckpointError(
                f"{place} cannot be read ({error.strerror}); copy or download the model again"
            ) from None


def load_folder(name: str | Path) -> ModelFolder:
    """Read all of a model folder but its weights, by published NAME or path.

    Raises:
        CheckpointError: a file is missing or damaged, or the format is another version's.
    """
    folder = resolve(name)
    if not (folder / "movieplotgpt.json").exists() and (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder} was saved by another program: it has no movieplotgpt.json; make it a model of movieplotgpt: "
            f"movieplotgpt import {folder} -o FOLDER"
        )
    about = read_json(folder, "movieplotgpt.json")
    if about.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {about.get('format_version')}, this version reads {FORMAT_VERSION}; "
            "install the movieplotgpt that wrote it, or export it again"
        )
    config = model_config_from(read_json(folder, "config.json"), folder)
    try:
        document_format = DocumentFormat.model_validate(about.pop("document_format"))
        cleaning = CleaningSettings.model_validate(about.pop("cleaning"))
    except (KeyError, ValidationError):
        raise CheckpointError(f"{folder / 'movieplotgpt.json'} is damaged; copy or download the model again") from None
    if reason := fault(about):
        raise CheckpointError(f"{folder / 'movieplotgpt.json'} is damaged ({reason}); copy or download the model again")
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} has {tokenizer.vocab_size} tokens and the model only "
            f"{config.vocab_size}; copy or download the model again"
        )
    return ModelFolder(config, tokenizer, document_format, cleaning, about, folder)


def fitting_weights(config: ModelConfig, weights: dict[str, F32], folder: Path) -> dict[str, F32]:
    """Return the weights that a network of ``config`` has, tied ones once.

    Raises:
        CheckpointError: one is missing, superfluous or of another shape.
    """
    names = ", ".join(path.name for path in weight_files(folder))
    here = sum(value.size for value in weights.values())
    if parameters(config) > 2 * here:  # smaller differences are reported by tensor; for this no memory is taken
        raise CheckpointError(
            f"{folder / 'config.json'} describes a far larger network than the {here:,} weights of {names}; copy or "
            "download the model again"
        )
    expected = shapes(config)
    if config.tie_embeddings:
        weights = {name: value for name, value in weights.items() if name != "lm_head.weight"}
    if missing := [name for name in expected if name not in weights]:
        reason = f"{missing[0]} is missing"
    elif unknown := [name for name in weights if name not in expected]:
        reason = f"{unknown[0]} is not part of the network"
    elif wrong := [name for name, shape in expected.items() if weights[name].shape != shape]:
        found, wanted = weights[wrong[0]].shape, expected[wrong[0]]
        reason = f"{wrong[0]} has the shape {found} instead of {wanted}"
    else:
        return weights
    raise CheckpointError(f"{folder / names} does not fit {folder / 'config.json'}: {reason}")


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by its name in the file."""
    c, queries, keys = config, config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    block = {
        "input_layernorm": (c.n_embd,),
        "self_attn.q_proj": (queries, c.n_embd),
        "self_attn.k_proj": (keys, c.n_embd),
        "self_attn.v_proj": (keys, c.n_embd),
        "self_attn.o_proj": (c.n_embd, queries),
        "self_attn.q_norm": (c.head_dim,),
        "self_attn.k_norm": (c.head_dim,),
        "post_attention_layernorm": (c.n_embd,),
        "mlp.gate_proj": (c.n_ff, c.n_embd),
        "mlp.up_proj": (c.n_ff, c.n_embd),
        "mlp.down_proj": (c.n_embd, c.n_ff),
    }
    ends = {"embed_tokens": (c.vocab_size, c.n_embd), "norm": (c.n_embd,)}
    found: dict[str, tuple[int, ...]] = {f"model.{name}.weight": shape for name, shape in ends.items()}
    for layer in range(c.n_layer):
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    return found if c.tie_embeddings else {**found, "lm_head.weight": (c.vocab_size, c.n_embd)}


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the object in a JSON file of a model folder.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = folder / name
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {name}; copy or download the model again") from None
    except (OSError, ValueError, RecursionError) as error:  # not JSON, not UTF-8, or not readable at all
        raise CheckpointError(f"{path} is damaged ({error}); copy or download the model again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is damaged (no JSON object); copy or download the model again")
    return values

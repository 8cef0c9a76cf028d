"""The model folder: a Hugging Face model in the Qwen3 layout, plus ``movieplotgpt.json``.

Safetensors and JSON only: nothing a stranger publishes is executed. A folder is written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from movieplotgpt.atomic import replacing_folder
from movieplotgpt.config import build_settings
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.model.compiled_code import cache_folder
from movieplotgpt.model.gpt import GPT, ModelConfig
from movieplotgpt.model.sizes import parameters
from movieplotgpt.model.weight_files import NO_LIMIT, load_weights, save_bytes, save_weights, weight_files
from movieplotgpt.text.cleaning import CleaningSettings
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.tokenizers import Tokenizer

FORMAT_VERSION = 1
WEIGHTS_FOLDER = "MOVIEPLOTGPT_WEIGHTS"  # environment variable: where published models lie
DOWNLOADED_FOLDER = "MOVIEPLOTGPT_CACHE"  # environment variable: where downloaded models lie
HUB = "hf:"  # how the name of a model on the Hugging Face hub begins


@dataclass(frozen=True)
class Checkpoint:
    """A model and all that is needed to use it; no data file is."""

    model: GPT
    tokenizer: Tokenizer
    format: DocumentFormat
    cleaning: CleaningSettings
    info: dict[str, Any]
    folder: Path | None = None


def weights_folder() -> Path:
    """Where published models lie: the variable's folder, else an installed package's own, else the repository's."""
    named = os.environ.get(WEIGHTS_FOLDER)
    carried = Path(__file__).parents[1] / "weights"
    return Path(named) if named else carried if carried.is_dir() else Path(__file__).parents[3] / "weights"


def downloaded_folder() -> Path:
    """Where `movieplotgpt weights download` puts models: the variable's folder, else one in the user's cache.

    Raises:
        OSError: no home folder is known.
    """
    named = os.environ.get(DOWNLOADED_FOLDER)
    return Path(named) if named else cache_folder("weights")


def resolve(name: str | Path) -> Path:
    """Where a model's NAME or path points; a run's folder means its best checkpoint, or else its last.

    A path goes before a published model, and that before a downloaded one.

    Raises:
        CheckpointError: there is no such model; names those there are.
    """
    try:
        for folder in _places(str(name)):
            for candidate in (folder, folder / "best", folder / "last"):
                if (candidate / "config.json").is_file():
                    return candidate
        if Path(name).is_dir():
            raise CheckpointError(f"{Path(name)} is not a checkpoint: it has no config.json")
        if str(name) in _published() or str(name).startswith(HUB):
            raise CheckpointError(f"{name} is not here yet; fetch it once: movieplotgpt weights download {name}")
        shelves = (weights_folder(), downloaded_folder())
        known = sorted({path.parent.name for shelf in shelves for path in shelf.glob("*/config.json")})
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read ({error.strerror}); give another name or folder") from None
    there_are = f"published models here: {', '.join(known)}" if known else "no published models are here"
    raise CheckpointError(f"there is no model {str(name)!r}; {there_are}, or give a folder")


def _places(name: str) -> Iterator[Path]:
    yield Path(name)
    yield weights_folder() / name
    yield downloaded_folder() / (f"hf/{name.removeprefix(HUB)}" if name.startswith(HUB) else name)


def _published() -> list[str]:
    """The names in the manifest of published models, whether they are here or not."""
    try:
        return list(json.loads((weights_folder() / "manifest.json").read_text(encoding="utf-8"))["models"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []  # a damaged manifest is for `movieplotgpt weights verify` to tell


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
    """Write the files of a model folder that stand beside its weights, into an existing folder."""
    model, end_id = checkpoint.model, checkpoint.tokenizer.end_id
    _write_json(folder / "config.json", huggingface_config(model.config, end_id, dtype))
    _write_json(
        folder / "generation_config.json", {"bos_token_id": end_id, "eos_token_id": end_id, "pad_token_id": end_id}
    )
    checkpoint.tokenizer.save(folder, model_max_length=model.config.context_length)
    about = {
        **checkpoint.info,
        "format_version": FORMAT_VERSION,
        "document_format": checkpoint.format.model_dump(mode="json"),
        "cleaning": checkpoint.cleaning.model_dump(mode="json"),
    }
    _write_json(folder / "movieplotgpt.json", about)


def load_checkpoint(name: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a model folder, by published NAME or path, in float32 and evaluation mode.

    Raises:
        CheckpointError: a file is missing or damaged, or the format is another version's.
    """
    folder = resolve(name)
    about = read_json(folder, "movieplotgpt.json")
    if about.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {about.get('format_version')}, this version reads {FORMAT_VERSION}; "
            "install the movieplotgpt that wrote it, or export it again"
        )
    config = model_config_from(read_json(folder, "config.json"), folder)
    model = load_network(config, load_weights(folder), folder)
    try:
        document_format = DocumentFormat.model_validate(about.pop("document_format"))
        cleaning = CleaningSettings.model_validate(about.pop("cleaning"))
    except (KeyError, ValidationError):
        raise CheckpointError(f"{folder / 'movieplotgpt.json'} is damaged; copy or download the model again") from None
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} has {tokenizer.vocab_size} tokens and the model only "
            f"{model.config.vocab_size}; copy or download the model again"
        )
    return Checkpoint(model.eval().to(device), tokenizer, document_format, cleaning, about, folder)


def trained_before(start_from: Checkpoint | None) -> list[dict[str, Any]]:
    """The trainings a checkpoint has behind it, oldest first: what ``training`` says of each, and on which corpus."""
    if start_from is None or "training" not in start_from.info:
        return []
    info = start_from.info
    last = {**info["training"], "corpus_hash": info.get("corpus", {}).get("hash")}
    return [*info.get("trained_before", []), last]


def huggingface_config(config: ModelConfig, end_id: int, dtype: torch.dtype) -> dict[str, Any]:
    """``config.json`` as transformers' ``Qwen3ForCausalLM`` reads it."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_ff,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "sliding_window": None,
        "use_cache": True,
        "initializer_range": 0.02,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "pad_token_id": end_id,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def model_config_from(values: dict[str, Any], folder: Path) -> ModelConfig:
    """The network's dimensions from a ``config.json`` in the Qwen3 layout.

    Raises:
        CheckpointError: it is another architecture, or a dimension is missing.
    """
    path = folder / "config.json"
    if values.get("model_type") != "qwen3":
        raise CheckpointError(f"{folder} holds a {values.get('model_type')} model; only the Qwen3 layout can be loaded")
    try:
        dimensions = {
            "vocab_size": values["vocab_size"],
            "context_length": values["max_position_embeddings"],
            "n_layer": values["num_hidden_layers"],
            "n_embd": values["hidden_size"],
            "n_head": values["num_attention_heads"],
            "n_kv_head": values["num_key_value_heads"],
            "head_dim": values["head_dim"],
            "n_ff": values["intermediate_size"],
            "rope_theta": values.get("rope_theta") or values["rope_parameters"]["rope_theta"],
            "norm_eps": values["rms_norm_eps"],
            "tie_embeddings": values["tie_word_embeddings"],
        }
        return build_settings(ModelConfig, dimensions, where=f"{path} is damaged")
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy or download the model again") from None
    except ConfigError as error:
        raise CheckpointError(f"{error}; copy or download the model again") from None


def load_network(config: ModelConfig, weights: Mapping[str, Tensor], folder: Path) -> GPT:
    """The network of ``config`` with the weights that were read from ``folder``, in float32.

    Raises:
        CheckpointError: they do not fit each other.
    """
    names = ", ".join(path.name for path in weight_files(folder))
    here = sum(value.numel() for value in weights.values())
    if parameters(config) > 2 * here:  # what differs by less is told of each tensor; for this no memory is taken
        raise CheckpointError(
            f"{folder / 'config.json'} describes a far larger network than the {here:,} weights of {names}; copy or "
            "download the model again"
        )
    model = GPT(config)
    if config.tie_embeddings and "model.embed_tokens.weight" in weights:
        weights = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
    try:
        model.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{folder / names} does not fit {folder / 'config.json'}: {reason}") from None
    return model


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = folder / name
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {name}; copy or download the model again") from None
    except (OSError, ValueError, RecursionError) as error:  # no JSON, or no UTF-8, or not to be read at all
        raise CheckpointError(f"{path} is damaged ({error}); copy or download the model again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is damaged (no JSON object); copy or download the model again")
    return values

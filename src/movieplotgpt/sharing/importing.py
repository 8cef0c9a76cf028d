"""A Qwen3 that others trained or saved becomes a checkpoint of ours, weight for weight: `train --from` fine-tunes it.

Of our own models that transformers has saved again, the layout of texts comes back, too: ``config.json`` keeps it.

What our network cannot say exactly is refused, not approximated: Llama has no norms on queries and keys, Qwen2 has biases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from movieplotgpt.engine.huggingface import model_config_from
from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.engine.model_folder import fitting_weights, read_json
from movieplotgpt.engine.quantization import F32
from movieplotgpt.engine.weight_files import load_weights
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.model.checkpoints import Checkpoint, network
from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.cleaning import CleaningSettings
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.pretrained import PretrainedTokenizer
from movieplotgpt.text.tokenizer import Tokenizer
from movieplotgpt.text.tokenizer_json import load_tokenizer

CONTEXT = 1024  # tokens, unless asked for or the model reads fewer: training keeps the activations of all of them
SEPARATOR = "<|endoftext|>"  # between the documents such models were trained on
_Q_NORM, _HEAD = "model.layers.0.self_attn.q_norm.weight", "lm_head.weight"


def import_model(
    folder: Path,
    *,
    header: str | None = None,
    end: str | None = None,
    context_length: int | None = None,
    origin: str = "",
) -> tuple[Checkpoint, torch.dtype]:
    """Read a model folder of transformers; the checkpoint, and the precision in which saving it loses nothing.

    ``header`` is the sentence before a text, with ``{Title}`` for its title, or nothing: by default the one that
    ``config.json`` keeps of a model of ours. ``end`` is the token between texts, by default that of our tokenizers, else
    ``<|endoftext|>`` where there is one, else the one that ends a sequence.

    Raises:
        CheckpointError: the folder cannot be read, or holds what our network or tokenizer cannot say exactly.
        ConfigError: an invalid header or end marker.
    """
    values = read_json(folder, "config.json")
    weights = load_weights(folder)
    config = imported_config(values, weights, folder, context_length)
    tokenizer = _tokenizer(folder, end)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} has {tokenizer.vocab_size} tokens and the model only {config.vocab_size}; give "
            "the tokenizer that belongs to it"
        )
    layout, cleaning = _text_form(values, folder)
    try:
        sentence = layout.header if header is None else header
        layout = DocumentFormat(header=sentence, hints=layout.hints, end=tokenizer.end)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"header={header!r} cannot be used: {reason}") from None
    info = {"imported": {"from": origin or str(folder), "model_type": values["model_type"]}}
    model = network(config, fitting_weights(config, weights, folder)).eval()
    return Checkpoint(config, tokenizer, layout, cleaning, info, model=model), _exact_dtype(model)


def _text_form(values: dict[str, Any], folder: Path) -> tuple[DocumentFormat, CleaningSettings]:
    """Layout and cleaning as ``config.json`` keeps them; plain texts where it does not."""
    kept = values.get("movieplotgpt")
    if kept is None:
        return DocumentFormat(), CleaningSettings()
    try:
        layout = DocumentFormat.model_validate(kept["document_format"])
        return layout, CleaningSettings.model_validate(kept["cleaning"])
    except (LookupError, TypeError, ValidationError):
        raise CheckpointError(
            f"{folder / 'config.json'} is damaged (movieplotgpt); copy the model again, or take that key out"
        ) from None


def _exact_dtype(model: GPT) -> torch.dtype:
    """The smallest type that holds every weight exactly."""
    for dtype in (torch.bfloat16, torch.float16):
        if all(torch.equal(weight.to(dtype).float(), weight) for weight in model.parameters()):
            return dtype
    return torch.float32


def imported_config(
    values: dict[str, Any], weights: dict[str, F32], folder: Path, context_length: int | None = None
) -> ModelConfig:
    """Our dimensions for a ``config.json`` that others wrote; what it leaves out, the weights say.

    Raises:
        CheckpointError: it sets something that our network cannot do.
        ConfigError: the context asked for is longer than the model's.
    """
    for wrong, what in _refused(values):
        if wrong:
            raise CheckpointError(f"{folder} {what}, which this network cannot say exactly; import a plain Qwen3")
    longest = values.get("max_position_embeddings", CONTEXT)
    if context_length and isinstance(longest, int) and context_length > longest:
        raise ConfigError(f"{folder} reads {longest} tokens at once; give context_length={longest} or less")
    norm, heads = weights.get(_Q_NORM), values.get("num_attention_heads")
    told = {
        "max_position_embeddings": context_length or min(longest, CONTEXT),
        "head_dim": values.get("head_dim") or (norm.shape[0] if norm is not None else None),
        "num_key_value_heads": values.get("num_key_value_heads") or heads,
        "tie_word_embeddings": values.get("tie_word_embeddings", _HEAD not in weights),
    }
    return model_config_from({**values, **told}, folder)


def _refused(values: dict[str, Any]) -> list[tuple[bool, str]]:
    """Return settings that would make it another network: the wording of each, and whether it applies."""
    kind = values.get("model_type")
    rotary = values.get("rope_parameters") or {}
    scaled = values.get("rope_scaling") or (
        isinstance(rotary, dict) and rotary.get("rope_type", "default") != "default"
    )
    layers = values.get("layer_types") or []
    reasons = {
        "llama": "is a Llama, whose attention has no norms on queries and keys",
        "qwen2": "is a Qwen2, whose attention has biases",
    }
    return [
        (kind != "qwen3", reasons.get(str(kind), f"is a {kind} model")),
        (bool(values.get("attention_bias")), "has biases in its attention (attention_bias)"),
        (bool(scaled), "scales its rotary positions (rope_scaling)"),
        (bool(values.get("use_sliding_window")) or "sliding_attention" in layers, "attends through a sliding window"),
        (values.get("hidden_act", "silu") != "silu", f"has the activation {values.get('hidden_act')}"),
        (bool(values.get("quantization_config")), "has quantised weights"),
    ]


def _tokenizer(folder: Path, end: str | None) -> Tokenizer:
    path = folder / "tokenizer.json"
    spec = read_json(folder, "tokenizer.json")
    try:
        own = load_tokenizer(folder)
        if end in (None, own.end):
            return own
    except CheckpointError:
        pass  # another program's
    try:
        added = [token["content"] for token in spec["added_tokens"]]
    except (LookupError, TypeError):
        added = []
    end = end or (SEPARATOR if SEPARATOR in added else _end_of_sequence(folder))
    if end is None:
        raise ConfigError(f"{folder} names no token that ends a text; name one of its special tokens with end=TOKEN")
    if end not in added:
        raise ConfigError(f"{path} has no special token {end!r}; it has {', '.join(added[:8]) or 'none'}")
    try:
        return PretrainedTokenizer(spec, end)
    except ConfigError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path} {error}; import a model with a tokenizer such as Qwen's") from None
    except Exception as error:  # the library raises plain ones; parts may be missing
        raise CheckpointError(f"{path} is damaged ({error}); copy or download the model again") from None


def _end_of_sequence(folder: Path) -> str | None:
    """Return the token that ends a sequence according to tokenizer_config.json."""
    try:
        token = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["eos_token"]
        return str(token["content"] if isinstance(token, dict) else token)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None

"""The network's dimensions as Hugging Face's ``config.json`` has them, in both directions, and ``generation_config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from movieplotgpt.config import build_settings
from movieplotgpt.engine.model_config import MIN_P, TEMPERATURE, ModelConfig
from movieplotgpt.errors import CheckpointError, ConfigError


def model_config_from(values: dict[str, Any], folder: Path) -> ModelConfig:
    """Return the network's dimensions from a ``config.json`` in the Qwen3 layout.

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


def generation_config(config: ModelConfig) -> dict[str, Any]:
    """Return the sampling defaults for ``generation_config.json``, which transformers and vLLM use.

    A quarter of the context is left to the prompt: other programs write past the context, for which no model is trained.
    """
    return {
        "do_sample": True,
        "temperature": TEMPERATURE,
        "min_p": MIN_P,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": config.context_length * 3 // 4,
    }


def huggingface_config(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """Return ``config.json`` as transformers' ``Qwen3ForCausalLM`` reads it, without the special tokens."""
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
        "torch_dtype": dtype,
    }

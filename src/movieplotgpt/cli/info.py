"""``movieplotgpt info``: what a model folder holds."""

from __future__ import annotations

from json import dumps
from typing import Any

from movieplotgpt.engine.places import DEFAULT_MODEL


def info(model: str = DEFAULT_MODEL, *, json: bool = False) -> None:
    """Show what a model is: its size, tokenizer, document format, hints, corpus and training.

    Args:
        model: A published name, a model folder or a run.
        json: Print JSON.
    """
    from movieplotgpt.engine.model_config import kv_cache_bytes, parameters
    from movieplotgpt.engine.model_folder import load_folder
    from movieplotgpt.generation.prompts import usual_hints
    from movieplotgpt.model.sizes import training_bytes, training_flops_per_token

    checkpoint = load_folder(model)
    config, hints = checkpoint.config, usual_hints(checkpoint)
    facts: dict[str, Any] = {
        "folder": str(checkpoint.folder),
        "parameters": parameters(config),
        "training FLOPs per token": training_flops_per_token(config),
        "KV cache, bytes": kv_cache_bytes(config),
        "training one window, bytes": training_bytes(config, tokens_per_step=config.context_length),
        "network": config.model_dump(mode="json"),
        "tokenizer": {"kind": checkpoint.tokenizer.kind, "ids": checkpoint.tokenizer.vocab_size},
        "document format": checkpoint.format.model_dump(mode="json"),
        **({"hints": {name: [*values] for name, values in hints.items()}} if hints else {}),
        "cleaning": checkpoint.cleaning.model_dump(mode="json", exclude_defaults=True),
        **{name: checkpoint.info[name] for name in ("corpus", "training", "average") if name in checkpoint.info},
    }
    if "corpus" in facts:  # without the values, which are listed above
        facts["corpus"] = {name: value for name, value in facts["corpus"].items() if name != "hint_values"}
    if json:
        print(dumps(facts, indent=2))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, inner in value.items():
                print(f"  {key}: {', '.join(inner) if name == 'hints' else inner}")
        else:
            print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")

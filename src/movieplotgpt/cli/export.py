"""``movieplotgpt export``: a model in, files for other tools out, which have written from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from movieplotgpt.engine.places import DEFAULT_MODEL


def export(
    model: str = DEFAULT_MODEL,
    *,
    to: Literal["gguf", "onnx", "hf-bf16", "int8", "all"],
    type_: Annotated[Literal["f32", "f16", "bf16", "q8_0"] | None, Parameter(name="--type")] = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
) -> None:
    """Write a model for llama.cpp and Ollama, for ONNX Runtime and transformers.js, or as a smaller Hugging Face folder; then run it there.

    What was written is kept only if the tool, where it is installed, writes the model's own text from it.

    Args:
        model: A published name, a model folder or a run.
        to: gguf (with a Modelfile for Ollama), onnx (for ONNX Runtime and transformers.js), hf-bf16 (bfloat16 weights), int8
            (half of that, for this library alone), or all of them.
        type_: How weights are kept, by default as exactly as the target's readers like: bf16 in GGUF, f32 in ONNX.
        out: The folder to write to, one subfolder for each format (default: exports/NAME).
    """
    from movieplotgpt.model.checkpoints import load_checkpoint
    from movieplotgpt.sharing import exporting

    chosen = exporting.chosen_types(to, type_)
    checkpoint = load_checkpoint(model)
    out = out or Path("exports") / exporting.model_name(checkpoint)
    for target, weights in chosen.items():
        done = exporting.export(checkpoint, target, weights, out)
        runner, verdict = done.runner, ""
        if done.tokens is not None and done.agreeing == done.tokens:
            verdict = f"; {runner.name} writes the same {done.tokens} greedy tokens"
        elif done.tokens is not None:
            verdict = (
                f"; {done.agreeing} of {done.tokens} greedy tokens that {runner.name} writes are the model's choice"
            )
        print(f"{done.path}: {done.size / 1e6:.1f} MB{verdict}", flush=True)
        if done.tokens is None:
            print(
                f"movieplotgpt: {runner.name} has not verified {done.path}, since it is not installed; "
                f"pip install {runner.package} and export again",
                file=sys.stderr,
            )

"""Ollama's ``Modelfile``, beside a GGUF file: a title is all one types, and the text is drawn as we draw it."""

from __future__ import annotations

from movieplotgpt.generation.settings import SamplingConfig
from movieplotgpt.model.checkpoints import Checkpoint

_PROMPT = "{{ .Prompt }}"  # where Ollama puts what was typed; the model continues after it


def modelfile(checkpoint: Checkpoint, file: str) -> str:
    """The text of a ``Modelfile`` for the GGUF ``file`` beside it; ``ollama create NAME`` reads it.

    What Ollama would do by itself and we do not (top-k, top-p, a penalty for repetitions) is switched off.

    Source: Ollama's ``docs/modelfile.mdx``; a line break before the closing quotes belongs to the template.
    """
    sampling = SamplingConfig()
    parameters = {
        "stop": checkpoint.format.end,
        "num_ctx": checkpoint.config.context_length,
        "temperature": f"{sampling.temperature:g}",
        "min_p": f"{sampling.min_p or 0:g}",
        "top_k": sampling.top_k or 0,
        "top_p": f"{sampling.top_p or 1:g}",
        "repeat_penalty": f"{sampling.repetition_penalty or 1:g}",
    }
    column = checkpoint.format.title_column
    template = checkpoint.format.header.replace(f"{{{column}}}", _PROMPT) + "\n" if column else _PROMPT
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""']
    return "\n".join([*lines, *(f"PARAMETER {name} {value}" for name, value in parameters.items())]) + "\n"

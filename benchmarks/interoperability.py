"""What other programs make of our models: the same token ids, the same greedy text, the same end?

    pip install "movieplotgpt[gguf,onnx]" transformers xllamacpp
    python benchmarks/interoperability.py --out results/benchmarks/interoperability.json --page docs/interoperability.md

Two published models, and one of random weights for the tokenizer that no published model has. Each program runs in a
process of its own, on one thread, in float32 where it leaves the choice.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from machine import keep, machine, settings_of
from movieplotgpt import atomic
from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, write_description
from movieplotgpt.model.gpt import GPT
from movieplotgpt.sharing.exporting import TIES, TITLE, TOKENS, FileType, gaps, prompt_ids
from movieplotgpt.sharing.gguf_file import save_gguf
from movieplotgpt.sharing.modelfile import modelfile
from movieplotgpt.sharing.onnx_file import save_onnx
from movieplotgpt.sharing.runners import LLAMA_CPP, ONNX_RUNTIME, TRANSFORMERS, Runner
from movieplotgpt.text.cleaning import CleaningSettings
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.tokenizer import ByteSettings

HOSTILE = [
    "",
    " ",
    "\n",
    "a  b   c     d",
    "  in front and behind  ",
    "one\r\ntwo\rthree\n\n\nfour\ttab",
    "it's 1999's, we'LL see",
    "\x00\x01\x7f\x85",
    "😀 👩‍👩‍👧 🇩🇪",
    "電影情節 영화 кино فيلم",
    "Amélie – “naïve” … don’t",
    "e\u0301 \u00a0 \u200b \ufeff \u2028 \u3000 \ufffd",
    "<0x41> <unk> <s> ▁under",
    "END_OF_PLOT",
    "xEND_OF_PLOTy END_OF_PLO END_OF_PLOTEND_OF_PLOT",
    "supercalifragilistic" * 20,
]
PACKAGES = ("transformers", "tokenizers", "xllamacpp", "gguf", "onnx", "onnxruntime")
OLLAMA = "Ollama's Modelfile"
PAGE = """\
# At home in other tools

Made by `python benchmarks/interoperability.py`; the numbers are in `results/benchmarks/interoperability.json`.

Every checkpoint is a Hugging Face folder, so `transformers` loads it as it is. For other tools there is `export`, which
lets the tool write from what was written, and keeps it only if the text is the model's own:

```console
$ movieplotgpt export plots-bpe --to gguf --type q8_0      # and a Modelfile for Ollama
$ movieplotgpt export plots-bpe --to onnx      # for ONNX Runtime and transformers.js
$ movieplotgpt export plots-bpe --to hf-bf16
$ movieplotgpt export plots-bpe --to int8      # bytes: half of bfloat16, for this library alone
$ movieplotgpt export runs/mine --to all -o exports/mine
```

| tool | how |
| --- | --- |
| llama.cpp | `llama-server -m plots-bpe-q8_0.gguf`; in its chat, a title is the message |
| Ollama | `ollama create plots -f Modelfile`, then `ollama run plots "Mars, Texas"`: the template makes the sentence |
| ONNX Runtime | `onnx/model.onnx`; inputs and outputs are described in `src/movieplotgpt/engine/plain_graph.py` |
| transformers.js | `await pipeline("text-generation", "onnx-f32")` with `env.localModelPath`; one text at a time |
| a browser | `make demo`, then any file server before `docs/demo/`: the Office model, with no server of ours |
| transformers | `pipeline("text-generation", model=folder)`, or `AutoModelForCausalLM` and `AutoTokenizer` |

## What travels with a model

- **A chat template**, in `tokenizer_config.json` and in the GGUF file. The last message of a user is the title; the prompt is
  the sentence that the completion makes of it, token for token. For models without titles the message is the beginning of the
  text. A message of an assistant after it begins the answer; system messages and earlier turns are left out.
- **Sampling defaults**: temperature 1, min-p 0.02, no top-k, no top-p, in `generation_config.json` (with `max_new_tokens`,
  three quarters of the context) and as `general.sampling.*` in the GGUF file. What other programs do not have - guidance,
  plans, names taken back - they leave out.
- **A pad token of its own**, `<|pad|>`, with padding on the left: `DataCollatorForLanguageModeling` masks the padding and not
  END_OF_PLOT. Its id is that of the byte 0xFF, which no UTF-8 text contains, so the vocabulary does not grow.
- **Licence, description, tags and size** from the model card, in the GGUF file.

```python
from transformers import pipeline

write = pipeline("text-generation", model="weights/plots-bpe")
print(write([{{"role": "user", "content": "Mars, Texas"}}])[0]["generated_text"][-1]["content"])
```

A checkpoint that transformers has fine-tuned or saved comes back with `movieplotgpt import FOLDER -o NEW`.

## What was compared

- *ids*: of {texts} hostile strings (blanks, line breaks, emoji, scripts the model has never seen, control characters, the end
  marker and pieces of it), how many become the same token ids.
- *greedy*: how many of {tokens} tokens, each the likeliest for the tool, are also the likeliest for us, given those before. If
  all are, the two texts are equal.
- *ends*: whether the tool stops at END_OF_PLOT where we do, with no stop string given. The greedy text of a small model
  seldom ends, so this is asked of the same model with the rows of the end marker and of a frequent token exchanged.

{table}

{models}
{different}
llama.cpp computes without flash attention and with keys and values in float32 here; by itself it rounds them, and where
two tokens are all but equally likely (by some 0.003 nats) it may then take the other one. q8_0 and bf16 round, too; `export`
bears a token that is less likely than the model's own by no more than these nats, and refuses what differs more:
{ties}.

*{ollama}*: Ollama itself is not run. The Modelfile is read by the rules of its documentation, the template filled
with a title, and what comes of that is handed to llama.cpp with the file it names (f16).

vLLM is not run either: it pins another PyTorch. By its source it loads the Qwen3 layout, from the same folder as
transformers does.

Versions: {versions}.
"""


@dataclass(frozen=True)
class Prompt:
    """Token ids to go on from, and how far."""

    ids: list[int]
    tokens: int


def main() -> None:
    """Let each program write, print the table, keep the numbers and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--char", default="plots-char", help="a model of characters")
    parser.add_argument("--byte", help="a model of bytes; by default one of random weights is made")
    parser.add_argument("--bpe", default="plots-bpe", help="a model of byte pairs")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the numbers in")
    parser.add_argument("--page", type=Path, help="a Markdown file to describe them in")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    found: dict[str, Any] = {"texts": len(HOSTILE), "tokens": TOKENS, "models": {}}
    found["versions"] = {package: version(package) for package in PACKAGES}
    for kind in ("char", "byte", "bpe"):
        with tempfile.TemporaryDirectory() as folder:
            name = getattr(arguments, kind)
            checkpoint = load_checkpoint(name) if name else random_model(Path(folder) / "random")
            found["models"][kind] = {"model": name or "random weights", **compare(checkpoint, Path(folder))}
    print(table(found))
    keep(arguments.out, {"settings": settings_of(arguments), **found})
    if arguments.page:
        atomic.write_text(arguments.page, page(found))


def random_model(folder: Path) -> Checkpoint:
    """A model of bytes that has learnt nothing; its weights are drawn wide, so that its logits differ."""
    tokenizer = ByteSettings().train([], "END_OF_PLOT")
    config = ModelConfig(
        vocab_size=320, context_length=256, n_layer=3, n_embd=128, n_head=2, n_kv_head=1, head_dim=64, n_ff=256
    )
    model, generator = GPT(config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2 + (weight.ndim == 1))
        model.model.embed_tokens.weight[tokenizer.vocab_size :] = 0
    document_format = DocumentFormat(header="The plot summary of the movie named '{Title}' is:")
    save_checkpoint(folder, Checkpoint(model.config, tokenizer, document_format, CleaningSettings(), {}, model=model))
    return load_checkpoint(folder)


def compare(checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
    """What each program makes of a model."""
    ending = soon_over(checkpoint, folder / "ending")
    cells: dict[str, Any] = {
        "transformers": cell((checkpoint, ending), TRANSFORMERS, lambda one, _: one.folder, folder)
    }
    kinds: tuple[FileType, ...] = ("f16", "q8_0")
    for kind in kinds:
        cells[f"llama.cpp {kind}"] = cell((checkpoint, ending), LLAMA_CPP, partial(as_gguf, kind=kind), folder)
    for kind in ("f32", "q8_0"):
        cells[f"ONNX Runtime {kind}"] = cell((checkpoint, ending), ONNX_RUNTIME, partial(as_onnx, kind=kind), folder)
    cells[OLLAMA] = ollama((checkpoint, ending), folder)
    return {"ends_after": len(greedy(ending, Prompt(prompt_ids(ending), TOKENS))), "cells": cells}


def as_gguf(checkpoint: Checkpoint, folder: Path, kind: FileType) -> Path:
    save_gguf(checkpoint, folder / "model.gguf", kind)
    return folder / "model.gguf"


def as_onnx(checkpoint: Checkpoint, folder: Path, kind: FileType) -> Path:
    path = folder / "onnx" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    save_onnx(checkpoint, path, kind)
    write_description(folder, checkpoint, torch.float32)
    return path


def cell(
    models: tuple[Checkpoint, Checkpoint],
    runner: Runner,
    write: Callable[[Checkpoint, Path], Path | None],
    folder: Path,
    prompt: list[int] | None = None,
) -> dict[str, Any]:
    """One program, one model, and the one that ends soon."""
    checkpoint, ending = models
    prompt = prompt or prompt_ids(checkpoint)
    path = write(checkpoint, folder)
    assert path is not None
    written = runner.write(path, prompt, TOKENS, texts=HOSTILE)
    ids = [checkpoint.tokenizer.encode(text).tolist() for text in HOSTILE]
    found = gaps(checkpoint, prompt, written)
    path = write(ending, folder)
    assert path is not None
    end = runner.write(path, prompt, TOKENS)
    return {
        "ids": sum(mine == theirs for mine, theirs in zip(ids, written.ids, strict=True)),
        "different": [text for text, *both in zip(HOSTILE, ids, written.ids, strict=True) if both[0] != both[1]],
        "tokens": len(found),
        "greedy": found.count(0),
        "worst": round(max(found), 4),
        "ends": end.ended and end.tokens == greedy(ending, Prompt(prompt, TOKENS)),
    }


def ollama(models: tuple[Checkpoint, Checkpoint], folder: Path) -> dict[str, Any]:
    """The same of what a Modelfile says, handed to llama.cpp."""
    checkpoint = models[0]
    said = read_modelfile(modelfile(checkpoint, "model.gguf"))
    file = as_gguf(checkpoint, folder, "f16")
    assert file == folder / said["FROM"]
    [ids] = LLAMA_CPP.write(file, [0], 1, texts=[said["TEMPLATE"].replace("{{ .Prompt }}", TITLE)]).ids
    expected = prompt_ids(checkpoint) if checkpoint.format.header else [0, *checkpoint.tokenizer.encode(TITLE).tolist()]
    found = cell(models, LLAMA_CPP, partial(as_gguf, kind="f16"), folder, [0, *ids])
    stops = said["PARAMETER stop"] == checkpoint.tokenizer.end
    return {**found, "prompt": [0, *ids] == expected, "ends": bool(found["ends"] and stops)}


def read_modelfile(text: str) -> dict[str, str]:
    """Instructions by their names; a value in three quotes may have line breaks.

    Source: Ollama's ``docs/modelfile.mdx``.
    """
    found = re.findall(r'^(FROM|TEMPLATE|PARAMETER \w+) (?:"""(.*?)"""|([^\n]*))$', text, re.DOTALL | re.MULTILINE)
    return {name: quoted or plain for name, quoted, plain in found}


def soon_over(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """The same model with the rows of the end marker and of a frequent token exchanged: its greedy text ends soon."""
    prompt = Prompt(prompt_ids(checkpoint), TOKENS)
    for frequent, _ in Counter(greedy(checkpoint, prompt)).most_common():
        state = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            rows = checkpoint.model.state_dict()[name][[frequent, checkpoint.tokenizer.end_id]]
            state[name][[checkpoint.tokenizer.end_id, frequent]] = rows
        model = GPT(checkpoint.config).eval()
        model.load_state_dict(state)
        changed = replace(checkpoint, model=model)
        if 0 < len(greedy(changed, prompt)) < TOKENS:
            save_checkpoint(folder, changed)
            return load_checkpoint(folder)
    raise AssertionError("no text ends")


@torch.no_grad()
def greedy(checkpoint: Checkpoint, prompt: Prompt) -> list[int]:
    """The likeliest tokens, up to the end marker, each time from the whole text."""
    written: list[int] = []
    while len(written) < prompt.tokens:
        best = int(checkpoint.model(torch.tensor([[*prompt.ids, *written]]))[0, -1].argmax())
        if best == checkpoint.tokenizer.end_id:
            break
        written.append(best)
    return written


def table(found: dict[str, Any]) -> str:
    """A row for each program, three columns for each tokenizer."""
    kinds = list(found["models"])
    lines = [f"| | {' | '.join(f'{kind}: ids | greedy | ends' for kind in kinds)} |"]
    lines.append("| --- |" + " ---: | ---: | --- |" * len(kinds))
    for name in found["models"][kinds[0]]["cells"]:
        parts = []
        for kind in kinds:
            one = found["models"][kind]["cells"][name]
            same = one.get("prompt", True)
            parts += [
                f"{one['ids']}/{found['texts']}" if same else "another prompt",
                f"{one['greedy']}/{one['tokens']}",
                "yes" if one["ends"] else "no",
            ]
        lines.append(f"| {name} | {' | '.join(parts)} |")
    return "\n".join(lines)


def different(found: dict[str, Any]) -> str:
    """Which strings have other ids somewhere."""
    texts = sorted(
        {text for one in found["models"].values() for cell in one["cells"].values() for text in cell["different"]}
    )
    if not texts:
        return ""
    return (
        f"Read differently: {', '.join(f'`{text}`' for text in texts)}. In a vocabulary of characters llama.cpp writes a "
        "blank as ▁\n(U+2581), so a ▁ in a text is a blank to it; nothing else is lost.\n"
    )


def page(found: dict[str, Any]) -> str:
    """docs/interoperability.md."""
    models = ", ".join(f"{kind}: {one['model']}" for kind, one in found["models"].items())
    return PAGE.format(
        texts=found["texts"],
        tokens=found["tokens"],
        table=table(found),
        different=different(found),
        models=f"Models: {models}. Where weights are random, many tokens are all but equally likely.\n",
        ties=", ".join(f"{tie:g} ({kind})" for kind, tie in TIES.items()),
        ollama=OLLAMA,
        versions=", ".join(f"{package} {number}" for package, number in found["versions"].items()),
    )


if __name__ == "__main__":
    main()

"""A chat in another program writes the plot that the completion writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint
from movieplotgpt.sharing.runners import LLAMA_CPP

Make: TypeAlias = Callable[..., Checkpoint]
ASKED = "  The Lighthouse Keeper’s  Café "
HEADER = "The plot of the movie '{Title}' is:"
TOKENS = 30
SERVED = """
import json, sys, urllib.request, xllamacpp
asked = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = asked["path"], 128, 1
params.port, params.verbosity, params.cpuparams.n_threads, params.cpuparams_batch.n_threads = 0, 0, 1, 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)
def ask(place, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.listening_address + place, data, {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))
prompt = ask("/apply-template", {"messages": asked["messages"]})["prompt"]
ids = ask("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
written = {}
for name, how in asked["how"].items():
    body = {**how, "cache_prompt": False}
    chat = ask("/v1/chat/completions", {**body, "messages": asked["messages"], "max_tokens": asked["tokens"]})
    plain = ask("/completion", {**body, "prompt": asked["ids"], "n_predict": asked["tokens"]})
    written[name] = [chat["choices"][0]["message"]["content"], plain["content"]]
print(json.dumps({"ids": ids, "written": written, "default": ask("/props")["default_generation_settings"]["params"]}))
"""


def printable(checkpoint: Checkpoint) -> Checkpoint:
    """The same model, which neither ends nor writes bytes that are not ASCII: programs show broken UTF-8 differently."""
    rows = checkpoint.model.model.embed_tokens.weight.data
    rows[0] = 0
    rows[1 + 0x80 : 1 + 0x100] = 0
    rows[1:0x21] = 0  # control characters
    if checkpoint.tokenizer.kind == "char":
        rows[1 : 1 + 0x100] = 0  # llama.cpp shows none of the bytes that the vocabulary has as characters
    return checkpoint


def expected(checkpoint: Checkpoint) -> tuple[list[int], str]:
    """The ids of the prompt, and the greedy text."""
    generator, titled = PlotGenerator(checkpoint, precision="float32"), bool(checkpoint.format.header)
    how: dict[str, Any] = {"titles": ASKED} if titled else {"prompt": ASKED}
    how |= {"temperature": 0, "max_tokens": TOKENS, "guidance": 1, "distinct_names": False}
    [request] = generator.requests(**how)
    ids = checkpoint.tokenizer.encode(request.prompt.header + request.prompt.begun).tolist()
    [plot] = generator.plots(**how)
    assert plot.tokens == TOKENS
    return [0, *ids], plot.text.removeprefix(plot.begun)


@pytest.mark.slow
@pytest.mark.parametrize("header", [HEADER, ""])
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_chat_with_llama_cpp_writes_what_the_completion_writes(
    tiny_checkpoint: Make, tmp_path: Path, kind: str, header: str
) -> None:
    gguf = pytest.importorskip("movieplotgpt.sharing.gguf_file", reason="the gguf library is not installed")
    if not LLAMA_CPP.installed:
        pytest.skip("llama.cpp is not installed")
    checkpoint = printable(tiny_checkpoint(kind, header=header, context_length=128))
    ids, text = expected(checkpoint)
    gguf.save_gguf(checkpoint, tmp_path / "model.gguf", "f32")
    asked = {
        "path": str(tmp_path / "model.gguf"),
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}],
        "ids": ids,
        "tokens": TOKENS,
        "how": {"greedy": {"temperature": 0}, "seed": {"seed": 7}},
    }
    done = subprocess.run([sys.executable, "-c", SERVED], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["ids"] == ids
    assert answer["written"]["greedy"] == [text, text]
    chat, plain = answer["written"]["seed"]
    assert chat == plain != text
    given = {name: answer["default"][name] for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")}
    assert given == pytest.approx({"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0.02, "repeat_penalty": 1})


@pytest.mark.slow
@pytest.mark.parametrize("header", [HEADER, ""])
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_chat_with_transformers_writes_what_the_completion_writes(
    tiny_checkpoint: Make, tmp_path: Path, kind: str, header: str
) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = printable(tiny_checkpoint(kind, header=header, context_length=128))
    ids, text = expected(checkpoint)
    save_checkpoint(tmp_path, checkpoint)
    write = transformers.pipeline("text-generation", model=str(tmp_path), dtype=torch.float32)
    messages = [{"role": "user", "content": ASKED}]
    assert write.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == ids
    [answer] = write(messages, do_sample=False, max_new_tokens=TOKENS)
    assert answer["generated_text"][-1] == {"role": "assistant", "content": text}
    drawn = []
    for prompt in (messages, checkpoint.tokenizer.decode(ids[1:])):
        transformers.set_seed(7)
        [answer] = write(prompt, max_new_tokens=TOKENS, return_full_text=False)
        drawn.append(answer["generated_text"])
    assert drawn[0] == drawn[1] != text
    [answer] = write(messages, return_tensors=True)
    assert len(answer["generated_token_ids"]) == len(ids) + 96, "three quarters of the context"


@pytest.mark.slow
def test_the_usual_collator_learns_the_ends_of_texts(tiny_checkpoint: Make, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path, tiny_checkpoint())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
    texts = ["Ada finds a map.END_OF_PLOT", "Ada.END_OF_PLOT"]
    batch = collate([tokenizer(text) for text in texts])
    for ids, labels, seen in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        assert torch.equal(labels, torch.where(seen == 1, ids, -100))
        assert labels[-1] == tokenizer.eos_token_id == 0
    assert batch["attention_mask"][1].tolist() == sorted(batch["attention_mask"][1].tolist()), "padded on the left"


@pytest.mark.slow
def test_a_padded_batch_writes_what_each_prompt_alone_does(tiny_checkpoint: Make, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path, printable(tiny_checkpoint(context_length=128)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    prompts = ["Ada finds a map in the harbour and", "The"]

    def written(texts: list[str]) -> list[str]:
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        ids = model.generate(**batch, do_sample=False, max_new_tokens=20)[:, batch["input_ids"].shape[1] :]
        return list(tokenizer.batch_decode(ids))

    assert written(prompts) == [text for prompt in prompts for text in written([prompt])]

"""What llama.cpp makes of a GGUF file is what we make of the checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from movieplotgpt.errors import ConfigError
from movieplotgpt.model.checkpoints import Checkpoint

gguf = pytest.importorskip("movieplotgpt.sharing.gguf", reason="the gguf library is not installed")

Make: TypeAlias = Callable[..., Checkpoint]
HOSTILE = [
    "Ada finds  the   map.\n\n\tThen",
    "Zoë, 漢字 and 🎬🍿",
    "",
    " ",
    "it's 1999's",
    "\x00\x7f\u200d",
    "END_OF_PLO",
]
LLAMA_CPP = """
import json, sys, urllib.request, xllamacpp
path, texts, prompt, tokens = json.loads(sys.argv[1])
asked = xllamacpp.CommonParams()
asked.model.path, asked.n_ctx, asked.n_parallel, asked.port, asked.verbosity = path, 64, 1, 0, 0
server = xllamacpp.Server(asked)
def ask(place, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(server.listening_address + place, data, {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))
ids = [ask("/tokenize", {"content": text, "parse_special": True})["tokens"] for text in texts]
body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "return_tokens": True}
print(json.dumps({"ids": ids, "written": ask("/completion", body)["tokens"]}))
"""


def llama_cpp(path: Path, prompt: list[int], tokens: int) -> dict[str, Any]:
    """In a process of its own: it prints much, and its threads disturb ours."""
    asked = json.dumps([str(path), HOSTILE, prompt, tokens])
    done = subprocess.run(
        [sys.executable, "-c", LLAMA_CPP, asked], capture_output=True, text=True, check=True, timeout=120
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@torch.no_grad()
def greedy(checkpoint: Checkpoint, prompt: list[int], tokens: int) -> list[int]:
    ids = [*prompt]
    while len(ids) < len(prompt) + tokens:
        ids.append(int(checkpoint.model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == checkpoint.tokenizer.end_id:
            break
    return ids[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_llama_cpp_reads_the_same_ids_and_writes_the_same_tokens(
    kind: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
    checkpoint = tiny_checkpoint(kind, n_kv_head=2)
    gguf.save_gguf(checkpoint, tmp_path / "model.gguf", "f32")
    prompt = [checkpoint.tokenizer.end_id, *checkpoint.tokenizer.encode("Ada finds").tolist()]
    answer = llama_cpp(tmp_path / "model.gguf", prompt, 40)
    assert answer["ids"] == [checkpoint.tokenizer.encode(text).tolist() for text in HOSTILE]
    assert answer["written"] == greedy(checkpoint, prompt, 40)


def test_smaller_weights_take_less_room_and_nothing_else_is_left(tiny_checkpoint: Make, tmp_path: Path) -> None:
    sizes = []
    for kind in ("f32", "f16", "bf16", "q8_0"):
        gguf.save_gguf(tiny_checkpoint(), tmp_path / "model.gguf", kind)
        sizes.append((tmp_path / "model.gguf").stat().st_size)
    assert sizes[0] > sizes[1] == sizes[2] > sizes[3]
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_an_unknown_kind_of_weights_is_named(tiny_checkpoint: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="GGUF weights 'q2' are not known; take one of f32, f16, bf16, q8_0"):
        gguf.save_gguf(tiny_checkpoint(), tmp_path / "model.gguf", "q2")


def test_what_fails_leaves_the_old_file(tiny_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space left"):
        gguf.save_gguf(tiny_checkpoint(), path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["model.gguf"]

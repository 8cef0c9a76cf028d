"""What llama.cpp makes of a GGUF file is what we make of the checkpoint."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from movieplotgpt.engine.model_config import ModelConfig, parameters
from movieplotgpt.errors import CheckpointError, ConfigError
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.sharing.runners import LLAMA_CPP
from movieplotgpt.text.cleaning import CleaningSettings
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.tokenizer import ByteSettings

gguf = pytest.importorskip("movieplotgpt.sharing.gguf_file", reason="the gguf library is not installed")

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


@torch.no_grad()
def greedy(checkpoint: Checkpoint, prompt: list[int], tokens: int) -> list[int]:
    """The likeliest tokens, up to the end marker."""
    ids = [*prompt]
    while len(ids) < len(prompt) + tokens:
        ids.append(int(checkpoint.model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == checkpoint.tokenizer.end_id:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_llama_cpp_reads_the_same_ids_and_writes_the_same_tokens(
    kind: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    if not LLAMA_CPP.installed:
        pytest.skip("llama.cpp is not installed")
    checkpoint = tiny_checkpoint(kind, n_kv_head=2)
    gguf.save_gguf(checkpoint, tmp_path / "model.gguf", "f32")
    prompt = [checkpoint.tokenizer.end_id, *checkpoint.tokenizer.encode("Ada finds").tolist()]
    answer = LLAMA_CPP.write(tmp_path / "model.gguf", prompt, 40, texts=HOSTILE)
    assert answer.ids == [checkpoint.tokenizer.encode(text).tolist() for text in HOSTILE]
    assert answer.tokens == greedy(checkpoint, prompt, 40)


def test_smaller_weights_take_less_room_and_nothing_else_is_left(tiny_checkpoint: Make, tmp_path: Path) -> None:
    sizes = []
    for kind in ("f32", "f16", "bf16", "q8_0"):
        gguf.save_gguf(tiny_checkpoint(), tmp_path / "model.gguf", kind)
        sizes.append((tmp_path / "model.gguf").stat().st_size)
    assert sizes[0] > sizes[1] == sizes[2] > sizes[3]
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


CARD = """---
language: en
license: other
license_name: fair-use
tags:
- movieplotgpt
- office
---

# films

Writes invented scenes. By [MoviePlotGPT](../../README.md).
"""


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_card_and_sampling_defaults_travel(tiny_checkpoint: Make, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "films"
    save_checkpoint(folder, tiny_checkpoint(kind))
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    gguf.save_gguf(load_checkpoint(folder), tmp_path / "model.gguf")
    found = fields(tmp_path / "model.gguf")
    told = {name.removeprefix("general."): value for name, value in found.items() if name.startswith("general.")}
    assert told.pop("sampling.min_p") == pytest.approx(0.02)
    assert told == {
        "architecture": "qwen3",
        "file_type": 32,
        "name": "films",
        "size_label": f"{parameters(load_checkpoint(folder).config) / 1e3:.0f}K",
        "description": "Writes invented scenes. By MoviePlotGPT.",
        "license": "other",
        "license.name": "fair-use",
        "tags": ["movieplotgpt", "office"],
        "languages": ["en"],
        "sampling.temp": 1.0,
        "sampling.top_k": 0,
        "sampling.top_p": 1.0,
        "sampling.penalty_repeat": 1.0,
    }
    assert found["tokenizer.ggml.padding_token_id"] == 256
    assert found["tokenizer.ggml.tokens"][256] == "<|pad|>"
    kinds = found["tokenizer.ggml.token_type"]
    assert kinds[0] == kinds[256] == 3 and kinds[255] == (6 if kind == "char" else 1), "control, byte, normal"
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert found["tokenizer.chat_template"] == config["chat_template"]


def test_a_model_without_a_card_has_tags(tiny_checkpoint: Make, tmp_path: Path) -> None:
    gguf.save_gguf(tiny_checkpoint(), tmp_path / "model.gguf")
    found = fields(tmp_path / "model.gguf")
    assert (found["general.name"], found["general.tags"]) == ("movieplotgpt", ["movieplotgpt", "text-generation"])
    assert "general.license" not in found and "general.description" not in found


def test_a_card_that_is_not_yaml_is_one_sentence(tiny_checkpoint: Make, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "films", tiny_checkpoint())
    (tmp_path / "films" / "README.md").write_text("---\ntags: [\n---\n", encoding="utf-8")
    said = r"^the front matter of \S+/README\.md is not YAML \([^\n]+\); mend or remove it$"
    with pytest.raises(CheckpointError, match=said):
        gguf.save_gguf(load_checkpoint(tmp_path / "films"), tmp_path / "model.gguf")


def test_others_may_read_the_file(tiny_checkpoint: Make, tmp_path: Path) -> None:
    """A server of another user is who reads it."""
    before = os.umask(0o022)
    try:
        gguf.save_gguf(tiny_checkpoint(), tmp_path / "model.gguf")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.gguf").stat().st_mode) == 0o644


def test_an_unknown_kind_of_weights_is_named(tiny_checkpoint: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="GGUF weights 'q2' are not known; take one of f32, f16, bf16, q8_0"):
        gguf.save_gguf(tiny_checkpoint(), tmp_path / "model.gguf", "q2")


def test_rows_that_do_not_divide_into_blocks_are_named(tmp_path: Path) -> None:
    model = GPT(ModelConfig(vocab_size=64, n_layer=1, n_embd=40, n_head=1, n_kv_head=1, head_dim=32, n_ff=64))
    tokenizer = ByteSettings().train([], "END_OF_PLOT")
    checkpoint = Checkpoint(model.config, tokenizer, DocumentFormat(), CleaningSettings(), {}, model=model)
    with pytest.raises(ConfigError, match="q8_0 needs rows of a multiple of 32 weights, not 40; take f16"):
        gguf.save_gguf(checkpoint, tmp_path / "model.gguf", "q8_0")
    assert [*tmp_path.iterdir()] == []


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

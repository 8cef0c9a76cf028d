"""What llama.cpp makes of a GGUF file is what we make of the checkpoint."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torch

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.errors import ConfigError
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.sharing.runners import LLAMA_CPP
from movieplotgpt.text.cleaning import CleaningSettings
from movieplotgpt.text.formatting import DocumentFormat
from movieplotgpt.text.tokenizers import ByteSettings

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

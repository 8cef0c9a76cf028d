"""What ONNX Runtime makes of an ONNX file is what we make of the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import pytest
import torch

from movieplotgpt.errors import ConfigError
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.sharing import onnx_file

Make: TypeAlias = Callable[..., Checkpoint]
STEPS = 20


class Session:
    """A file while it is read; its cache is that of the texts so far."""

    def __init__(self, path: Path, batch: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        shapes = {each.name: each.shape for each in self.session.get_inputs() if each.name != "input_ids"}
        self.past = {name: np.zeros((batch, k, 0, d), np.float32) for name, (_, k, _, d) in shapes.items()}

    def read(self, ids_BT: torch.Tensor) -> torch.Tensor:
        logits_BTV, *present = self.session.run(None, {"input_ids": ids_BT.numpy(), **self.past})
        self.past = dict(zip(self.past, present, strict=True))
        return torch.from_numpy(logits_BTV)


@pytest.fixture
def untied(tiny_checkpoint: Make) -> Checkpoint:
    """A model whose head is a matrix of its own."""
    checkpoint = tiny_checkpoint("byte")
    model = GPT(checkpoint.config.model_copy(update={"tie_embeddings": False}))
    model.load_state_dict(checkpoint.model.state_dict())
    with torch.no_grad():
        model.lm_head.weight.copy_(torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(5)))
    return replace(checkpoint, model=model.eval())


@torch.no_grad()
def agree(checkpoint: Checkpoint, path: Path, ids_BT: torch.Tensor, prompt: int) -> None:
    """A prompt, and then one token after the other: the logits of each are ours."""
    expected_BTV = checkpoint.model(ids_BT)
    session = Session(path, len(ids_BT))
    parts = [session.read(part_BT) for part_BT in [ids_BT[:, :prompt], *ids_BT[:, prompt:].split(1, dim=1)]]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected_BTV, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_kv_head", [1, 2])
def test_a_prompt_and_single_steps_have_the_logits_of_the_model(
    tiny_checkpoint: Make, tmp_path: Path, n_kv_head: int
) -> None:
    checkpoint = tiny_checkpoint("bpe", n_kv_head=n_kv_head)
    onnx_file.save_onnx(checkpoint, tmp_path / "model.onnx")
    ids_BT = torch.randint(300, (2, 9 + STEPS), generator=torch.Generator().manual_seed(1))
    agree(checkpoint, tmp_path / "model.onnx", ids_BT, 9)


def test_a_head_of_its_own_is_the_one_that_is_read(untied: Checkpoint, tmp_path: Path) -> None:
    onnx_file.save_onnx(untied, tmp_path / "model.onnx")
    agree(untied, tmp_path / "model.onnx", torch.arange(12)[None], 1)


def test_a_context_is_read_to_its_end_and_not_beyond(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("byte", context_length=16)
    onnx_file.save_onnx(checkpoint, tmp_path / "model.onnx")
    agree(checkpoint, tmp_path / "model.onnx", torch.arange(16)[None], 15)
    with pytest.raises(Exception, match="dimension"):
        Session(tmp_path / "model.onnx").read(torch.arange(17)[None])


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_half_the_bits_are_exact_where_the_weights_have_no_more(
    tiny_checkpoint: Make, tmp_path: Path, kind: Any
) -> None:
    checkpoint = tiny_checkpoint("char")
    with torch.no_grad():
        for weight in checkpoint.model.parameters():
            coarse = weight.bfloat16().float()
            weight.copy_(torch.where(coarse.abs() > 1e-4, coarse, 0))
    onnx_file.save_onnx(checkpoint, tmp_path / "model.onnx", kind)
    agree(checkpoint, tmp_path / "model.onnx", torch.arange(20)[None], 10)


def test_smaller_weights_take_less_room(tiny_checkpoint: Make, tmp_path: Path) -> None:
    sizes = {}
    for kind in ("f32", "f16", "bf16", "q8_0"):
        onnx_file.save_onnx(tiny_checkpoint(), tmp_path / kind, kind)
        sizes[kind] = (tmp_path / kind).stat().st_size
    assert sizes["f32"] > sizes["bf16"] > sizes["q8_0"]
    assert abs(sizes["f16"] - sizes["bf16"]) < 100


def test_the_names_are_those_of_hugging_face(tiny_checkpoint: Make, tmp_path: Path) -> None:
    onnx_file.save_onnx(tiny_checkpoint(), tmp_path / "model.onnx")
    session: Any = Session(tmp_path / "model.onnx").session
    caches = [f"{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
    assert [each.name for each in session.get_inputs()] == ["input_ids", *(f"past_key_values.{x}" for x in caches)]
    assert [each.name for each in session.get_outputs()] == ["logits", *(f"present.{x}" for x in caches)]


def test_what_cannot_be_written_is_named(
    tiny_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint()
    with pytest.raises(ConfigError, match="ONNX weights 'q2' are not known; take one of f32, f16, bf16, q8_0"):
        onnx_file.save_onnx(checkpoint, tmp_path / "model.onnx", "q2")  # type: ignore[arg-type]
    monkeypatch.setattr(onnx_file, "LARGEST_GRAPH", 100_000)
    said = "this model would take 0.0 GB, and an ONNX file holds 0 at most; take weights of fewer bits, as q8_0"
    with pytest.raises(ConfigError, match=said):
        onnx_file.save_onnx(checkpoint, tmp_path / "model.onnx")
    assert [*tmp_path.iterdir()] == []

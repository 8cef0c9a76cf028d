"""A batch gives one gradient, however it is divided."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.errors import TrainingError
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.sizes import training_bytes
from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.gradients import SHARE_OF_MEMORY, BatchGradients, out_of_memory, parts_for
from movieplotgpt.training.windows import NO_TARGET, Batch

ROWS, CONTEXT = 6, 16


@pytest.fixture
def model() -> GPT:
    config = ModelConfig(
        vocab_size=32, context_length=CONTEXT, n_layer=1, n_embd=16, n_head=1, n_kv_head=1, head_dim=8, n_ff=16
    )
    model = GPT(config)
    model.initialize(0)
    return model


@pytest.fixture
def batch() -> Batch:
    """Rows with ever fewer targets."""
    random = np.random.default_rng(0)
    ids = random.integers(0, 32, (ROWS, CONTEXT + 1))
    targets = ids.copy()
    for row in range(ROWS):
        targets[row, : 2 * row] = NO_TARGET
    starts = np.zeros((ROWS, CONTEXT), np.int32)
    starts[:, CONTEXT // 2 :] = CONTEXT // 2
    return Batch(ids[:, :-1], targets[:, 1:], starts)


def gradients(model: GPT) -> list[Tensor]:
    taken = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return taken


@pytest.mark.parametrize("parts", range(1, ROWS + 1))
def test_parts_add_up_to_the_whole(model: GPT, batch: Batch, parts: int) -> None:
    loss = model.loss(*map(torch.from_numpy, (batch.ids_BT, batch.targets_BT, batch.starts_BT)))
    loss.backward()
    expected = gradients(model)
    value = BatchGradients(model, model.loss, Workers(), parts)(batch)
    assert value.item() == pytest.approx(loss.item(), rel=1e-6)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_a_part_without_targets_counts_for_nothing(model: GPT, batch: Batch) -> None:
    batch.targets_BT[3:] = NO_TARGET
    half = Batch(batch.ids_BT[:3], batch.targets_BT[:3], batch.starts_BT[:3])
    whole = BatchGradients(model, model.loss, Workers())
    assert BatchGradients(model, model.loss, Workers(), 2)(batch).item() == pytest.approx(whole(half).item(), rel=1e-6)


def test_parts_double_until_they_fit(model: GPT, batch: Batch) -> None:
    def narrow(ids_BT: Tensor, targets_BT: Tensor, starts_BT: Tensor) -> Tensor:
        if len(ids_BT) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.loss(ids_BT, targets_BT, starts_BT)

    expected = BatchGradients(model, model.loss, Workers())(batch).item()
    model.zero_grad()
    halving = BatchGradients(model, narrow, Workers())
    assert halving(batch).item() == pytest.approx(expected, rel=1e-6)
    assert halving.parts == 4


def test_a_window_that_does_not_fit_is_named(model: GPT, batch: Batch) -> None:
    def never(*inputs: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    words = r"one window of 16 tokens does not fit into memory; choose a smaller model.size or model\.context_length"
    with pytest.raises(TrainingError, match=f"^{words}$"):
        BatchGradients(model, never, Workers())(batch)


def test_another_error_is_not_taken_for_want_of_memory(model: GPT, batch: Batch) -> None:
    def broken(*inputs: Tensor) -> Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        BatchGradients(model, broken, Workers())(batch)


def test_what_pytorch_says_when_a_cpu_has_no_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(error.value)


def test_memory_decides_the_parts(model: GPT) -> None:
    def needs(rows: int) -> int:
        return int(training_bytes(model.config, tokens_per_step=rows * CONTEXT) / SHARE_OF_MEMORY) + 1

    assert parts_for(model, 8, needs(8), 4) == 1
    assert parts_for(model, 8, needs(8) - 8, 4) == 2
    assert parts_for(model, 8, needs(2), 4) == 4
    assert parts_for(model, 8, 1, 4) == 8, "one window at a time is the least"
    assert parts_for(model, 8, 0, 4) == 1, "not known"

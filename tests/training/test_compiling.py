"""The compiled loss is the eager one, in value and gradients, and why it failed is one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.gpt import GPT
from movieplotgpt.training.compiling import CompiledLoss, reason_of

LongModel = Callable[[], GPT]
LongBatch = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    if not os.environ["TORCHINDUCTOR_CACHE_DIR"]:
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    yield
    torch._dynamo.reset()


def assert_gradients_agree(compiled: GPT, eager: GPT, tolerance: float) -> None:
    """``tolerance``: a share of the norm of each gradient; what is no number agrees with nothing."""
    for (name, ours), theirs in zip(compiled.named_parameters(), eager.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert (ours.grad - theirs.grad).norm() < tolerance * theirs.grad.norm(), name


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_compiled_loss_and_gradients_are_the_eager_ones(
    long_model: LongModel, long_batch: LongBatch, dtype: torch.dtype, tolerance: float
) -> None:
    """The tolerance is a share of the norm of each gradient, and of the loss; bfloat16 rounds to 0.4 % at every step."""
    eager, compiled = long_model(), long_model()
    eager.compute_dtype = compiled.compute_dtype = dtype
    starts_BT = torch.zeros_like(long_batch[0], dtype=torch.int32)
    starts_BT[:, 100:] = 100
    loss = eager.loss(*long_batch, starts_BT)
    compiled_loss = CompiledLoss(compiled)(*long_batch, starts_BT)
    loss.backward()
    compiled_loss.backward()
    assert compiled_loss.item() == pytest.approx(loss.item(), rel=tolerance)
    assert_gradients_agree(compiled, eager, tolerance)


def test_one_compiled_block_serves_every_layer(
    long_model: LongModel, long_batch: LongBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = 0
    real = torch.compile

    def with_counter(function: object, **settings: object) -> object:
        def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> object:
            nonlocal compiled
            compiled += 1
            return graph.forward

        return real(function, backend=count, **settings)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "compile", with_counter)
    CompiledLoss(long_model())(*long_batch)
    assert compiled == 3  # block, last norm, head


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("No working C++ compiler found", "No working C++ compiler found"),
        (
            "Command:\ng++ x\n\nOutput:\nx.cpp: In function\nx.cpp:3: fatal error: Python.h: No such file\nmore",
            "x.cpp:3: fa",
        ),
        ("", "RuntimeError"),
        ("error: " + "x" * 999, "error: xxx"),
    ],
)
def test_the_reason_of_a_failure_is_one_short_line(text: str, reason: str) -> None:
    found = reason_of(RuntimeError(text))
    assert found.startswith(reason) and "\n" not in found and len(found) < 210


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_compiled_gradients_equal_eager_ones() -> None:
    """Compilers err by shape: heads of 8 were right where heads of 128 gave no number (GCC 12, bfloat16, AMX)."""
    torch.manual_seed(1)
    config = ModelConfig(vocab_size=64, n_layer=1)
    tokens = torch.randint(64, (2, config.context_length))
    eager, compiled = GPT(config), GPT(config)
    eager.initialize(1)
    for _, weight in eager.matrices():
        torch.nn.init.normal_(weight, std=0.1)
    compiled.load_state_dict(eager.state_dict())
    eager.compute_dtype = compiled.compute_dtype = torch.bfloat16
    eager.loss(tokens, tokens).backward()
    CompiledLoss(compiled)(tokens, tokens).backward()
    assert_gradients_agree(compiled, eager, 0.05)

"""What a GPU does is what the CPU does; skipped where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.gpt import GPT
from movieplotgpt.training.compiling import CompiledLoss
from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.gradients import BatchGradients
from movieplotgpt.training.optimizers import MuonSettings
from movieplotgpt.training.windows import NO_TARGET, Batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

CONFIG = ModelConfig(
    vocab_size=256, context_length=256, n_layer=3, n_embd=128, n_head=2, n_kv_head=2, head_dim=64, n_ff=256
)


def a_model(device: str, dtype: torch.dtype) -> GPT:
    model = GPT(CONFIG)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1]))
    model.compute_dtype = dtype
    return model.to(device).train()


def a_batch(seed: int = 0) -> Batch:
    ids = np.random.default_rng(seed).integers(0, 256, (8, CONFIG.context_length + 1))
    targets = ids[:, 1:].copy()
    targets[:, :9] = NO_TARGET
    starts = np.zeros(targets.shape, np.int32)
    starts[:, 20:] = 20
    return Batch(ids[:, :-1], targets, starts)


def gradients(model: GPT) -> dict[str, torch.Tensor]:
    return {name: weight.grad.cpu() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 4e-2)])
def test_loss_and_gradients_are_those_of_the_cpu(dtype: torch.dtype, tolerance: float, compiled: bool) -> None:
    plain, model = a_model("cpu", torch.float32), a_model("cuda", dtype)
    expected = BatchGradients(plain, plain.loss, Workers())(a_batch()).item()
    loss = BatchGradients(model, CompiledLoss(model) if compiled else model.loss, Workers(), parts=2)(a_batch())
    assert loss.device.type == "cuda" and loss.item() == pytest.approx(expected, rel=tolerance)
    theirs = gradients(plain)
    for name, ours in gradients(model).items():
        assert (ours - theirs[name]).norm() <= tolerance * theirs[name].norm(), name


def test_steps_are_those_of_the_cpu_and_one_without_a_number_is_none() -> None:
    models = [a_model(device, torch.float32) for device in ("cpu", "cuda")]
    for model in models:
        optimizers = MuonSettings(weight_decay=0.1).build(model)
        for step, unsound in enumerate((0.0, 1.0, 0.0)):
            BatchGradients(model, model.loss, Workers())(a_batch(step))
            for weight in model.parameters():
                if unsound and weight.grad is not None:
                    weight.grad.fill_(torch.nan)
            for optimizer in optimizers:
                optimizer.found_inf = torch.tensor(unsound, device=next(model.parameters()).device)  # type: ignore[attr-defined]
                optimizer.step()
                optimizer.zero_grad()
    cpu, gpu = (dict(model.named_parameters()) for model in models)
    for name, weight in gpu.items():
        assert torch.isfinite(weight).all() and torch.allclose(weight.cpu(), cpu[name], atol=2e-3), name


def test_texts_of_an_eager_gpu_are_scored_as_on_the_cpu() -> None:
    cpu, gpu = (a_model(device, torch.float32).eval() for device in ("cpu", "cuda"))
    ids_BT = torch.from_numpy(a_batch().ids_BT)
    with torch.no_grad():
        torch.testing.assert_close(gpu(ids_BT.to("cuda")).cpu(), cpu(ids_BT), rtol=1e-3, atol=1e-3)

"""Muon and AdamW: each weight in its group, each step as worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.gpt import GPT
from movieplotgpt.training.optimizers import AdamWSettings, Muon, MuonSettings, OptimizerSettings, orthogonalize

Array = NDArray[np.float64]


def small_model(*, tie_embeddings: bool = True, seed: int = 0) -> GPT:
    model = GPT(
        ModelConfig(
            vocab_size=32,
            context_length=16,
            n_layer=2,
            n_embd=16,
            n_head=2,
            n_kv_head=1,
            head_dim=8,
            n_ff=24,
            tie_embeddings=tie_embeddings,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def fill_gradients(model: GPT, seed: int) -> dict[str, Array]:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator) * 0.01
    return {name: weight.grad.double().numpy() for name, weight in model.named_parameters() if weight.grad is not None}


def values(model: GPT) -> dict[str, Array]:
    return {name: weight.detach().double().numpy().copy() for name, weight in model.named_parameters()}


def is_matrix_of_a_block(name: str) -> bool:
    """By name, where the code under test goes by shape."""
    return "_proj" in name


def newton_schulz(matrix: Array) -> Array:
    """The published iteration, in float64 and without the transposition."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_orthogonalize_keeps_directions_and_evens_their_lengths(shape: tuple[int, int]) -> None:
    matrices = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalize(matrices, torch.float32)
    assert result.shape == matrices.shape
    for matrix, found in zip(matrices.double(), result.double(), strict=True):
        u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
        along = u.T @ found @ v.T
        assert torch.allclose(along, torch.diag(along.diag()), atol=1e-4), "the singular vectors are those of before"
        within = along.diag()[sizes > 0.1 * sizes.max()]  # five iterations do not lift what is almost nothing
        assert within.min() > 0.65 and within.max() < 1.25
        assert np.allclose(found.numpy(), newton_schulz(matrix.numpy()), atol=1e-4)


def test_a_batch_of_matrices_is_each_alone() -> None:
    matrices = (
        torch.randn(4, 12, 20, generator=torch.Generator().manual_seed(2))
        * torch.tensor([1e-3, 1, 10, 1e4])[:, None, None]
    )
    together = orthogonalize(matrices, torch.float32)
    alone = torch.cat([orthogonalize(matrix[None], torch.float32) for matrix in matrices])
    assert torch.allclose(together, alone, atol=1e-5)


def test_no_gradient_gives_no_direction() -> None:
    assert orthogonalize(torch.zeros(2, 4, 6), torch.float32).eq(0).all()


@pytest.mark.parametrize("settings", [AdamWSettings(), MuonSettings(weight_decay=0.1)], ids=["adamw", "muon"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameter_groups(settings: AdamWSettings | MuonSettings, tied: bool) -> None:
    model = small_model(tie_embeddings=tied)
    names = {id(weight): name for name, weight in model.named_parameters()}
    optimizers = settings.build(model)
    groups = [(optimizer, group) for optimizer in optimizers for group in optimizer.param_groups]
    placed = [names[id(weight)] for _, group in groups for weight in group["params"]]
    assert sorted(placed) == sorted(names.values())
    for optimizer, group in groups:
        for name in (names[id(weight)] for weight in group["params"]):
            matrix = is_matrix_of_a_block(name)
            assert group["weight_decay"] == (0.1 if matrix else 0.0), name
            assert isinstance(optimizer, Muon) == (settings.kind == "muon" and matrix), name
    assert any("lm_head" in name for name in names.values()) == (not tied)


def test_each_group_has_the_rate_it_was_given() -> None:
    muon, rest = MuonSettings(learning_rate=0.03, adamw_learning_rate=0.004, beta1=0.8).build(small_model())
    assert [group["lr"] for group in muon.param_groups] == [0.03]
    assert [(group["lr"], group["betas"][0]) for group in rest.param_groups] == [(0.004, 0.8)]
    (adamw,) = AdamWSettings(learning_rate=0.005).build(small_model())
    assert [group["lr"] for group in adamw.param_groups] == [0.005, 0.005]


def test_adamw_steps_are_those_worked_by_hand() -> None:
    model = small_model()
    rate, beta1, beta2, decay = 0.01, 0.9, 0.95, 0.1
    (optimizer,) = AdamWSettings(learning_rate=rate, beta1=beta1, beta2=beta2, weight_decay=decay).build(model)
    expected = values(model)
    mean = {name: np.zeros_like(value) for name, value in expected.items()}
    square = {name: np.zeros_like(value) for name, value in expected.items()}
    for t in (1, 2, 3):
        gradients = fill_gradients(model, seed=t)
        optimizer.step()
        for name, gradient in gradients.items():
            mean[name] = beta1 * mean[name] + (1 - beta1) * gradient
            square[name] = beta2 * square[name] + (1 - beta2) * gradient**2
            update = mean[name] / (1 - beta1**t) / (np.sqrt(square[name] / (1 - beta2**t)) + 1e-10)
            shrunk = expected[name] * (1 - rate * decay * is_matrix_of_a_block(name))
            expected[name] = shrunk - rate * update
    for name, value in values(model).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-6, err_msg=name)


def test_muon_steps_are_those_worked_by_hand() -> None:
    model = small_model()
    rate, momentum, decay = 0.02, 0.9, 0.1
    muon, _ = MuonSettings(learning_rate=rate, momentum=momentum, weight_decay=decay).build(model)
    before = values(model)
    expected = {name: value for name, value in before.items() if is_matrix_of_a_block(name)}
    buffers = {name: np.zeros_like(value) for name, value in expected.items()}
    for t in (1, 2, 3):
        gradients = fill_gradients(model, seed=t)
        muon.step()
        for name in expected:
            buffers[name] = momentum * buffers[name] + (1 - momentum) * gradients[name]
            ahead = (1 - momentum) * gradients[name] + momentum * buffers[name]
            rows, columns = ahead.shape
            scale = rate * max(1.0, rows / columns) ** 0.5
            expected[name] = expected[name] * (1 - rate * decay) - scale * newton_schulz(ahead)
    for name, value in values(model).items():
        np.testing.assert_allclose(value, expected.get(name, before[name]), atol=1e-5, err_msg=name)


def test_normuon_steps_are_those_worked_by_hand() -> None:
    model = small_model()
    rate, momentum, beta = 0.02, 0.9, 0.8
    muon, _ = MuonSettings(learning_rate=rate, momentum=momentum, row_beta=beta).build(model)
    before = values(model)
    expected = {name: value for name, value in before.items() if is_matrix_of_a_block(name)}
    buffers = {name: np.zeros_like(value) for name, value in expected.items()}
    squares: dict[str, np.ndarray] = {}
    for t in (1, 2, 3):
        gradients = fill_gradients(model, seed=t)
        muon.step()
        for name in expected:
            buffers[name] = momentum * buffers[name] + (1 - momentum) * gradients[name]
            step = newton_schulz((1 - momentum) * gradients[name] + momentum * buffers[name])
            row_squares = (step**2).mean(1)
            squares[name] = beta * squares.get(name, row_squares) + (1 - beta) * row_squares
            scaled = step / np.sqrt(squares[name])[:, None]
            rows, columns = step.shape
            scale = rate * max(1.0, rows / columns) ** 0.5 * np.linalg.norm(step) / np.linalg.norm(scaled)
            expected[name] = expected[name] - scale * scaled
    for name, value in values(model).items():
        np.testing.assert_allclose(value, expected.get(name, before[name]), atol=1e-5, err_msg=name)


def test_embeddings_decay_where_asked_and_norms_never() -> None:
    model = small_model()
    _, rest = MuonSettings(adamw_weight_decay=0.05).build(model)
    decays = {id(weight): group["weight_decay"] for group in rest.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        if not is_matrix_of_a_block(name):
            assert decays[id(weight)] == (0.05 if "embed" in name or "lm_head" in name else 0.0), name


def test_muon_with_weight_decay_shrinks_what_has_no_gradient_left() -> None:
    model = small_model()
    muon, _ = MuonSettings(learning_rate=0.1, weight_decay=0.5).build(model)
    before = values(model)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    muon.step()
    for name, value in values(model).items():
        shrunk = 0.95 if is_matrix_of_a_block(name) else 1.0
        np.testing.assert_allclose(value, before[name] * shrunk, rtol=1e-6)


def test_muon_leaves_a_weight_without_gradient_alone() -> None:
    model = small_model()
    muon, _ = MuonSettings(weight_decay=0.5).build(model)
    before = values(model)
    muon.step()
    assert all((value == before[name]).all() for name, value in values(model).items())


@pytest.mark.parametrize(
    ("given", "kind"), [({"kind": "adamw"}, AdamWSettings), ({"kind": "muon", "momentum": 0.5}, MuonSettings)]
)
def test_the_kind_tells_which(given: dict[str, Any], kind: type) -> None:
    assert type(TypeAdapter(OptimizerSettings).validate_python(given)) is kind


@pytest.mark.parametrize("on_host", [True, False])
def test_a_gradient_that_is_no_number_moves_nothing(on_host: bool) -> None:
    """On the host Muon looks at ``found_inf``; on a GPU it reckons with it, as here through the inner step."""
    model = small_model()
    muon = Muon([weight for _, weight in model.matrices()], 0.02, 0.95, 0.1, torch.float32)
    fill_gradients(model, seed=0)
    muon.step()
    before = values(model)
    momenta = [state["momentum"].clone() for state in muon.state.values()]
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, torch.nan)
    if on_host:
        muon.found_inf = torch.tensor(1.0)  # type: ignore[attr-defined]
        muon.step()
    else:
        for matrix in list(muon.state):
            with torch.no_grad():
                muon._step_alike([matrix], muon.param_groups[0], torch.tensor(1.0))
    assert all(np.array_equal(before[name], value) for name, value in values(model).items())
    for state, momentum in zip(muon.state.values(), momenta, strict=True):
        assert torch.equal(state["momentum"], momentum)


def test_a_sound_gradient_is_the_same_step_wherever_it_is_asked() -> None:
    stepped = []
    for unsound in (None, torch.tensor(0.0)):
        model = small_model()
        muon = Muon([weight for _, weight in model.matrices()], 0.02, 0.95, 0.1, torch.float32)
        fill_gradients(model, seed=0)
        for _, matrix in model.matrices():
            with torch.no_grad():
                muon._step_alike([matrix], muon.param_groups[0], unsound)
        stepped.append(values(model))
    assert all(np.allclose(stepped[0][name], stepped[1][name], atol=1e-7) for name in stepped[0])

"""What a student learns from teachers: the mean of their probabilities, weighed against the text."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.gpt import GPT
from movieplotgpt.training.distillation import DistillationSettings, DistilledLoss

CONTEXT = 12


def a_model(seed: int, **dimensions: int) -> GPT:
    defaults = {"n_layer": 1, "n_embd": 16, "n_head": 1, "n_kv_head": 1, "head_dim": 8, "n_ff": 16}
    model = GPT(ModelConfig(vocab_size=32, context_length=CONTEXT, **defaults | dimensions))
    model.initialize(seed)
    return model


def a_batch() -> tuple[Tensor, Tensor]:
    ids_BT = torch.randint(32, (3, CONTEXT + 1), generator=torch.Generator().manual_seed(1))
    targets_BT = ids_BT[:, 1:].clone()
    targets_BT[0, :5] = -100
    return ids_BT[:, :-1], targets_BT


def settings(weight: float, temperature: float = 1.0) -> DistillationSettings:
    return DistillationSettings(weight=weight, temperature=temperature)


@pytest.mark.parametrize(("weight", "temperature"), [(0.5, 1.0), (0.9, 2.0), (1.0, 0.5)])
def test_the_loss_is_the_formula(weight: float, temperature: float) -> None:
    student, teachers = a_model(0), [a_model(1), a_model(2, n_embd=24, n_layer=2)]
    ids_BT, targets_BT = a_batch()
    expected = 0.0
    log_student = student(ids_BT)
    taught = torch.stack([(teacher(ids_BT) / temperature).softmax(-1) for teacher in teachers]).mean(0)
    places = (targets_BT != -100).nonzero().tolist()
    for row, place in places:
        text = F.cross_entropy(log_student[row, place], targets_BT[row, place]).item()
        softened = (log_student[row, place] / temperature).log_softmax(-1)
        cross = -(taught[row, place] * softened).sum().item()
        expected += ((1 - weight) * text + weight * temperature**2 * cross) / len(places)
    loss = DistilledLoss(student, teachers, settings(weight, temperature), compiled=False)(ids_BT, targets_BT)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    student = a_model(0)
    DistilledLoss(student, [a_model(0)], settings(1.0), compiled=False)(*a_batch()).backward()
    gradients = [weight.grad for weight in student.parameters() if weight.grad is not None]
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-6


def test_teachers_learn_nothing() -> None:
    student, teacher = a_model(0), a_model(1)
    DistilledLoss(student, [teacher], settings(0.5), compiled=False)(*a_batch()).backward()
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_student_comes_to_agree_with_its_teachers() -> None:
    student, teachers = a_model(0), [a_model(1), a_model(2)]
    loss = DistilledLoss(student, teachers, settings(1.0), compiled=False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    ids_BT, targets_BT = a_batch()
    taught = torch.stack([teacher(ids_BT).softmax(-1) for teacher in teachers]).mean(0)
    counted = targets_BT != -100
    floor = -(taught * taught.log()).sum(-1)[counted].mean().item()  # their own entropy
    began = loss(ids_BT, targets_BT).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss(ids_BT, targets_BT).backward()
        optimizer.step()
    ended = loss(ids_BT, targets_BT).item()
    assert floor <= ended + 1e-4 and ended - floor < 0.1 * (began - floor)
    assert math.isfinite(ended)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_compiled_is_eager() -> None:
    results = []
    for compiled in (False, True):
        student = a_model(0)
        loss = DistilledLoss(student, [a_model(1), a_model(2)], settings(0.7, 1.5), compiled=compiled)(*a_batch())
        loss.backward()
        results.append((loss, [weight.grad for weight in student.parameters() if weight.grad is not None]))
    torch._dynamo.reset()
    (eager, theirs), (compiled_loss, ours) = results
    torch.testing.assert_close(compiled_loss, eager)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)

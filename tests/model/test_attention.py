"""Attention in blocks is attention, in values and gradients, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from movieplotgpt.model import attention
from movieplotgpt.model.attention import QUERIES_AT_ONCE, blocked_attention, causal_attention
from movieplotgpt.model.gpt import GPT

LENGTHS = [1, 2, 37, *(QUERIES_AT_ONCE + more for more in (-1, 0, 1)), 2 * QUERIES_AT_ONCE, 2 * QUERIES_AT_ONCE + 37]
TWO_BLOCKS = QUERIES_AT_ONCE + 32


def heads(length: int, *, batch: int = 2, n_head: int = 3, head_dim: int = 8) -> list[Tensor]:
    """Queries, keys and values as the network hands them over: heads behind time in memory."""
    generator = torch.Generator().manual_seed(length)
    drawn = (torch.randn(batch, length, n_head, head_dim, generator=generator) * 2 for _ in range(3))
    return [x.requires_grad_().transpose(1, 2) for x in drawn]


def the_kernel(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)


def values_and_gradients(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    y_BHTD = attend(*inputs)
    weighted = (y_BHTD * torch.arange(y_BHTD.numel()).view_as(y_BHTD).sin()).sum()  # every value has its own weight
    return y_BHTD, torch.autograd.grad(weighted, inputs)


@pytest.mark.parametrize("length", LENGTHS)
def test_blocks_are_the_kernel_in_values_and_gradients(length: int) -> None:
    inputs = heads(length)
    y_BHTD, gradients = values_and_gradients(blocked_attention, inputs)
    expected, expected_gradients = values_and_gradients(the_kernel, inputs)
    assert y_BHTD.shape == expected.shape
    torch.testing.assert_close(y_BHTD, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def starts_at(length: int, *places: int) -> Tensor:
    """Two rows: documents that start at 0 and these places; one document."""
    starts = torch.zeros(2, length, dtype=torch.int32)
    for place in places:
        starts[0, place:] = place
    return starts


@pytest.mark.parametrize("attend", [blocked_attention, causal_attention])
def test_documents_of_a_window_do_not_see_each_other(attend: Callable[..., Tensor]) -> None:
    places = [5, 6, QUERIES_AT_ONCE - 1, TWO_BLOCKS - 9]
    inputs, starts_BT = heads(TWO_BLOCKS), starts_at(TWO_BLOCKS, *places)
    y_BHTD, gradients = values_and_gradients(lambda *qkv: attend(*qkv, starts_BT), inputs)
    for start, stop in pairwise([0, *places, TWO_BLOCKS]):
        alone = the_kernel(*(x[:1, :, start:stop] for x in inputs))
        torch.testing.assert_close(y_BHTD[:1, :, start:stop], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(y_BHTD[1:], the_kernel(*(x[1:] for x in inputs)), rtol=1e-5, atol=1e-5)
    others = [x.detach().clone() for x in inputs]
    for x in others:
        x[0, :, 6 : QUERIES_AT_ONCE - 1] = 7.0
    changed, changed_gradients = values_and_gradients(
        lambda *qkv: attend(*qkv, starts_BT), [x.requires_grad_() for x in others]
    )
    same = [*range(6), *range(QUERIES_AT_ONCE - 1, TWO_BLOCKS)]
    for ours, theirs in zip((y_BHTD, *gradients), (changed, *changed_gradients), strict=True):
        assert torch.equal(ours[0][:, same], theirs[0][:, same]), "to the bit, whatever the neighbours are"


@pytest.mark.parametrize("at_once", [1, 2, 5, 20, 21, 1000])
def test_the_size_of_a_block_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = heads(20)
    expected = the_kernel(*inputs)
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", at_once)
    torch.testing.assert_close(blocked_attention(*inputs), expected, rtol=1e-5, atol=1e-5)


def test_blocks_in_bfloat16_stay_near_float32() -> None:
    inputs = heads(TWO_BLOCKS)
    rounded = blocked_attention(*(x.bfloat16() for x in inputs))
    assert rounded.dtype == torch.bfloat16
    expected = the_kernel(*inputs)
    assert (rounded.float() - expected).norm() < 0.02 * expected.norm()


def test_large_scores_stay_numbers() -> None:
    q_BHTD, k_BHTD, v_BHTD = heads(40)
    y_BHTD, gradients = values_and_gradients(blocked_attention, [q_BHTD * 1e4, k_BHTD * 1e4, v_BHTD])
    assert all(x.isfinite().all() for x in (y_BHTD, *gradients))


def test_eager_attention_is_the_kernel(long_model: Callable[[], GPT], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Tensor) -> Tensor:
        raise AssertionError("blocks are for the compiler")

    monkeypatch.setattr(attention, "blocked_attention", refuse)
    inputs = heads(50)
    assert torch.equal(causal_attention(*inputs), the_kernel(*inputs))
    long_model()(torch.zeros(1, 9, dtype=torch.long))


def test_the_compiler_is_given_blocks(long_model: Callable[[], GPT], long_batch: tuple[Tensor, Tensor]) -> None:
    functions: set[object] = set()

    def note(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        functions.update(node.target for node in graph.graph.nodes)
        return graph.forward

    torch.compile(long_model().loss, backend=note, dynamic=False)(*long_batch)
    torch._dynamo.reset()
    assert torch.bmm in functions
    assert F.scaled_dot_product_attention not in functions

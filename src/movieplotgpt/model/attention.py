"""Causal attention: one kernel call, or blocks of matrix products where those are faster.

PyTorch's fused kernel for CPUs multiplies at a fraction of the speed of a plain matrix product, its backward pass most
of all. Under ``torch.compile`` on a CPU the same sum is therefore taken in blocks of queries, each against the keys it
may look at; the compiler fuses scale, mask and exponential, and the division by their sum waits until after the product,
where there is less to divide. Whole training step of the default model, two cores with bfloat16 units: kernel 5,100
tokens/s, blocks 6,200 (results/LOG.md). The kernel is the oracle of its test.

Documents that share a window do not see each other: each position has a start, the first position it may look at.

Shapes: B batch, H heads, T time, D head size; S queries of a block, Z keys it sees.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

QUERIES_AT_ONCE = 256


def causal_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, starts_BT: Tensor | None = None) -> Tensor:
    """Return what each position gathers from those between its start and itself, (B, H, T, D); no starts are all 0."""
    if torch.compiler.is_compiling() and q_BHTD.device.type == "cpu":
        return blocked_attention(q_BHTD, k_BHTD, v_BHTD, starts_BT)
    if starts_BT is None:
        return F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)
    seen_BTT = _seen(starts_BT, 0, starts_BT.shape[1])
    return F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, attn_mask=seen_BTT.unsqueeze(1))


def blocked_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, starts_BT: Tensor | None = None) -> Tensor:
    """Return the same by plain matrix products, the scores of a block of queries in float32."""
    q_BTD, k_BTD, v_BTD = (x.flatten(0, 1) for x in (q_BHTD, k_BHTD, v_BHTD))
    batch, heads, length, head_dim = q_BHTD.shape
    if starts_BT is None:
        starts_BT = torch.zeros(1, length, dtype=torch.int32, device=q_BTD.device)
    gathered = []
    for start in range(0, length, QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, length)
        q_BSD, k_BZD, v_BZD = (x.contiguous() for x in (q_BTD[:, start:stop], k_BTD[:, :stop], v_BTD[:, :stop]))
        products_BSZ: Tensor = _Scores.apply(q_BSD, k_BZD)  # type: ignore[no-untyped-call]
        scores_BHSZ = (products_BSZ.float() * (1 / math.sqrt(head_dim))).unflatten(0, (batch, heads))
        seen_BSZ = _seen(starts_BT, start, stop)
        scores_BSZ = scores_BHSZ.masked_fill(~seen_BSZ.unsqueeze(1), -math.inf).flatten(0, 1)
        weights_BSZ = (scores_BSZ - scores_BSZ.amax(-1, keepdim=True).detach()).exp().to(v_BTD.dtype)
        total_BS1 = weights_BSZ.float().sum(-1, keepdim=True)
        gathered.append((torch.bmm(weights_BSZ, v_BZD) / total_BS1).to(v_BTD.dtype))
    return torch.cat(gathered, 1).view_as(q_BHTD)


def _seen(starts_BT: Tensor, start: int, stop: int) -> Tensor:
    """Return which of the first ``stop`` keys each query from ``start`` on attends to, bool, (B, S, Z)."""
    keys_Z = torch.arange(stop, dtype=starts_BT.dtype, device=starts_BT.device)
    return (keys_Z <= keys_Z[start:, None]) & (keys_Z >= starts_BT[:, start:stop, None])


class _Scores(torch.autograd.Function):
    """``q @ k.mT``, the gradient of k laid out as k is.

    Left to itself that gradient comes transposed, and what turns it back takes longer than the products: a block of the
    default model 0.31 s, so 0.16 s. GCC 12 at -O3 even turned it into NaN (AMX, bfloat16).
    """

    @staticmethod
    def forward(q_BSD: Tensor, k_BZD: Tensor) -> Tensor:
        return torch.bmm(q_BSD, k_BZD.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope_BSZ: Tensor) -> tuple[Tensor, Tensor]:
        q_BSD, k_BZD = ctx.saved_tensors
        return torch.bmm(slope_BSZ, k_BZD), torch.bmm(slope_BSZ.mT, q_BSD)

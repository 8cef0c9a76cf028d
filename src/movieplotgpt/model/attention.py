"""Causal attention: one kernel call, or blocks of matrix products where those are faster.

PyTorch's fused kernel for CPUs multiplies at a fraction of the speed of a plain matrix product, its backward pass most
of all. Under ``torch.compile`` on a CPU the same sum is therefore taken in blocks of queries, each against the keys it
may look at; the compiler fuses scale, mask and exponential, and the division by their sum waits until after the product,
where there is less to divide. Whole training step of the default model, two cores with bfloat16 units: kernel 5,100
tokens/s, blocks 6,200 (results/LOG.md). The kernel is the oracle of its test.

Shapes: B batch, H heads, T time, D head size; S queries of a block, Z keys it sees.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

QUERIES_AT_ONCE = 256


def causal_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    """What each position gathers from itself and those before it: (B, H, T, D)."""
    if torch.compiler.is_compiling() and q_BHTD.device.type == "cpu":
        return blocked_attention(q_BHTD, k_BHTD, v_BHTD)
    return F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)


def blocked_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    """The same as plain matrix products, the scores of a block of queries in float32."""
    q_BTD, k_BTD, v_BTD = (x.flatten(0, 1) for x in (q_BHTD, k_BHTD, v_BHTD))
    length, head_dim = q_BTD.shape[1:]
    gathered = []
    for start in range(0, length, QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, length)
        q_BSD, k_BZD, v_BZD = (x.contiguous() for x in (q_BTD[:, start:stop], k_BTD[:, :stop], v_BTD[:, :stop]))
        products_BSZ: Tensor = _Scores.apply(q_BSD, k_BZD)  # type: ignore[no-untyped-call]
        scores_BSZ = products_BSZ.float() * (1 / math.sqrt(head_dim))
        seen_SZ = torch.ones(stop - start, stop, dtype=torch.bool, device=q_BTD.device).tril(start)
        scores_BSZ = scores_BSZ.masked_fill(~seen_SZ, -math.inf)
        weights_BSZ = (scores_BSZ - scores_BSZ.amax(-1, keepdim=True).detach()).exp().to(v_BTD.dtype)
        total_BS1 = weights_BSZ.float().sum(-1, keepdim=True)
        gathered.append((torch.bmm(weights_BSZ, v_BZD) / total_BS1).to(v_BTD.dtype))
    return torch.cat(gathered, 1).view_as(q_BHTD)


class _Scores(torch.autograd.Function):
    """``q @ k.mT``, the gradient of k laid out as k is.

    Left to itself that gradient comes transposed, and what turns it back takes longer than the products: a block of the
    default model 0.31 s, so 0.16 s. GCC 12 at -O3 even turned it into numbers that are none (AMX, bfloat16).
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

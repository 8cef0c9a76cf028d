"""From logits to the next token: one small function per rule, composed in one place, and one draw.

The rules work in float64 on the CPU, so that every device and every door draws alike. Where tokens tie, the lower id is
the more probable one. Shapes: B batch, V vocabulary; a token that a rule leaves out has the logit -inf.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from movieplotgpt.config import Settings
from movieplotgpt.errors import CheckpointError


class SamplingConfig(Settings):
    """How the next token is chosen and when a text ends; a rule that is None is off."""

    temperature: float = Field(0.9, ge=0, description="Below 1 bolder, above 1 wilder; 0 takes the likeliest token.")
    top_k: int | None = Field(None, ge=1, description="Draw from the k likeliest tokens.")
    top_p: float | None = Field(None, gt=0, le=1, description="Draw from the fewest tokens that together reach p.")
    min_p: float | None = Field(
        0.05, ge=0, le=1, description="Draw from tokens at least p times as likely as the best."
    )
    seed: int | None = Field(None, ge=0, description="The same seed writes the same text; none draws a fresh one.")
    max_tokens: int | None = Field(None, ge=1, description="Tokens at most; none is about 2,000 characters.")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="Texts before which to stop.")
    n: int = Field(1, ge=1, description="Plots for each title; plot i has the seed plus i.")

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: Any) -> Any:
        return (stop,) if isinstance(stop, str) else stop


def fresh_seed() -> int:
    """A seed nobody has asked for, short enough to type."""
    return secrets.randbelow(1 << 31)


def choose(logits_BV: Tensor, config: SamplingConfig, randoms: Sequence[np.random.Generator]) -> list[int]:
    """The next token of each text; ``randoms`` holds the generator of each, which moves on by one number.

    Raises:
        CheckpointError: the logits are no numbers, as those of damaged weights.
    """
    logits_BV = logits_BV.to("cpu", torch.float64)
    if not bool(logits_BV.amax(-1).isfinite().all()):
        raise CheckpointError("the model computes logits that are no numbers; its weights are damaged, get them again")
    u_B = torch.tensor([random.random() for random in randoms], dtype=torch.float64)
    if config.temperature == 0:
        return [int(i) for i in logits_BV.argmax(-1)]
    return [int(i) for i in draw(filter_logits(logits_BV, config), u_B)]


def filter_logits(logits_BV: Tensor, config: SamplingConfig) -> Tensor:
    """All rules in their order: temperature, top-k, top-p, min-p."""
    logits_BV = heat(logits_BV, config.temperature)
    if config.top_k is not None:
        logits_BV = keep_top_k(logits_BV, config.top_k)
    if config.top_p is not None:
        logits_BV = keep_top_p(logits_BV, config.top_p)
    if config.min_p is not None:
        logits_BV = keep_min_p(logits_BV, config.min_p)
    return logits_BV


def heat(logits_BV: Tensor, temperature: float) -> Tensor:
    """Divide by a positive temperature, the best logit at zero, so that a tiny temperature overflows nothing."""
    return (logits_BV - logits_BV.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Keep exactly the ``k`` likeliest tokens (all, where there are fewer)."""
    if k >= logits_BV.shape[-1]:
        return logits_BV
    order_BV = logits_BV.argsort(dim=-1, descending=True, stable=True)
    return logits_BV.scatter(-1, order_BV[:, k:], -math.inf)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Keep the fewest of the likeliest tokens whose probabilities together reach ``p``; at least one.

    Source: The Curious Case of Neural Text Degeneration (arXiv 1904.09751).
    """
    if p == 1:
        return logits_BV
    sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.softmax(-1).cumsum(-1).roll(1, -1)
    before_BV[:, 0] = 0
    return logits_BV.scatter(-1, order_BV, sorted_BV.masked_fill(before_BV >= p, -math.inf))


def keep_min_p(logits_BV: Tensor, p: float) -> Tensor:
    """Keep tokens at least ``p`` times as likely as the likeliest.

    Source: Turning Up the Heat: Min-p Sampling (arXiv 2407.01082).
    """
    least = math.log(p) if p > 0 else -math.inf
    return logits_BV.masked_fill(logits_BV < logits_BV.amax(-1, keepdim=True) + least, -math.inf)


def draw(logits_BV: Tensor, u_B: Tensor) -> Tensor:
    """The token where the distribution function passes ``u_B``, uniform in [0, 1); never one that is left out."""
    cdf_BV = (logits_BV - logits_BV.amax(-1, keepdim=True)).exp().cumsum(-1)
    total_B = cdf_BV[:, -1]
    point_B = torch.minimum(u_B * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    return torch.searchsorted(cdf_BV, point_B[:, None], right=True)[:, 0]

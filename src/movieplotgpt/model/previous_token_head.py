"""A head that looks at the token before, from the first step on.

A model finds such a head by itself, and upon it learns to copy from earlier text, returning names most of
all; in a training of minutes that comes late or never. The weights can have it at once: all embeddings share one
coordinate, and the queries and keys of one head are little but that coordinate, turned against each other by the rotary
angle of one token, so that they agree best at a distance of one. Its values do not see that coordinate, only what the
token before was. It is a beginning only: every weight goes on learning.

What it saves: results/LOG.md. The head is half of the induction heads of Olsson et al. (arXiv 2209.11895).
"""

from __future__ import annotations

import torch
from torch import Tensor

from movieplotgpt.model.gpt import GPT, Block

SHARED = 0  # the coordinate that all embeddings share
SHARED_VALUE = 0.3  # about as long as the rest of a fresh embedding
OWN_SHARE = 0.1  # of what the head's queries and keys would be without it
SLOWEST = 0.25  # radians a token: pairs that turn slower hardly tell one token from its neighbours


@torch.no_grad()
def add_previous_token_head(model: GPT) -> None:
    """Turn the first head of the first block of a freshly drawn ``model`` to the token before each; nothing is drawn."""
    config, block = model.config, model.model.layers[0]
    assert isinstance(block, Block)
    half = config.head_dim // 2
    angles = config.rope_theta ** (-torch.arange(half) / half)
    angles = angles[angles >= SLOWEST]
    model.model.embed_tokens.weight[:, SHARED] = SHARED_VALUE
    block.self_attn.v_proj.weight[: config.head_dim, SHARED] = 0
    for projection, turn in ((block.self_attn.q_proj, 0), (block.self_attn.k_proj, 1)):
        head_DC: Tensor = projection.weight[: config.head_dim]
        head_DC *= OWN_SHARE
        head_DC[:, SHARED] = 0
        head_DC[: len(angles), SHARED] = (turn * angles).cos()
        head_DC[half : half + len(angles), SHARED] = (turn * angles).sin()

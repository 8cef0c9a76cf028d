"""The same network, read token by token behind a cache: what generation runs on.

Weights are cast once to the precision of the products, and matrices that read the same are joined: a layer takes four
products in place of seven, and norms and rotations of queries and keys are taken together. On a processor a token of a
small model costs as much in calls as in products, so fewer calls are what counts. ``GPT`` is the oracle of its test.

Shapes: B texts, T new tokens, C embedding, H query heads, K key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from movieplotgpt.model.gpt import GPT, Block
from movieplotgpt.model.kv_cache import KVCache


@dataclass(frozen=True)
class _Layer:
    """The weights of a block; ``heads_ND`` are the norms of its query heads, then of its key heads."""

    before_attention: Tensor
    query_key_value: Tensor
    heads_ND: Tensor
    out: Tensor
    before_mlp: Tensor
    gate_up: Tensor
    down: Tensor

    @classmethod
    def of(cls, block: Block, dtype: torch.dtype) -> _Layer:
        attention, mlp = block.self_attn, block.mlp
        heads, key_heads = (len(x.weight) // attention.head_dim for x in (attention.q_proj, attention.k_proj))
        norms = [attention.q_norm.weight] * heads + [attention.k_norm.weight] * key_heads
        return cls(
            before_attention=block.input_layernorm.weight.detach(),
            query_key_value=_joined(dtype, attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight),
            heads_ND=torch.stack([norm.detach() for norm in norms]),
            out=attention.o_proj.weight.detach().to(dtype),
            before_mlp=block.post_attention_layernorm.weight.detach(),
            gate_up=_joined(dtype, mlp.gate_proj.weight, mlp.up_proj.weight),
            down=mlp.down_proj.weight.detach().to(dtype),
        )


class Decoder:
    """A model's weights as they are when it is made, laid out for reading a few tokens at a time.

    ``decoder(ids_BT, cache)`` gives ``logits_BTV`` (float32) of tokens that follow what the cache holds, and puts them
    into it. Dropout, which only training has, is off.
    """

    def __init__(self, model: GPT) -> None:
        self.config, self.dtype = model.config, model.compute_dtype
        self.device = model.model.embed_tokens.weight.device
        self.embedding = model.model.embed_tokens.weight.detach()
        self.head = model.lm_head.weight.detach().to(self.dtype)
        self.norm = model.model.norm.weight.detach()
        self.layers = [_Layer.of(cast(Block, block), self.dtype) for block in model.model.layers]
        self.cos_TD, self.sin_TD = model.cos_TD.to(self.dtype), model.sin_TD.to(self.dtype)

    def new_cache(self, batch: int) -> KVCache:
        """An empty cache for ``batch`` texts of a full context."""
        c = self.config
        shape = (c.n_layer, batch, c.n_kv_head, c.context_length, c.head_dim)
        return KVCache(*shape, dtype=self.dtype, device=self.device)

    def __call__(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """Read ``ids_BT``; the logits of each."""
        return F.linear(self._normed(self.read(ids_BT, cache), self.norm), self.head).float()

    def next_logits(self, ids_B: Tensor, cache: KVCache) -> Tensor:
        """Read one token of each text; the logits of what comes next: (B, V), float32."""
        return self(ids_B[:, None], cache)[:, 0]

    @torch.no_grad()
    def read(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """Put ``ids_BT`` into the cache; their last hidden states, not yet normed."""
        new, start = ids_BT.shape[1], cache.length
        stop = start + new
        assert stop <= self.config.context_length, f"{stop} tokens in a context of {self.config.context_length}"
        mask = None
        if cache.even:
            rotary = (self.cos_TD[start:stop, None], self.sin_TD[start:stop, None])
            if new > 1:
                mask = _causal_mask(new, stop, self.device)
        else:
            ends_B = torch.from_numpy(cache.lengths).to(self.device)
            rotary = (self.cos_TD[ends_B, None, None], self.sin_TD[ends_B, None, None])
            mask = torch.arange(stop, device=self.device) <= ends_B[:, None, None, None]
        x_BTC = F.embedding(ids_BT, self.embedding).to(self.dtype)
        for number, layer in enumerate(self.layers):
            x_BTC = self._attend(x_BTC, layer, number, rotary, mask, cache)
            gate_up = F.linear(self._normed(x_BTC, layer.before_mlp), layer.gate_up)
            gate, up = gate_up.chunk(2, dim=-1)
            x_BTC = x_BTC + F.linear(F.silu(gate) * up, layer.down)
        cache.advance(new)
        return x_BTC

    def _attend(
        self,
        x_BTC: Tensor,
        layer: _Layer,
        number: int,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KVCache,
    ) -> Tensor:
        c = self.config
        joined = F.linear(self._normed(x_BTC, layer.before_attention), layer.query_key_value)
        joined_BTND = joined.view(*x_BTC.shape[:2], -1, c.head_dim)
        turning_BTND, v_BTKD = joined_BTND.split([c.n_head + c.n_kv_head, c.n_kv_head], dim=2)
        turned_BTND = _rotate(self._normed(turning_BTND, layer.heads_ND), rotary)
        q_BTHD, k_BTKD = turned_BTND.split([c.n_head, c.n_kv_head], dim=2)
        k_BKTD, v_BKTD = cache.extend(number, k_BTKD.transpose(1, 2), v_BTKD.transpose(1, 2))
        grouped = c.n_head != c.n_kv_head
        y_BHTD = F.scaled_dot_product_attention(
            q_BTHD.transpose(1, 2), k_BKTD, v_BKTD, attn_mask=mask, enable_gqa=grouped
        )
        return x_BTC + F.linear(y_BHTD.transpose(1, 2).flatten(2), layer.out)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm over the last dimension, in float32 whatever comes in."""
        return (F.rms_norm(x.float(), x.shape[-1:], None, self.config.norm_eps) * weight).to(x.dtype)


def _joined(dtype: torch.dtype, *matrices: Tensor) -> Tensor:
    return torch.cat([matrix.detach().to(dtype) for matrix in matrices])


def _rotate(x_BTND: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """As ``gpt.rotate``, heads behind time."""
    cos, sin = rotary
    return x_BTND * cos + x_BTND.roll(x_BTND.shape[-1] // 2, -1) * sin


def _causal_mask(new: int, seen: int, device: torch.device) -> Tensor:
    """Which of ``seen`` positions the last ``new`` may look at: (new, seen), True where allowed."""
    return torch.ones(new, seen, dtype=torch.bool, device=device).tril(seen - new)

"""The transformer, in the layout of Qwen3; nothing but the network.

RMSNorm, rotary positions, grouped-query attention with a norm on each query and key head, SwiGLU, no biases. Attribute
names are transformers' own, so that ``state_dict`` is the file every tool reads.

Shapes: B batch, T time, C embedding, H query heads, K key-value heads, D head size, V vocabulary.

Source: Qwen3 technical report (arXiv 2505.09388); Hugging Face transformers ``Qwen3ForCausalLM`` is the test's oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.attention import causal_attention

ONE_PRODUCT_ON = ("cuda",)  # devices on which matrices that read the same are joined in training


class Places(NamedTuple):
    """Where tokens stand: cosine and sine of the rotary angles, (T, D) or (B, 1, T, D), and what may be looked at.

    ``starts`` are the first positions that tokens see, (B, T); None is 0 for all.
    """

    cos: Tensor
    sin: Tensor
    starts: Tensor | None


class Linear(nn.Linear):
    """A matrix without bias, kept in its own precision and cast to that of its input for the product."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out, bias=False)

    def reset_parameters(self) -> None:
        """Nothing yet: `GPT` draws the weights of all, by its own rule."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def products(x: Tensor, *matrices: Linear) -> Sequence[Tensor]:
    """Return the product of ``x`` with each matrix; training on a GPU computes them as one product, which is faster there."""
    if x.device.type not in ONE_PRODUCT_ON or not torch.is_grad_enabled():
        return [matrix(x) for matrix in matrices]
    joined = torch.cat([matrix.weight.to(x.dtype) for matrix in matrices])
    made: Sequence[Tensor] = F.linear(x, joined).split([len(matrix.weight) for matrix in matrices], dim=-1)
    return made


class RMSNorm(nn.Module):
    """Root mean square norm, computed in float32 whatever comes in."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x_float = x.float()
        normed = x_float * torch.rsqrt(x_float.square().mean(-1, keepdim=True) + self.eps)
        scaled: Tensor = (self.weight.float() * normed).to(x.dtype)
        return scaled


class Attention(nn.Module):
    """Causal self-attention over ``n_head`` query heads that share ``n_kv_head`` key-value heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.group = config.n_head // config.n_kv_head
        self.q_proj = Linear(config.n_embd, config.n_head * config.head_dim)
        self.k_proj = Linear(config.n_embd, config.n_kv_head * config.head_dim)
        self.v_proj = Linear(config.n_embd, config.n_kv_head * config.head_dim)
        self.o_proj = Linear(config.n_head * config.head_dim, config.n_embd)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, x_BTC: Tensor, places: Places) -> Tensor:
        q, k, v = products(x_BTC, self.q_proj, self.k_proj, self.v_proj)
        q_BHTD = rotate(self.q_norm(self._heads(q)).transpose(1, 2), places)
        k_BKTD = rotate(self.k_norm(self._heads(k)).transpose(1, 2), places)
        v_BKTD = self._heads(v).transpose(1, 2)
        if self.group > 1:
            k_BKTD = k_BKTD.repeat_interleave(self.group, dim=1)
            v_BKTD = v_BKTD.repeat_interleave(self.group, dim=1)
        y_BHTD = causal_attention(q_BHTD, k_BKTD, v_BKTD, places.starts)
        y_BTC: Tensor = self.o_proj(y_BHTD.transpose(1, 2).flatten(2))
        return y_BTC

    def _heads(self, x_BTC: Tensor) -> Tensor:
        return x_BTC.view(*x_BTC.shape[:2], -1, self.head_dim)


class MLP(nn.Module):
    """SwiGLU: one half gates the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.n_embd, config.n_ff)
        self.up_proj = Linear(config.n_embd, config.n_ff)
        self.down_proj = Linear(config.n_ff, config.n_embd)

    def forward(self, x_BTC: Tensor) -> Tensor:
        gate, up = products(x_BTC, self.gate_proj, self.up_proj)
        y_BTC: Tensor = self.down_proj(F.silu(gate) * up)
        return y_BTC


class Block(nn.Module):
    """Attention, then the MLP, each on a normed copy and added back."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.n_embd, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.n_embd, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor, places: Places, dropout: float) -> Tensor:
        attended = self.self_attn(self.input_layernorm(x_BTC), places)
        x_BTC = x_BTC + F.dropout(attended, dropout, self.training)
        widened = self.mlp(self.post_attention_layernorm(x_BTC))
        return x_BTC + F.dropout(widened, dropout, self.training)


class Backbone(nn.Module):
    """Embedding, blocks, last norm: everything but the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd, config.norm_eps)


class GPT(nn.Module):
    """A decoder-only language model with fresh weights, drawn by ``seed`` as `initialize` does.

    On the meta device (``with torch.device("meta")``) there are no weights to draw: a loader puts its own in their place.

    ``dropout`` is applied to what each block adds, outside the attention kernel, in training mode only.
    ``compute_dtype`` is the precision of the products; weights stay in their own.
    """

    cos_TD: Tensor
    sin_TD: Tensor

    def __init__(self, config: ModelConfig, *, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.config, self.dropout = config, dropout
        self.compute_dtype = torch.float32
        self.model = Backbone(config)
        self.lm_head = Linear(config.n_embd, config.vocab_size)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        cos_TD, sin_TD = rotary_table(config)
        self.register_buffer("cos_TD", cos_TD, persistent=False)
        self.register_buffer("sin_TD", sin_TD, persistent=False)
        if not self.model.embed_tokens.weight.is_meta:
            self.initialize(seed)

    def initialize(self, seed: int) -> None:
        """Draw fresh weights: normal matrices, zero for what writes into the residual stream.

        So each block starts as the identity.

        Source: zero-init projections as in modded-nanogpt; embedding scale 0.02 as in GPT-2.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            with torch.no_grad():
                if weight.ndim < 2:
                    weight.fill_(1.0)
                elif name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.zero_()
                else:
                    spread = 0.02 if "embed_tokens" in name or "lm_head" in name else 1 / math.sqrt(weight.shape[1])
                    weight.copy_(torch.randn(weight.shape, generator=generator, device="cpu") * spread)

    def hidden(
        self, ids_BT: Tensor, starts_BT: Tensor | None = None, *, call: Callable[..., Tensor] = nn.Module.__call__
    ) -> Tensor:
        """Return the last hidden state, normed, (B, T, C): what the head reads.

        ``starts_BT`` is the position, int32, at which the document of each token starts: tokens see no others, and their
        positions count from there. ``call`` runs a layer on its inputs: what compiles one layer for all of them has its
        place here.
        """
        x_BTC = F.embedding(ids_BT, self.model.embed_tokens.weight).to(self.compute_dtype)
        x_BTC = F.dropout(x_BTC, self.dropout, self.training)
        places = self._places(ids_BT.shape[1], starts_BT)
        for block in self.model.layers:
            x_BTC = call(block, x_BTC, places, self.dropout)
        return call(self.model.norm, x_BTC)

    def _places(self, length: int, starts_BT: Tensor | None) -> Places:
        assert length <= self.config.context_length, f"{length} tokens in a context of {self.config.context_length}"
        cos_TD, sin_TD = (table[:length].to(self.compute_dtype) for table in (self.cos_TD, self.sin_TD))
        if starts_BT is None:
            return Places(cos_TD, sin_TD, None)
        positions_BT = torch.arange(length, device=starts_BT.device) - starts_BT
        return Places(cos_TD[positions_BT].unsqueeze(1), sin_TD[positions_BT].unsqueeze(1), starts_BT)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Return ``logits_BTV`` (float32) for ``ids_BT``."""
        logits_BTV: Tensor = self.lm_head(self.hidden(ids_BT)).float()
        return logits_BTV

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, starts_BT: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy (nats per token) over the targets that are not -100; ``hidden`` has the starts."""
        return self.cross_entropy(self.hidden(ids_BT, starts_BT), targets_BT)

    def cross_entropy(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the cross-entropy of the last hidden state."""
        logits_BTV = self.lm_head(hidden_BTC).float()
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=-100)

    def matrices(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The two-dimensional weights inside the blocks: what Muon orthogonalises."""
        return ((name, weight) for name, weight in self.model.layers.named_parameters() if weight.ndim == 2)


def rotary_table(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (context_length, head_dim), float32.

    The first half of the sines is negated, so that ``rotate`` has no sign to turn.

    Source: RoFormer (arXiv 2104.09864), in the half-rotation order of transformers.
    """
    dims_D, times_T = (
        torch.arange(*span, dtype=torch.float32, device="cpu")  # also where weights are on the meta device
        for span in ((0, config.head_dim, 2), (config.context_length,))
    )
    angle_TD = torch.outer(times_T, config.rope_theta ** (-dims_D / config.head_dim))
    sin_TD = angle_TD.sin()
    return angle_TD.cos().repeat(1, 2), torch.cat((-sin_TD, sin_TD), dim=-1)


def rotate(x_BHTD: Tensor, places: Places) -> Tensor:
    """Turn each pair (d, d + D/2) of a head by its position's angle; halves change places without a copy."""
    turned: Tensor = x_BHTD.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    return x_BHTD * places.cos + turned * places.sin

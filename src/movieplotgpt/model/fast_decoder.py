"""A decoder by int8 products, compiled once for a model's shape and kept: three times as fast on a CPU.

A token of a small model costs the reading of its weights, and calls. Here weights are bytes, scaled by output row, and so
is what goes into each product, scaled by text: sums of bytes are exact, so that a text's products are the same alone and in
a batch. Keys and values are kept in bfloat16. What lies between the products is compiled (AOTInductor) into one library per
shape, which takes the weights as inputs: it serves every model of the shape, and loads in milliseconds. Prompts are read by
``Decoder``, the oracle of its test. Measured by benchmarks/generate.py.

Shapes: as in ``decoder``; N output and M input features of a product, G query heads to a key-value head, T the longest text.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F

from movieplotgpt.errors import CheckpointError
from movieplotgpt.model.compiled_code import compiled_code_folder, compiler_found
from movieplotgpt.model.decoder import Decoder
from movieplotgpt.model.gpt import GPT, ModelConfig
from movieplotgpt.model.kv_cache import KVCache
from movieplotgpt.model.quantization import LARGEST, quantize

MOST_TEXTS = 4096
_IN_A_LAYER = 11  # tensors


class FastDecoder(Decoder):
    """As ``Decoder``, for one new token of each text at a time; a prompt is read into an empty cache.

    Raises:
        CheckpointError: the model is not on a CPU, or is to be compiled and no C++ compiler is here.
    """

    def __init__(self, model: GPT) -> None:
        super().__init__(model)
        if self.device.type != "cpu":
            raise CheckpointError(f"the fast decoder is for CPUs and the model is on {self.device}; leave fast out")
        self._weights = _flat_weights(self)
        self._positions_T = torch.arange(self.config.context_length)

    def new_cache(self, batch: int) -> KVCache:
        """As ``Decoder``'s, in half the bytes. One token more, which no text reaches, lets one library serve any length."""
        c = self.config
        return KVCache(c.n_layer, batch, c.n_kv_head, c.context_length + 1, c.head_dim, dtype=torch.bfloat16)

    @torch.no_grad()
    def read(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """Put a prompt into an empty cache."""
        assert cache.length == 0, "what follows a prompt is read token by token"
        c, (batch, new) = self.config, ids_BT.shape
        exact = KVCache(c.n_layer, batch, c.n_kv_head, new, c.head_dim, dtype=self.dtype)
        x_BTC = super().read(ids_BT, exact)
        cache.keys[:, :, :, :new], cache.values[:, :, :, :new] = exact.keys, exact.values
        cache.advance(new)
        return x_BTC

    def next_logits(self, ids_B: Tensor, cache: KVCache) -> Tensor:
        """Read one token of each text; the logits of what comes next: (B, V), float32."""
        ends_B = torch.from_numpy(cache.lengths.copy())
        stop = cache.length + 1
        assert stop <= self.config.context_length, f"{stop} tokens in a context of {self.config.context_length}"
        step = self._steps[len(ids_B) > 1]
        keys, values = cache.keys.unbind(), cache.values.unbind()
        [logits_BV] = step([ids_B.contiguous(), ends_B, self._positions_T[:stop], *keys, *values, *self._weights])
        cache.advance(1)
        return logits_BV

    @cached_property
    def _steps(self) -> tuple[_Step, _Step]:
        """For one text, and for several; both compiled when the first is needed, so that nobody waits twice."""
        return _load(self, 1), _load(self, 2)


_Step = Callable[[list[Tensor]], list[Tensor]]


def compiled(config: ModelConfig) -> bool:
    """Whether the decoder of this shape is compiled already."""
    return all(_library(config, batch).is_file() for batch in (1, 2))


def product(x_BM: Tensor, bytes_NM: Tensor, scale_N: Tensor) -> Tensor:
    """``x @ weight.T`` by bytes: (B, N)."""
    scale_B1 = x_BM.abs().amax(-1, keepdim=True).clamp_min(1e-9) / LARGEST
    sums_BN = torch._int_mm((x_BM / scale_B1).round().to(torch.int8), bytes_NM.t())
    return sums_BN.float() * (scale_B1 * scale_N)


class DecodingStep(nn.Module):
    """One token of each text through the network: what is compiled."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        ids_B: Tensor,
        ends_B: Tensor,
        positions_T: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        weights: list[Tensor],
    ) -> Tensor:
        """``keys`` and ``values``, (B, K, room, D) of each layer, are added to at ``ends_B``."""
        c, batch, longest = self.config, ids_B.shape[0], positions_T.shape[0]
        embedding, head, head_scale, norm, cos_TD, sin_TD = weights[-6:]
        cos_B1D, sin_B1D = cos_TD[ends_B][:, None], sin_TD[ends_B][:, None]
        seen_BT = positions_T[None] <= ends_B[:, None]
        mask_B11T = torch.zeros_like(seen_BT, dtype=keys[0].dtype).masked_fill(~seen_BT, -torch.inf)[:, None, None]
        place = (torch.arange(batch)[:, None], torch.arange(c.n_kv_head)[None], ends_B[:, None])
        half, turning = c.head_dim // 2, c.n_head + c.n_kv_head
        x_BC = F.embedding(ids_B, embedding)
        for layer in range(c.n_layer):
            parts = weights[_IN_A_LAYER * layer : _IN_A_LAYER * (layer + 1)]
            before_attention, qkv, qkv_s, heads_ND, out, out_s, before_mlp, gate_up, gate_up_s, down, down_s = parts
            joined_BND = product(self._normed(x_BC, before_attention), qkv, qkv_s).view(batch, -1, c.head_dim)
            x_BND = self._normed(joined_BND[:, :turning], heads_ND)
            x_BND = x_BND * cos_B1D + torch.cat((x_BND[..., half:], x_BND[..., :half]), -1) * sin_B1D
            keys[layer].index_put_(place, x_BND[:, c.n_head :].to(keys[layer].dtype))
            values[layer].index_put_(place, joined_BND[:, turning:].to(values[layer].dtype))
            q_BKGD = x_BND[:, : c.n_head].reshape(batch, c.n_kv_head, -1, c.head_dim).to(keys[layer].dtype)
            k_BKTD, v_BKTD = keys[layer][:, :, :longest], values[layer][:, :, :longest]
            y_BKGD = F.scaled_dot_product_attention(q_BKGD, k_BKTD, v_BKTD, attn_mask=mask_B11T)
            x_BC = x_BC + product(y_BKGD.float().reshape(batch, -1), out, out_s)
            gate, up = product(self._normed(x_BC, before_mlp), gate_up, gate_up_s).chunk(2, -1)
            x_BC = x_BC + product(F.silu(gate) * up, down, down_s)
        return product(self._normed(x_BC, norm), head, head_scale)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], None, self.config.norm_eps) * weight


def _flat_weights(decoder: Decoder) -> list[Tensor]:
    weights: list[Tensor] = []
    for layer in decoder.layers:
        weights += (layer.before_attention, *quantize(layer.query_key_value.float()), layer.heads_ND)
        weights += (*quantize(layer.out.float()), layer.before_mlp)
        weights += (*quantize(layer.gate_up.float()), *quantize(layer.down.float()))
    weights += (decoder.embedding.float(), *quantize(decoder.head.float()), decoder.norm)
    return [*weights, decoder.cos_TD.float(), decoder.sin_TD.float()]


def _library(config: ModelConfig, batch: int) -> Path:
    """Named by all that its code depends on."""
    parts = (config.model_dump(), batch, torch.__version__, torch.backends.cpu.get_cpu_capability())
    digest = hashlib.sha256(repr(parts).encode() + Path(__file__).read_bytes()).hexdigest()
    return compiled_code_folder() / f"decoder-{digest[:20]}.pt2"


def _load(decoder: FastDecoder, batch: int) -> _Step:
    path = _library(decoder.config, batch)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            _compile(decoder, batch, path)
    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    return lambda tensors: loader.boxed_run(tensors)


def _compile(decoder: FastDecoder, batch: int, path: Path) -> None:
    """For one text, or for any number of them: a library of its own, as one text takes other loops."""
    if not compiler_found():
        raise CheckpointError(
            "the fast decoder is compiled once, and no C++ compiler is here; install g++ or clang, or leave fast out"
        )
    cache = decoder.new_cache(batch)
    texts = {0: torch.export.Dim("texts", min=2, max=MOST_TEXTS)} if batch > 1 else None
    longest = {0: torch.export.Dim("longest", min=2, max=decoder.config.context_length)}
    each = [texts] * decoder.config.n_layer
    shapes: Any = (texts, texts, longest, each, each, [None] * len(decoder._weights))
    ids_B = torch.zeros(batch, dtype=torch.long)
    arguments = (
        ids_B,
        ids_B + 4,
        torch.arange(5),
        [*map(Tensor.clone, cache.keys)],
        [*map(Tensor.clone, cache.values)],
        decoder._weights,
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of its own code
        # what lies between products is too little to be shared: with two threads a step takes a tenth longer
        program = torch.export.export(DecodingStep(decoder.config), arguments, dynamic_shapes=shapes)
        partial = path.with_name(f".{path.name}")
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(partial), inductor_configs={"cpp.threads": 1}
        )
    partial.replace(path)

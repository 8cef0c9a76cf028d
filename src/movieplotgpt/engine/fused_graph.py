"""The graph of this library's own sessions, in ONNX Runtime's fused operators.

    input_ids            (B, T)        int64: new tokens of each text, padded on the right
    last                 (B,)          int32: the position of a text's last new token
    longest              ()            int32: tokens of the longest text, padding included
    wanted               (N,)          int64: rows of (B * T) whose logits are computed
    past.0.key, ...      (B, K, R, D)  keys and values, with room for R tokens; `present` is the same memory
    logits               (N, V)        float32

In ``int8`` each matrix is quantised by output row, and what is multiplied with it by token: sums of integers are exact, so
that a text's products do not depend on the texts beside it. Keys and values are bytes as well, by channel; their scales
follow from the weights, because what a norm returns has a mean square of one. Queries, keys and values come from one product,
and so do the two halves of the SwiGLU. Where the size of a head is not a multiple of 16, zeros in both of its halves pad it. In
``float16``, which GPUs multiply fastest, all but the logits is float16.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from movieplotgpt.engine.graph import FLOAT, FLOAT16, INT8, INT32, INT64, Graph, Weights, rotary_table
from movieplotgpt.engine.model_config import ModelConfig, Precision, padded_head
from movieplotgpt.engine.quantization import F32, LARGEST, quantize

FUSED = "com.microsoft"
ZERO = 128  # zero in an unsigned byte
LEAST = np.float32(1e-9)  # of what is divided by
LEAST_SHARE = np.float32(0.01)
WIDEST = 8  # root mean squares that a key or value may reach; 7 cut off some, at 10 the bytes are coarser


class FusedGraph(Graph):
    """The nodes of a network whose keys and values stay in the caller's memory."""

    domains = (FUSED,)

    def __init__(self, config: ModelConfig, weights: Weights, precision: Precision) -> None:
        super().__init__(config, weights)
        self._precision, self._head_size = precision, padded_head(config)

    def _values(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        info, shape = helper.make_tensor_value_info, ["texts", self._config.n_kv_head, "room", self._head_size]
        kind = {"int8": INT8, "float16": FLOAT16, "float32": FLOAT}[self._precision]
        past, present = ([info(name, kind, shape) for name in self._caches(each)] for each in ("past", "present"))
        counts = [info("last", INT32, ["texts"]), info("longest", INT32, []), info("wanted", INT64, ["rows"])]
        logits = info("logits", FLOAT, ["rows", self._config.vocab_size])
        return [info("input_ids", INT64, ["texts", "chunk"]), *counts, *past], [logits, *present]

    def _embedded(self) -> str:
        name = "model.embed_tokens.weight"
        return self._op("Gather", self._constant(name, self._weights[name]), "input_ids")

    def _norm(self, x: str, name: str) -> str:
        weight = self._constant(f"{name}.weight", self._weight(name))
        epsilon = self._config.norm_eps
        if name.endswith(("q_norm", "k_norm")):
            epsilon *= self._config.head_dim / self._head_size
        return self._op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=epsilon, stash_type=1)

    def _added(self, x: str, more: str, norm: str) -> tuple[str, str]:
        names = [f"x{len(self._nodes)}.{part}" for part in ("normed", "sum")]
        inputs = [x, more, self._constant(f"{norm}.weight", self._weight(norm))]
        attributes: dict[str, object] = {"epsilon": self._config.norm_eps, "domain": FUSED}
        self._node("SkipSimplifiedLayerNormalization", inputs, [names[0], "", "", names[1]], attributes)
        return names[1], names[0]

    def _weight(self, name: str) -> F32:
        weight, part = super()._weight(name), name.rpartition(".")[2]
        if self._precision == "int8" and name in ("model.norm", self._head):
            return weight / self._balance if name == "model.norm" else weight * self._balance
        if self._head_size == self._config.head_dim:
            return weight
        if part in ("q_proj", "k_proj", "v_proj"):
            return self._padded(weight)
        if part == "o_proj":
            return self._padded(weight.T).T
        if part in ("q_norm", "k_norm"):  # the mean of the squares is taken over the zeros as well
            return self._padded(weight[:, None])[:, 0] * np.float32((self._config.head_dim / self._head_size) ** 0.5)
        return weight

    @cached_property
    def _balance(self) -> F32:
        """What the last norm divides by and the matrix of the logits is multiplied with, so that no channel outgrows a byte.

        The channels in which embeddings are large are large after the last layer, too. Source: SmoothQuant (arXiv 2211.10438).
        """
        size = np.sqrt(np.square(self._weights["model.embed_tokens.weight"]).mean(0))
        typical = np.maximum(np.median(size), LEAST)
        balance: F32 = np.sqrt(np.maximum(size / typical, LEAST_SHARE))
        return balance

    def _padded(self, rows: F32) -> F32:
        """Return the rows of each head with zeros after either half: a rotation turns one half into the other."""
        half, room = self._config.head_dim // 2, self._head_size // 2
        halves = rows.reshape(-1, 2, half, rows.shape[-1])
        return np.pad(halves, [(0, 0), (0, 0), (0, room - half), (0, 0)]).reshape(-1, rows.shape[-1])

    def _attention(self, layer: int, x: str) -> str:
        c, name = self._config, f"model.layers.{layer}.self_attn"
        sizes = [heads * self._head_size for heads in (c.n_head, c.n_kv_head, c.n_kv_head)]
        joined = self._product(x, *(f"{name}.{part}_proj" for part in "qkv"))
        q, k, v = self._split(joined, *sizes)
        q, k = (self._normed_heads(each, f"{name}.{part}_norm") for each, part in ((q, "q"), (k, "k")))
        more = [(0, 0), (0, (self._head_size - c.head_dim) // 2)]
        tables = [
            self._constant(which, np.pad(each, more))
            for which, each in zip(("cos", "sin"), rotary_table(c), strict=True)
        ]
        caches = [f"past.{layer}.{part}" for part in ("key", "value")]
        inputs = [q, k, v, *caches, "last", "longest", *tables]
        outputs = [f"attended.{layer}", *(f"present.{layer}.{part}" for part in ("key", "value"))]
        attributes: dict[str, object] = {"num_heads": c.n_head, "kv_num_heads": c.n_kv_head, "do_rotary": 1}
        attributes["scale"] = c.head_dim**-0.5
        if self._precision == "int8":
            inputs += ["", "", "", *self._cache_scales(layer)]
            attributes |= {"kv_cache_bit_width": 8, "k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
        y, *_ = self._node("GroupQueryAttention", inputs, outputs, {**attributes, "domain": FUSED})
        return self._product(y, f"{name}.o_proj")

    def _cache_scales(self, layer: int) -> list[str]:
        """Return the value of one step of a byte in each channel of the keys and of the values, (1, H, 1, D)."""
        name, heads = f"model.layers.{layer}", self._config.n_kv_head
        norm = super()._weight(f"{name}.self_attn.k_norm").reshape(2, -1)
        one_head = np.tile(np.sqrt(np.square(norm).mean(0)), 2)  # a rotation mixes the two halves
        key = np.tile(self._padded(one_head[:, None])[:, 0], heads)
        value = np.linalg.norm(
            self._weight(f"{name}.self_attn.v_proj") * self._weight(f"{name}.input_layernorm"), axis=1
        )
        return [
            self._constant(f"{name}.{part}.step", np.maximum(each.reshape(1, heads, 1, -1) * WIDEST / LARGEST, LEAST))
            for part, each in (("key", key), ("value", value))
        ]

    def _normed_heads(self, x: str, name: str) -> str:
        heads = self._op("Reshape", x, self._ints(0, 0, -1, self._head_size))
        return self._op("Reshape", self._norm(heads, name), self._ints(0, 0, -1))

    def _mlp(self, name: str, x: str) -> str:
        width = self._config.n_ff
        gate, up = self._split(self._product(x, f"{name}.gate_proj", f"{name}.up_proj"), width, width)
        gated = self._op("Mul", self._op("QuickGelu", gate, alpha=1.0, domain=FUSED), up)
        return self._product(gated, f"{name}.down_proj")

    def _logits(self, x: str) -> None:
        rows = self._op("Reshape", x, self._ints(-1, self._config.n_embd))
        half = self._precision == "float16"
        logits = self._product(self._op("Gather", rows, "wanted"), self._head, out="" if half else "logits")
        if half:
            self._op("Cast", logits, to=FLOAT, out="logits")

    def _constant(self, name: str, values: npt.NDArray[np.generic] | np.generic) -> str:
        half = self._precision == "float16" and values.dtype == np.float32
        return super()._constant(name, values.astype(np.float16) if half else values)

    def _product(self, x: str, *names: str, out: str = "") -> str:
        """``x @ matrix.T`` for matrices that are joined along their rows."""
        matrix = np.concatenate([self._weight(name) for name in names])
        if self._precision != "int8":
            turned = np.ascontiguousarray(matrix.T)
            return self._op("MatMul", x, self._constant(f"{names[0]}.matrix", turned), out=out)
        whole, scales = quantize(matrix)
        largest = self._op("ReduceMax", self._op("Abs", x), self._ints(-1), keepdims=1)  # of zeros 0: so is the product
        zero, step = self._constant("zero", np.uint8(ZERO)), self._constant("step", np.float32(1 / LARGEST))
        bytes_ = self._op("QuantizeLinear", self._op("Div", x, largest), step, zero)
        columns = self._constant(f"{names[0]}.bytes", np.ascontiguousarray(whole.T))
        inputs = [bytes_, columns, step, self._constant(f"{names[0]}.scales", scales), zero]
        return self._op("Mul", self._op("MatMulIntegerToFloat", *inputs, domain=FUSED), largest, out=out)

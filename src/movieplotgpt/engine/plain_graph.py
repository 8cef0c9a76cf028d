"""The graph in the operators of the ONNX standard, which ONNX Runtime runs in Python, in a browser, on a phone.

Inputs and outputs have the names that Hugging Face's exporter gives them, so that programs which run its files run these:

    input_ids                           (B, T)        int64: tokens that follow those in the cache
    past_key_values.0.key, .value, ...  (B, K, P, D)  float32: empty at first (P = 0)
    logits                              (B, T, V)     float32
    present.0.key, .value, ...          (B, K, P + T, D)

All texts of a batch have the same length. Products are in float32; matrices are stored as ``kind`` says, and a runtime
converts them to float32 once, when it loads the file. Shapes: P past tokens, S = P + T, G = H / K.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from movieplotgpt.engine.graph import FLOAT, INT64, Graph, Weights, rotary_table
from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.engine.quantization import F32
from movieplotgpt.errors import ConfigError

OnnxType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0"]
_BLOCK = 32  # weights that share a scale in q8_0, as in GGUF
BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1 + 2 / _BLOCK}  # of a weight


class PlainGraph(Graph):
    """The nodes of a network that returns a longer cache than it was given."""

    def __init__(self, config: ModelConfig, weights: Weights, kind: OnnxType) -> None:
        super().__init__(config, weights)
        self._kind = kind
        self._matrices: dict[str, str] = {}

    def _values(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        info, c = helper.make_tensor_value_info, self._config
        past, present = (
            [info(name, FLOAT, ["batch", c.n_kv_head, tokens, c.head_dim]) for name in self._caches(start)]
            for start, tokens in (("past_key_values", "past"), ("present", "seen"))
        )
        logits = info("logits", FLOAT, ["batch", "new", c.vocab_size])
        return [info("input_ids", INT64, ["batch", "new"]), *past], [logits, *present]

    def _embedded(self) -> str:
        new = self._op("Shape", "input_ids", start=1, end=2)
        past = self._op("Shape", "past_key_values.0.key", start=2, end=3)
        seen = self._op("Add", past, new)
        cos_TD, sin_TD = (np.concatenate([table, table], -1) for table in rotary_table(self._config))
        sin_TD[:, : self._config.head_dim // 2] *= -1  # so that a rotation has no sign to turn
        self._rotary = [
            self._op("Slice", self._constant(name, table), past, seen, self._ints(0))
            for name, table in (("cos", cos_TD), ("sin", sin_TD))
        ]
        self._mask = self._causal_mask(past, seen)
        return self._op("Gather", self._matrix("model.embed_tokens.weight"), "input_ids")

    def _attention(self, layer: int, x: str) -> str:
        c, name = self._config, f"model.layers.{layer}.self_attn"
        groups = [0, 0, c.n_kv_head, c.n_head // c.n_kv_head, c.head_dim]
        q = self._op("Reshape", self._linear(x, f"{name}.q_proj"), self._ints(*groups))
        q_BKGTD = self._op("Transpose", self._norm(q, f"{name}.q_norm"), perm=[0, 2, 3, 1, 4])
        heads = self._ints(0, 0, c.n_kv_head, c.head_dim)
        k = self._op("Reshape", self._linear(x, f"{name}.k_proj"), heads)
        k_BKTD = self._op("Transpose", self._norm(k, f"{name}.k_norm"), perm=[0, 2, 1, 3])
        v = self._op("Reshape", self._linear(x, f"{name}.v_proj"), heads)
        v_BKTD = self._op("Transpose", v, perm=[0, 2, 1, 3])
        keys_BKSD = self._cached(layer, "key", self._rotated(k_BKTD))
        values_BKSD = self._cached(layer, "value", v_BKTD)
        turned = self._op("Transpose", self._op("Unsqueeze", keys_BKSD, self._ints(2)), perm=[0, 1, 2, 4, 3])
        scores = self._op("MatMul", self._rotated(q_BKGTD), turned)
        scaled = self._op("Mul", scores, self._constant("scale", np.float32(c.head_dim**-0.5)))
        shares_BKGTS = self._op("Softmax", self._op("Add", scaled, self._mask), axis=-1)
        read_BKGTD = self._op("MatMul", shares_BKGTS, self._op("Unsqueeze", values_BKSD, self._ints(2)))
        y_BTKGD = self._op("Transpose", read_BKGTD, perm=[0, 3, 1, 2, 4])
        y_BTC = self._op("Reshape", y_BTKGD, self._ints(0, 0, c.n_head * c.head_dim))
        return self._linear(y_BTC, f"{name}.o_proj")

    def _cached(self, layer: int, part: str, new: str) -> str:
        return self._op("Concat", f"past_key_values.{layer}.{part}", new, axis=2, out=f"present.{layer}.{part}")

    def _rotated(self, x: str) -> str:
        cos, sin = self._rotary
        half = self._config.head_dim // 2
        first, second = self._split(x, half, half)
        turned = self._op("Concat", second, first, axis=-1)
        return self._op("Add", self._op("Mul", x, cos), self._op("Mul", turned, sin))

    def _causal_mask(self, past: str, seen: str) -> str:
        """Zero where a new token may look, minus infinity after it: (T, S)."""
        one, zero = (self._constant(name, np.int64(value)) for name, value in (("one", 1), ("zero", 0)))
        past, seen = (self._op("Squeeze", each, self._ints(0)) for each in (past, seen))
        columns = self._op("Range", zero, seen, one)
        rows = self._op("Unsqueeze", self._op("Range", past, seen, one), self._ints(1))
        least, nothing = self._constant("least", np.float32(-np.inf)), self._constant("nothing", np.float32(0))
        return self._op("Where", self._op("Greater", columns, rows), least, nothing)

    def _mlp(self, name: str, x: str) -> str:
        gate = self._linear(x, f"{name}.gate_proj")
        gated = self._op("Mul", self._op("Mul", gate, self._op("Sigmoid", gate)), self._linear(x, f"{name}.up_proj"))
        return self._linear(gated, f"{name}.down_proj")

    def _norm(self, x: str, name: str) -> str:
        mean = self._op("ReduceMean", self._op("Mul", x, x), self._ints(-1), keepdims=1)
        root = self._op("Sqrt", self._op("Add", mean, self._constant("eps", np.float32(self._config.norm_eps))))
        return self._op("Mul", self._op("Div", x, root), self._constant(f"{name}.weight", self._weight(name)))

    def _logits(self, x: str) -> None:
        self._op("MatMul", x, self._turned(self._head), out="logits")

    def _linear(self, x: str, name: str) -> str:
        return self._op("MatMul", x, self._turned(name))

    def _turned(self, name: str) -> str:
        return self._op("Transpose", self._matrix(f"{name}.weight"), perm=[1, 0])

    def _matrix(self, name: str) -> str:
        """A matrix in float32, made of what the file stores."""
        if name not in self._matrices:
            self._matrices[name] = self._stored(name, self._weights[name])
        return self._matrices[name]

    def _stored(self, name: str, matrix: F32) -> str:
        if self._kind == "f32":
            return self._constant(name, matrix)
        if self._kind == "f16":
            return self._op("Cast", self._constant(name, matrix.astype(np.float16)), to=FLOAT)
        if self._kind == "bf16":
            kept = helper.make_tensor(name, TensorProto.BFLOAT16, [*matrix.shape], bfloat16(matrix).tobytes(), raw=True)
            self._constants[name] = kept
            return self._op("Cast", name, to=FLOAT)
        whole, scales = eight_bits(matrix)
        parts = self._op("Cast", self._constant(name, whole), to=FLOAT)
        factors = self._op("Cast", self._constant(f"{name}.scales", scales), to=FLOAT)
        return self._op("Reshape", self._op("Mul", parts, factors), self._ints(*matrix.shape))


def bfloat16(matrix: F32) -> npt.NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16 numbers, ties to even."""
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def eight_bits(matrix: F32) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Return whole numbers from -127 to 127 in blocks of 32, and the factor of each block: GGUF's q8_0.

    Raises:
        ConfigError: a row does not divide into blocks.
    """
    rows, columns = matrix.shape
    if columns % _BLOCK:
        raise ConfigError(f"q8_0 needs rows of a multiple of {_BLOCK} weights, not {columns}; take f16")
    blocks = matrix.reshape(rows, columns // _BLOCK, _BLOCK)
    scales = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    parts = blocks * np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    whole = np.trunc(parts + np.copysign(np.float32(0.5), parts)).astype(np.int8)
    return whole, scales.astype(np.float16)

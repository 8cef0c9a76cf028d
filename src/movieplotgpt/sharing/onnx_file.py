"""A checkpoint as one ONNX file, which ONNX Runtime runs in Python, in a browser, on a phone.

The graph is written node by node: the network is small and regular. Inputs and outputs have the names that Hugging Face's
exporter gives them, so that what runs its files runs these:

    input_ids                           (B, T)        int64: tokens that follow what the cache holds
    past_key_values.0.key, .value, ...  (B, K, P, D)  float32: nothing of it at first (P = 0)
    logits                              (B, T, V)     float32
    present.0.key, .value, ...          (B, K, P + T, D)

All texts of a batch are of one length. Products are in float32; matrices lie in the file as ``weights`` says, and a
runner makes float32 of them once, when it loads the file. Shapes: B texts, T new tokens, P past ones, S = P + T, C
embedding, H query heads, K key-value heads, G = H / K, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from movieplotgpt import __version__
from movieplotgpt.errors import ConfigError
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.sizes import parameters

OnnxType = Literal["f32", "f16", "bf16", "q8_0"]
OPSET, IR_VERSION = 18, 10  # what runners of 2024 read
LARGEST = 2_000_000_000  # bytes of a file: it is one protobuf message
_BLOCK = 32  # weights that share a scale in q8_0, as in GGUF
_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1 + 2 / _BLOCK}
_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64


def save_onnx(checkpoint: Checkpoint, path: Path, weights: OnnxType = "f32") -> None:
    """Write the network of ``checkpoint`` to ``path``, its matrices as ``weights`` says; norms stay float32.

    Raises:
        ConfigError: no such kind of weights, the file would be too large, or rows do not divide into blocks.
    """
    if weights not in get_args(OnnxType):
        raise ConfigError(f"ONNX weights {weights!r} are not known; take one of {', '.join(get_args(OnnxType))}")
    size = parameters(checkpoint.model.config) * _BYTES[weights]
    if size > LARGEST:
        raise ConfigError(
            f"this model would take {size / 1e9:.1f} GB, and an ONNX file holds {LARGEST / 1e9:.0f} at most; "
            "take weights of fewer bits, as q8_0"
        )
    onnx.save(_Graph(checkpoint.model, weights).model(), path)


class _Graph:
    """The nodes of a network, in the order they are computed."""

    def __init__(self, model: GPT, weights: OnnxType) -> None:
        self._config, self._weights = model.config, weights
        self._state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in model.state_dict().items()}
        self._tables = model.cos_TD.cpu(), model.sin_TD.cpu()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._matrices: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        """The whole file."""
        c = self._config
        past = ["batch", c.n_kv_head, "past", c.head_dim]
        present = ["batch", c.n_kv_head, "seen", c.head_dim]
        caches = [f"{layer}.{part}" for layer in range(c.n_layer) for part in ("key", "value")]
        info = helper.make_tensor_value_info
        inputs = [info("input_ids", _INT64, ["batch", "new"])]
        inputs += [info(f"past_key_values.{name}", _FLOAT, past) for name in caches]
        outputs = [info("logits", _FLOAT, ["batch", "new", c.vocab_size])]
        outputs += [info(f"present.{name}", _FLOAT, present) for name in caches]
        self._network()
        graph = helper.make_graph(self._nodes, "movieplotgpt", inputs, outputs, [*self._constants.values()])
        opsets = [helper.make_opsetid("", OPSET)]
        whole: onnx.ModelProto = helper.make_model(
            graph, opset_imports=opsets, producer_name="movieplotgpt", producer_version=__version__
        )
        whole.ir_version = IR_VERSION
        onnx.checker.check_model(whole)
        return whole

    def _network(self) -> None:
        c = self._config
        new = self._op("Shape", "input_ids", start=1, end=2)
        past = self._op("Shape", "past_key_values.0.key", start=2, end=3)
        seen = self._op("Add", past, new)
        rotary = [
            self._op("Slice", self._constant(name, table.numpy()), past, seen, self._ints(0))
            for name, table in zip(("cos", "sin"), self._tables, strict=True)
        ]
        mask = self._mask(past, seen)
        embedding = self._matrix("model.embed_tokens.weight")
        x = self._op("Gather", embedding, "input_ids")
        for layer in range(c.n_layer):
            name = f"model.layers.{layer}"
            x = self._op("Add", x, self._attention(layer, self._norm(x, f"{name}.input_layernorm"), rotary, mask))
            x = self._op("Add", x, self._mlp(f"{name}.mlp", self._norm(x, f"{name}.post_attention_layernorm")))
        x = self._norm(x, "model.norm")
        self._op("MatMul", x, self._turned("model.embed_tokens" if c.tie_embeddings else "lm_head"), out="logits")

    def _attention(self, layer: int, x: str, rotary: Sequence[str], mask: str) -> str:
        c, name = self._config, f"model.layers.{layer}.self_attn"
        groups = [0, 0, c.n_kv_head, c.n_head // c.n_kv_head, c.head_dim]
        q = self._op("Reshape", self._linear(x, f"{name}.q_proj"), self._ints(*groups))
        q_BKGTD = self._op("Transpose", self._norm(q, f"{name}.q_norm"), perm=[0, 2, 3, 1, 4])
        heads = self._ints(0, 0, c.n_kv_head, c.head_dim)
        k = self._op("Reshape", self._linear(x, f"{name}.k_proj"), heads)
        k_BKTD = self._op("Transpose", self._norm(k, f"{name}.k_norm"), perm=[0, 2, 1, 3])
        v = self._op("Reshape", self._linear(x, f"{name}.v_proj"), heads)
        v_BKTD = self._op("Transpose", v, perm=[0, 2, 1, 3])
        keys_BKSD = self._cached(layer, "key", self._rotated(k_BKTD, rotary))
        values_BKSD = self._cached(layer, "value", v_BKTD)
        turned = self._op("Transpose", self._op("Unsqueeze", keys_BKSD, self._ints(2)), perm=[0, 1, 2, 4, 3])
        scores = self._op("MatMul", self._rotated(q_BKGTD, rotary), turned)
        scaled = self._op("Mul", scores, self._constant("scale", np.float32(c.head_dim**-0.5)))
        shares_BKGTS = self._op("Softmax", self._op("Add", scaled, mask), axis=-1)
        read_BKGTD = self._op("MatMul", shares_BKGTS, self._op("Unsqueeze", values_BKSD, self._ints(2)))
        y_BTKGD = self._op("Transpose", read_BKGTD, perm=[0, 3, 1, 2, 4])
        y_BTC = self._op("Reshape", y_BTKGD, self._ints(0, 0, c.n_head * c.head_dim))
        return self._linear(y_BTC, f"{name}.o_proj")

    def _cached(self, layer: int, part: str, new: str) -> str:
        return self._op("Concat", f"past_key_values.{layer}.{part}", new, axis=2, out=f"present.{layer}.{part}")

    def _rotated(self, x: str, rotary: Sequence[str]) -> str:
        cos, sin = rotary
        first, second = self._halves(x)
        turned = self._op("Concat", second, first, axis=-1)
        return self._op("Add", self._op("Mul", x, cos), self._op("Mul", turned, sin))

    def _mask(self, past: str, seen: str) -> str:
        """Zero where a new token may look, minus infinity behind it: (T, S)."""
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
        weight = self._constant(f"{name}.weight", self._state[f"{name}.weight"].numpy())
        return self._op("Mul", self._op("Div", x, root), weight)

    def _linear(self, x: str, name: str) -> str:
        return self._op("MatMul", x, self._turned(name))

    def _turned(self, name: str) -> str:
        return self._op("Transpose", self._matrix(f"{name}.weight"), perm=[1, 0])

    def _matrix(self, name: str) -> str:
        """A matrix in float32, made of what lies in the file; a runner does so once, since nothing in it changes."""
        if name not in self._matrices:
            self._matrices[name] = self._stored(name, self._state[name])
        return self._matrices[name]

    def _stored(self, name: str, matrix: Tensor) -> str:
        if self._weights == "f32":
            return self._constant(name, matrix.numpy())
        if self._weights == "f16":
            return self._op("Cast", self._constant(name, matrix.half().numpy()), to=_FLOAT)
        if self._weights == "bf16":
            bits = matrix.bfloat16().view(torch.int16).numpy().tobytes()
            kept = helper.make_tensor(name, TensorProto.BFLOAT16, [*matrix.shape], bits, raw=True)
            self._constants[name] = kept
            return self._op("Cast", name, to=_FLOAT)
        whole, scales = eight_bits(matrix)
        parts = self._op("Cast", self._constant(name, whole), to=_FLOAT)
        factors = self._op("Cast", self._constant(f"{name}.scales", scales), to=_FLOAT)
        return self._op("Reshape", self._op("Mul", parts, factors), self._ints(*matrix.shape))

    def _constant(self, name: str, values: npt.NDArray[np.generic] | np.generic) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def _ints(self, *values: int) -> str:
        return self._constant("_".join(["ints", *map(str, values)]), np.array(values, np.int64))

    def _op(self, kind: str, *inputs: str, out: str = "", **attributes: object) -> str:
        """Add a node; the name of what it gives."""
        return self._node(kind, inputs, [out or f"x{len(self._nodes)}"], attributes)[0]

    def _halves(self, x: str) -> list[str]:
        names = [f"x{len(self._nodes)}.{half}" for half in range(2)]
        return self._node("Split", [x], names, {"axis": -1, "num_outputs": 2})

    def _node(self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: dict[str, object]) -> list[str]:
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs


def eight_bits(matrix: Tensor) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Whole numbers from -127 to 127 in blocks of 32, and the factor of each block: GGUF's q8_0.

    Raises:
        ConfigError: a row does not divide into blocks.
    """
    rows, columns = matrix.shape
    if columns % _BLOCK:
        raise ConfigError(f"q8_0 needs rows of a multiple of {_BLOCK} weights, not {columns}; take f16")
    blocks = matrix.numpy().reshape(rows, columns // _BLOCK, _BLOCK)
    scales = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    parts = blocks * np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    whole = np.trunc(parts + np.copysign(np.float32(0.5), parts)).astype(np.int8)
    return whole, scales.astype(np.float16)

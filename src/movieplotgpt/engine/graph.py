"""The network as an ONNX graph, built node by node from its dimensions and weights with numpy.

`Graph` holds what every form of the graph shares: the order of the layers and the names of the weights. Its subclasses
choose the operators: ``fused_graph`` for this library's own sessions, ``plain_graph`` for other runtimes.

Shapes: B texts, T new tokens, C embedding, H query heads, K key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from movieplotgpt import __version__
from movieplotgpt.engine.model_config import ModelConfig

Weights: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
FLOAT, FLOAT16, INT8, INT32, INT64 = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64
)  # fmt: skip
OPSET, IR_VERSION = 18, 10  # what runtimes of 2024 read


class Graph(ABC):
    """The nodes of a network, in the order in which they are computed."""

    domains: ClassVar[tuple[str, ...]] = ()  # of operators beside the standard's

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self._config, self._weights = config, weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        """Build the whole file."""
        self._network()
        graph = helper.make_graph(self._nodes, "movieplotgpt", *self._values(), [*self._constants.values()])
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in self.domains)]
        whole: onnx.ModelProto = helper.make_model(
            graph, opset_imports=opsets, producer_name="movieplotgpt", producer_version=__version__
        )
        whole.ir_version = IR_VERSION
        return whole

    def _network(self) -> None:
        names = [f"model.layers.{layer}" for layer in range(self._config.n_layer)]
        after = [*(f"{name}.input_layernorm" for name in names[1:]), "model.norm"]
        x = self._embedded()
        normed = self._norm(x, f"{names[0]}.input_layernorm")
        for layer, name in enumerate(names):
            x, normed = self._added(x, self._attention(layer, normed), f"{name}.post_attention_layernorm")
            x, normed = self._added(x, self._mlp(f"{name}.mlp", normed), after[layer])
        self._logits(normed)

    @abstractmethod
    def _values(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        """Inputs and outputs."""

    @abstractmethod
    def _embedded(self) -> str: ...

    @abstractmethod
    def _norm(self, x: str, name: str) -> str: ...

    def _added(self, x: str, more: str, norm: str) -> tuple[str, str]:
        """The sum, and its norm."""
        total = self._op("Add", x, more)
        return total, self._norm(total, norm)

    @abstractmethod
    def _attention(self, layer: int, x: str) -> str: ...

    @abstractmethod
    def _mlp(self, name: str, x: str) -> str: ...

    @abstractmethod
    def _logits(self, x: str) -> None: ...

    @property
    def _head(self) -> str:
        """The name of the matrix that makes logits."""
        return "model.embed_tokens" if self._config.tie_embeddings else "lm_head"

    def _weight(self, name: str) -> npt.NDArray[np.float32]:
        return self._weights[f"{name}.weight"]

    def _caches(self, start: str) -> list[str]:
        """The names of the inputs or outputs that hold keys and values."""
        return [f"{start}.{layer}.{part}" for layer in range(self._config.n_layer) for part in ("key", "value")]

    def _constant(self, name: str, values: npt.NDArray[np.generic] | np.generic) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def _ints(self, *values: int) -> str:
        return self._constant("_".join(["ints", *map(str, values)]), np.array(values, np.int64))

    def _op(self, kind: str, *inputs: str, out: str = "", **attributes: object) -> str:
        """Add a node; return the name of its output."""
        return self._node(kind, inputs, [out or f"x{len(self._nodes)}"], attributes)[0]

    def _split(self, x: str, *sizes: int) -> list[str]:
        """Cut ``x`` along its last dimension."""
        names = [f"x{len(self._nodes)}.{part}" for part in range(len(sizes))]
        return self._node("Split", [x, self._ints(*sizes)], names, {"axis": -1})

    def _node(self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: dict[str, object]) -> list[str]:
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs


@np.errstate(all="ignore")  # a base beyond float32 is infinite or nothing, as in the network
def rotary_table(config: ModelConfig) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cosines and sines of the rotary angles, each (context_length, head_dim / 2).

    Source: RoFormer (arXiv 2104.09864).
    """
    steps = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(config.rope_theta) ** -steps
    angles = np.outer(np.arange(config.context_length, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)

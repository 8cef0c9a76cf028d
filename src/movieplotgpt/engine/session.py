"""A model that reads tokens and returns logits: ONNX Runtime over a fused graph and a KV cache.

Shapes: B texts, T new tokens of the longest, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime

from movieplotgpt.engine.byte_products import EXACT, sums_are_exact
from movieplotgpt.engine.graph_cache import cached_graph
from movieplotgpt.engine.kv_cache import KVCache
from movieplotgpt.engine.model_config import LARGEST_GRAPH, ModelConfig, Precision, graph_bytes
from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.engine.quantization import F32
from movieplotgpt.engine.threads import thread_count
from movieplotgpt.engine.weight_files import not_finite
from movieplotgpt.errors import CheckpointError, ConfigError

OLDEST = (1, 20)  # release of ONNX Runtime
TOKENS_AT_ONCE = 2048  # of all texts together, so that activations stay small
SPINNING = (
    50  # microseconds that a thread waits awake: longer and a busy neighbour stops both, shorter and each step waits
)


class Engine:
    """Reads the tokens of one model; ``int8`` or ``float32`` is the precision of its products.

    Raises:
        ConfigError: there is no such precision, or the model is too large for it.
        CheckpointError: a file of the model is missing or damaged, or ONNX Runtime cannot run it.
    """

    def __init__(self, model: TextModel, *, precision: Precision = "int8", threads: int | None = None) -> None:
        self.config, self.precision = model.config, precision
        if precision not in get_args(Precision):
            raise ConfigError(f"there is no precision {precision!r}; take one of {', '.join(get_args(Precision))}")
        if (size := graph_bytes(model.config, precision)) > LARGEST_GRAPH:
            remedy = "use int8" if graph_bytes(model.config, "int8") <= LARGEST_GRAPH else "use a smaller model"
            raise ConfigError(
                f"in {precision} this model takes {size / 1e9:.1f} GB, and a graph holds {LARGEST_GRAPH / 1e9:.0f} at most; "
                f"{remedy}"
            )
        weights = model.version()

        def build() -> bytes:
            return _built(model.config, model.weights(), precision)

        identity = (weights, model.config.model_dump(), precision)
        graph = cached_graph(identity, build) if isinstance(weights, str) else build()
        self._session = _session(graph, threads or thread_count())
        self._names = [f"{layer}.{part}" for layer in range(self.config.n_layer) for part in ("key", "value")]
        self._bound: tuple[KVCache, int, int, onnxruntime.IOBinding] | None = None

    def new_cache(self, batch: int) -> KVCache:
        """Return an empty cache for ``batch`` texts of a full context.

        Raises:
            CheckpointError: there is not enough memory.
        """
        return KVCache(self.config, batch)

    def next_logits(self, ids_B: Sequence[int], cache: KVCache) -> F32:
        """Read one token of each text; return the logits of the next one, (B, V), valid until the next call."""
        assert len(ids_B) == len(cache.lengths)
        return self._run([[id_] for id_ in ids_B], cache, 0, range(len(ids_B)))

    def read(self, texts: Sequence[Sequence[int]], cache: KVCache, row: int = 0) -> None:
        """Read new tokens of the texts in the rows from ``row`` on; short texts are read together."""
        waiting = [*enumerate(texts, row)]
        while waiting:
            first, text = waiting.pop(0)
            group, longest = [text], len(text)
            while waiting and text and (more := waiting[0][1]):
                if max(longest, len(more)) * (len(group) + 1) > TOKENS_AT_ONCE:
                    break
                longest = max(longest, len(more))
                group.append(waiting.pop(0)[1])
            for start in range(0, longest if len(group) == 1 else 1, TOKENS_AT_ONCE):
                chunk = [each[start : start + TOKENS_AT_ONCE] for each in group]
                self._run(chunk, cache, first, [0])  # some releases cannot compute the logits of no row

    def logits(self, ids: Sequence[int]) -> F32:
        """Return the logits after each token of one text, (T, V)."""
        cache, found = self.new_cache(1), []
        for start in range(0, len(ids), TOKENS_AT_ONCE):
            chunk = ids[start : start + TOKENS_AT_ONCE]
            found.append(self._run([chunk], cache, 0, range(len(chunk))).copy())
        return np.concatenate(found)

    def _run(self, texts: Sequence[Sequence[int]], cache: KVCache, row: int, wanted: Sequence[int]) -> F32:
        """Read ``texts`` into the rows from ``row`` on; ``wanted`` are places in their padded tokens, (B * T)."""
        new_B = np.array([len(text) for text in texts], np.int32)
        ids_BT = np.zeros((len(texts), new_B.max()), np.int64)
        for number, text in enumerate(texts):
            ids_BT[number, : len(text)] = text
        lengths = cache.lengths[row : row + len(texts)]
        assert len(texts) == 1 or ids_BT.shape[1] == 1 or not lengths.any(), "texts are continued token by token"
        longest = max(int((lengths + new_B).max()), ids_BT.shape[1])
        assert longest <= self.config.context_length, f"{longest} tokens in a context of {self.config.context_length}"
        binding = self._binding(cache, row, row + len(texts))
        logits_NV = np.empty((len(wanted), self.config.vocab_size), np.float32)
        inputs = {
            "input_ids": ids_BT,
            "last": (lengths + new_B - 1).astype(np.int32),
            "longest": np.array(longest, np.int32),
            "wanted": np.array(wanted, np.int64),
        }
        for name, values in inputs.items():
            binding.bind_cpu_input(name, values)
        binding.bind_ortvalue_output("logits", onnxruntime.OrtValue.ortvalue_from_numpy(logits_NV))
        self._session.run_with_iobinding(binding)
        lengths += new_B
        return logits_NV

    def _binding(self, cache: KVCache, start: int, stop: int) -> onnxruntime.IOBinding:
        """The memory of some rows as input and output, kept for the next step."""
        if self._bound is None or self._bound[0] is not cache or self._bound[1:3] != (start, stop):
            binding = self._session.io_binding()
            for name, value in zip(self._names, cache.values(start, stop), strict=True):
                binding.bind_ortvalue_input(f"past.{name}", value)
                binding.bind_ortvalue_output(f"present.{name}", value)
            self._bound = cache, start, stop, binding
        return self._bound[3]


def _built(config: ModelConfig, weights: Mapping[str, F32], precision: Precision) -> bytes:
    from movieplotgpt.engine.fused_graph import FusedGraph

    if name := not_finite(weights):  # in bytes it would be a number like others
        raise CheckpointError(f"the model's {name} is NaN or infinite; its weights are damaged, get them again")
    whole: bytes = FusedGraph(config, weights, precision).model().SerializeToString()
    return whole


def _session(graph: Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # shapes differ from step to step
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPINNING))
    try:
        if not sums_are_exact():
            options.add_session_config_entry(EXACT, "1")
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no error of its own that all of its failures share
        found, needed = onnxruntime.__version__, ".".join(map(str, OLDEST))
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST:
            why = f"needs onnxruntime {needed} or newer, and {found} is installed; pip install -U onnxruntime"
            raise CheckpointError(f"generating text {why}") from None
        raise CheckpointError(f"ONNX Runtime {found} cannot run the model: {error}") from None

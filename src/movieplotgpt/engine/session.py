"""A model that reads tokens and returns logits: ONNX Runtime over a fused graph and a KV cache.

Shapes: B texts, T new tokens of the longest, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, get_args

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

OLDEST = (1, 30)  # release of ONNX Runtime
TOKENS_AT_ONCE = 2048  # of all texts together, so that activations stay small
SPINNING = (
    50  # microseconds a thread waits awake: longer, and a busy neighbour stops both; shorter, and each step waits
)


class Engine:
    """Reads the tokens of one model, in a precision of which ``int8`` is the fastest.

    Raises:
        ConfigError: an unknown precision, or a model too large for it.
        CheckpointError: a file of the model is missing or damaged, or ONNX Runtime cannot run it.
    """

    providers: ClassVar[Sequence[str]] = ("CPUExecutionProvider",)

    def __init__(self, model: TextModel, *, precision: Precision = "int8", threads: int | None = None) -> None:
        self.config, self.precision = model.config, precision
        if precision not in get_args(Precision):
            raise ConfigError(f"{precision!r} is not a precision; choose one of {', '.join(get_args(Precision))}")
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
        self._session = _session(graph, threads or thread_count(), precision, self.providers)
        self._bound: _Bound | None = None

    def new_cache(self, batch: int) -> KVCache:
        """Return an empty cache for ``batch`` texts of a full context.

        Raises:
            CheckpointError: there is not enough memory.
        """
        return KVCache(self.config, batch, self.precision)

    def next_logits(self, ids_B: Sequence[int], cache: KVCache) -> F32:
        """Read one token of each of the first B texts; return the logits of the next one, (B, V), valid until the next call."""
        assert len(ids_B) <= len(cache.lengths)
        return self._run([[id_] for id_ in ids_B], cache, 0, range(len(ids_B)))

    def read(self, texts: Sequence[Sequence[int]], cache: KVCache, row: int = 0) -> None:
        """Read texts into the rows from ``row`` on, which are empty: equal ones once, short ones together."""
        places = {text: number for number, text in enumerate(dict.fromkeys(map(tuple, texts)), row)}
        waiting: list[tuple[int, Sequence[int]]] = [(number, text) for text, number in places.items()]
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
        # from the end, so that nothing is overwritten before it is copied
        for number, text in reversed([*enumerate(texts, row)]):
            if (source := places[tuple(text)]) != number:
                cache.copy(source, number)

    def logits(self, ids: Sequence[int]) -> F32:
        """Return the logits after each token of one text, (T, V)."""
        cache, found = self.new_cache(1), []
        for start in range(0, len(ids), TOKENS_AT_ONCE):
            chunk = ids[start : start + TOKENS_AT_ONCE]
            found.append(self._run([chunk], cache, 0, range(len(chunk))).copy())
        return np.concatenate(found)

    def _run(self, texts: Sequence[Sequence[int]], cache: KVCache, row: int, wanted: Sequence[int]) -> F32:
        """Read ``texts`` into the rows from ``row`` on; ``wanted`` are places in their padded tokens, (B * T)."""
        new_B = np.array([len(text) for text in texts])
        lengths, chunk = cache.lengths[row : row + len(texts)], int(new_B.max())
        assert len(texts) == 1 or chunk == 1 or not lengths.any(), "texts are continued token by token"
        longest = max(int((lengths + new_B).max()), chunk)
        assert longest <= self.config.context_length, f"{longest} tokens in a context of {self.config.context_length}"
        bound = self._binding(cache, row, len(texts), chunk, len(wanted))
        for number, text in enumerate(texts):
            bound.ids_BT[number, : len(text)] = text
        bound.last_B[:] = lengths + new_B - 1
        bound.longest[...], bound.wanted_N[:] = longest, wanted
        self._session.run_with_iobinding(bound.binding)
        lengths += new_B
        return bound.logits_NV

    def _binding(self, cache: KVCache, row: int, texts: int, chunk: int, wanted: int) -> _Bound:
        """The memory that a call reads and writes, kept for the next one of the same shape."""
        if self._bound is None or self._bound.cache is not cache or self._bound.shape != (row, texts, chunk, wanted):
            self._bound = _Bound(self._session, self.config, cache, (row, texts, chunk, wanted))
        return self._bound


class _Bound:
    """Inputs and outputs as numpy arrays that the session shares: (row, texts, chunk, wanted) is their ``shape``."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        config: ModelConfig,
        cache: KVCache,
        shape: tuple[int, int, int, int],
    ) -> None:
        row, texts, chunk, wanted = self.shape = shape
        self.cache, self.binding = cache, session.io_binding()
        self.ids_BT, self.last_B = np.zeros((texts, chunk), np.int64), np.zeros(texts, np.int32)
        self.longest, self.wanted_N = np.zeros((), np.int32), np.zeros(wanted, np.int64)
        self.logits_NV = np.empty((wanted, config.vocab_size), np.float32)
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        names = ("input_ids", "last", "longest", "wanted")
        for name, array in zip(names, (self.ids_BT, self.last_B, self.longest, self.wanted_N), strict=True):
            self.binding.bind_ortvalue_input(name, value(array))
        self.binding.bind_ortvalue_output("logits", value(self.logits_NV))
        places = [f"{layer}.{part}" for layer in range(config.n_layer) for part in ("key", "value")]
        for place, part in zip(places, cache.values(row, row + texts), strict=True):
            self.binding.bind_ortvalue_input(f"past.{place}", part)
            self.binding.bind_ortvalue_output(f"present.{place}", part)


def _built(config: ModelConfig, weights: Mapping[str, F32], precision: Precision) -> bytes:
    from movieplotgpt.engine.fused_graph import FusedGraph

    if name := not_finite(weights):  # in bytes it would be a number like others
        raise CheckpointError(f"the model's {name} is NaN or infinite; its weights are damaged, get them again")
    whole: bytes = FusedGraph(config, weights, precision).model().SerializeToString()
    return whole


def _session(
    graph: Path | bytes, threads: int, precision: Precision, providers: Sequence[str]
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # shapes differ from step to step
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPINNING))
    try:
        if precision == "int8" and not sums_are_exact():
            options.add_session_config_entry(EXACT, "1")
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # ONNX Runtime has no error of its own that all of its failures share
        found, needed = onnxruntime.__version__, ".".join(map(str, OLDEST))
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST:
            why = f"needs onnxruntime {needed} or newer, and {found} is installed; pip install -U onnxruntime"
            raise CheckpointError(f"generating text {why}") from None
        raise CheckpointError(f"ONNX Runtime {found} cannot run the model: {error}") from None

"""Whether this processor adds up products of bytes exactly.

Without VNNI instructions x86 processors add pairs of products of an unsigned and a signed byte in 16 bits, where they
saturate. ONNX Runtime then has slower kernels that do not, and has to be asked for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnxruntime

from movieplotgpt.engine.graph_cache import cached_graph

EXACT = "session.x64quantprecision"  # the session's setting that asks for exact sums
_LENGTH = 64  # products in a sum


@cache
def sums_are_exact() -> bool:
    """Return whether the largest products add up to what they should by the kernels of this processor."""
    session = probe_session(["CPUExecutionProvider"])
    [[[found]]] = session.run(None, {"x": np.full((1, _LENGTH), 255, np.uint8)})
    return bool(found == 255 * 127 * _LENGTH)


def probe_session(providers: Sequence[str]) -> onnxruntime.InferenceSession:
    """Load the graph of such a sum, the smallest there is."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(
        cached_graph(("sum of products of bytes",), _graph), options, providers=providers
    )


def _graph() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    from movieplotgpt.engine.fused_graph import FUSED
    from movieplotgpt.engine.graph import IR_VERSION, OPSET

    largest = numpy_helper.from_array(np.full((_LENGTH, 1), 127, np.int8), "largest")
    one = numpy_helper.from_array(np.float32(1), "one")
    product = helper.make_node("MatMulIntegerToFloat", ["x", "largest", "one", "one"], ["sum"], domain=FUSED)
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, _LENGTH])]
    outputs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 1])]
    graph = helper.make_graph([product], "probe", inputs, outputs, [largest, one])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
    whole: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
    return whole

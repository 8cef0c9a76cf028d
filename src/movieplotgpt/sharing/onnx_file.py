"""A checkpoint as one ONNX file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import onnx

from movieplotgpt.engine.model_config import LARGEST_GRAPH, parameters
from movieplotgpt.engine.model_folder import TextModel
from movieplotgpt.engine.plain_graph import BYTES, OnnxType, PlainGraph
from movieplotgpt.errors import ConfigError


def save_onnx(model: TextModel, path: Path, weights: OnnxType = "f32") -> None:
    """Write the network of ``model`` to ``path``, its matrices as ``weights`` says; norms stay float32.

    Raises:
        ConfigError: no such kind of weights, the file would be too large, or rows do not divide into blocks.
    """
    if weights not in get_args(OnnxType):
        raise ConfigError(f"ONNX weights {weights!r} are not known; take one of {', '.join(get_args(OnnxType))}")
    size = parameters(model.config) * BYTES[weights]
    if size > LARGEST_GRAPH:
        raise ConfigError(
            f"this model would take {size / 1e9:.1f} GB, and an ONNX file holds {LARGEST_GRAPH / 1e9:.0f} at most; "
            "take weights of fewer bits, as q8_0"
        )
    graph = PlainGraph(model.config, model.weights(), weights).model()
    onnx.checker.check_model(graph)
    onnx.save(graph, path)

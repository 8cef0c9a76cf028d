"""The network's dimensions, and what follows from them: parameters, bytes of a KV cache."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from movieplotgpt.config import Settings

Device: TypeAlias = Literal["auto", "cpu", "cuda"]  # on which it generates
Precision: TypeAlias = Literal["int8", "float16", "float32"]  # in which a network generates
BYTES: dict[Precision, int] = {"int8": 1, "float16": 2, "float32": 4}  # of a weight, a key or a value
TEMPERATURE, MIN_P = 1.0, 0.02  # of sampling, where nothing else is asked for: here and in other programs
LARGEST_GRAPH = 2_000_000_000  # bytes: an ONNX graph is one protobuf message
HEAD_MULTIPLE = 16  # ONNX Runtime turns heads of multiples of this size
LARGEST_TABLE = 1 << 24  # rotary angles, 131,072 tokens with heads of 128: no file bounds what a setting asks for


class ModelConfig(Settings):
    """The network's dimensions."""

    vocab_size: int = Field(ge=2, description="Rows of the embedding; ids of the tokenizer plus padding.")
    context_length: int = Field(512, ge=8, description="Tokens the model reads at once.")
    n_layer: int = Field(6, ge=1, le=1000)
    n_embd: int = Field(384, ge=8)
    n_head: int = Field(3, ge=1)
    n_kv_head: int = Field(3, ge=1, description="Key-value heads; fewer than n_head groups the queries.")
    head_dim: int = Field(128, ge=2)
    n_ff: int = Field(1024, ge=1, description="Width of the SwiGLU.")
    rope_theta: float = Field(10_000.0, gt=0)
    norm_eps: float = Field(1e-6, gt=0)
    tie_embeddings: bool = True

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head {self.n_head} must be a multiple of n_kv_head {self.n_kv_head}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even (rotary positions turn pairs)")
        if self.context_length * self.head_dim > LARGEST_TABLE:
            longest = LARGEST_TABLE // self.head_dim
            raise ValueError(
                f"context_length {self.context_length} must be {longest} at most with head_dim {self.head_dim}"
            )
        return self


def matrix_parameters(config: ModelConfig) -> int:
    """Weights of the matrices inside the blocks."""
    attention = 2 * config.n_embd * config.head_dim * (config.n_head + config.n_kv_head)
    return config.n_layer * (attention + 3 * config.n_embd * config.n_ff)


def parameters(config: ModelConfig) -> int:
    """All weights, tied ones counted once."""
    norms = config.n_layer * (2 * config.n_embd + 2 * config.head_dim) + config.n_embd
    tables = 1 if config.tie_embeddings else 2
    return matrix_parameters(config) + norms + tables * config.vocab_size * config.n_embd


def padded_head(config: ModelConfig) -> int:
    """Size of a head with the zeros that fill it up for ONNX Runtime."""
    return -(-config.head_dim // HEAD_MULTIPLE) * HEAD_MULTIPLE


def kv_cache_bytes(config: ModelConfig, precision: Precision = "int8", *, batch: int = 1) -> int:
    """Memory of a full KV cache."""
    per_token = 2 * config.n_layer * config.n_kv_head * padded_head(config)
    return per_token * config.context_length * batch * BYTES[precision]


def graph_bytes(config: ModelConfig, precision: Precision) -> int:
    """Size of the graph that generates: bytes are what its matrices are in, not the embedding and the rotary angles."""
    table = config.vocab_size * config.n_embd
    matrices = (matrix_parameters(config) + table) * BYTES[precision]
    return matrices + (2 if precision == "float16" else 4) * (table + config.context_length * padded_head(config))

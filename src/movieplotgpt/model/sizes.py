"""The ladder of named sizes; FLOPs and bytes of training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from movieplotgpt.config import Settings, build_settings
from movieplotgpt.engine.model_config import ModelConfig, matrix_parameters, parameters

SizeName = Literal["tiny", "mini", "small", "base", "medium", "large"]
Size = Literal[SizeName, "auto"]

# name: layers, embedding, heads, head size, SwiGLU width; parameters with a vocabulary of 4,096
LADDER: dict[SizeName, tuple[int, int, int, int, int]] = {
    "tiny": (4, 128, 1, 128, 384),  # 1.4 M
    "mini": (5, 192, 3, 64, 512),  # 3.0 M
    "small": (6, 256, 2, 128, 704),  # 5.9 M
    "base": (6, 384, 3, 128, 1024),  # 12.2 M
    "medium": (8, 512, 4, 128, 1408),  # 27.8 M
    "large": (12, 768, 6, 128, 2048),  # 88.1 M
}

VOCABULARY_MULTIPLE = 64  # rows of the embedding are padded to this: kernels and quantised formats like it


class SizeSettings(Settings):
    """A named size, with any dimension set apart from it."""

    size: Size = Field("base", description="A step of the ladder; auto: by a few timed steps.")
    context_length: int = Field(512, ge=32, description="Tokens the model reads at once.")
    n_layer: int | None = Field(None, ge=1, description="Number of blocks; default: by size.")
    n_embd: int | None = Field(None, ge=8, description="Width of the embedding; default: by size.")
    n_head: int | None = Field(None, ge=1, description="Number of query heads; default: by size.")
    n_kv_head: int | None = Field(None, ge=1, description="Fewer than n_head groups the queries; default: as many.")
    head_dim: int | None = Field(None, ge=2, description="Width of a head; default: by size.")
    n_ff: int | None = Field(None, ge=1, description="Hidden width of the MLP; default: by size.")
    rope_theta: float = Field(10_000.0, gt=0, description="Base of the rotary frequencies.")
    tie_embeddings: bool = Field(True, description="Use the embedding as the output matrix, too.")

    def model_config_for(self, vocab_size: int) -> ModelConfig:
        """The network's dimensions for a tokenizer of ``vocab_size`` ids.

        Raises:
            ConfigError: the dimensions do not fit each other.
        """
        assert self.size != "auto", "the training's sizing.py settles that before a model is made"
        steps = zip(("n_layer", "n_embd", "n_head", "head_dim", "n_ff"), LADDER[self.size], strict=True)
        chosen = {name: getattr(self, name) or size for name, size in steps}
        dimensions = {
            **chosen,
            "vocab_size": -(-vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE,
            "context_length": self.context_length,
            "n_kv_head": self.n_kv_head or chosen["n_head"],
            "rope_theta": self.rope_theta,
            "tie_embeddings": self.tie_embeddings,
        }
        return build_settings(ModelConfig, dimensions, where="[model]")


def training_flops_per_token(config: ModelConfig) -> int:
    """Floating-point operations of forward and backward for one token of a full context.

    Two per weight forward and four backward, the head counted and the embedding look-up not; causal attention counts
    half its square. Source: the accounting of nanoGPT's ``estimate_mfu`` and PaLM (arXiv 2204.02311), appendix B.
    """
    head = config.vocab_size * config.n_embd
    attention = config.n_layer * config.n_head * config.head_dim * config.context_length
    return 6 * (matrix_parameters(config) + head + attention)


def training_bytes(config: ModelConfig, *, tokens_per_step: int, bytes_per_value: int = 4) -> int:
    """About how much memory a training step takes.

    Weights, gradients and two moments in float32, and the activations kept for the backward pass: per token and block
    about 14 values of the embedding's width, 4 of the SwiGLU's and the heads', and three rows of logits in float32.
    """
    per_block = 8 * config.n_embd + 6 * config.n_head * config.head_dim + 4 * config.n_ff
    activations = tokens_per_step * config.n_layer * per_block * bytes_per_value
    logits = 3 * tokens_per_step * config.vocab_size * 4
    return 16 * parameters(config) + activations + logits

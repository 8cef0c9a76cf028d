"""A small network in every layout, and tokens for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from movieplotgpt.engine.model_config import ModelConfig
from movieplotgpt.model.gpt import GPT

CONTEXT, VOCABULARY = 32, 50
DIMENSIONS: dict[str, dict[str, Any]] = {
    "plain heads": {},
    "grouped-query heads": {"n_head": 6, "n_kv_head": 2},
    "one key-value head": {"n_head": 4, "n_kv_head": 1},
    "untied head": {"tie_embeddings": False},
    "head size of its own": {"head_dim": 22},
    "small head size": {"n_head": 4, "n_kv_head": 2, "head_dim": 8, "norm_eps": 0.1},
    "other rotary base and epsilon": {"rope_theta": 1e6, "norm_eps": 1e-3},
}


@pytest.fixture(params=list(DIMENSIONS.values()), ids=list(DIMENSIONS))
def dimensions(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What ``tiny_model`` is asked for: each layout in turn."""
    found: dict[str, Any] = request.param
    return found


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., GPT]:
    """``tiny_model(seed=0, dropout=0.0, **dimensions)``: a network with every weight drawn."""
    return make_model


@pytest.fixture(scope="session")
def some_ids() -> Callable[..., torch.Tensor]:
    """``some_ids(*shape, seed=0)``: tokens of its vocabulary."""
    return _ids


def _config(**dimensions: Any) -> ModelConfig:
    defaults = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_kv_head": 2, "head_dim": 16, "n_ff": 48}
    return ModelConfig(**{"vocab_size": VOCABULARY, "context_length": CONTEXT, **defaults, **dimensions})


def make_model(*, seed: int = 0, dropout: float = 0.0, **dimensions: Any) -> GPT:
    """Every weight drawn, norms as well: ``initialize`` would leave blocks that do nothing."""
    model = GPT(_config(**dimensions), dropout=dropout)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + (weight.ndim == 1))
    return model.eval()


def _ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))

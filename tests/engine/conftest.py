"""Models for the engine: the networks of the model's tests, as what text is generated with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_tiny_checkpoint
from tests.model.conftest import dimensions, make_model, some_ids, tiny_model

from movieplotgpt.model.checkpoints import Checkpoint, save_checkpoint

__all__ = ["dimensions", "some_ids", "tiny_model"]


@pytest.fixture(autouse=True)
def graphs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of graphs for each test, not that of whoever runs it."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache / "movieplotgpt" / "graphs"


@pytest.fixture(scope="session")
def text_model() -> Callable[..., Checkpoint]:
    """``text_model(seed=0, **dimensions)``: a network of ``tiny_model``; its tokenizer is that of another."""
    return make_text_model


def make_text_model(**dimensions: Any) -> Checkpoint:
    return replace(make_tiny_checkpoint("byte"), model=make_model(**dimensions))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model on disk."""
    save_checkpoint(tmp_path / "model", make_tiny_checkpoint("byte"))
    return tmp_path / "model"

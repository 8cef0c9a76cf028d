"""Prepared corpora of invented films, one for each tokenizer, and models that have learned nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from movieplotgpt.config import build_settings
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.sizes import SizeSettings
from movieplotgpt.text.prepare import PrepareSettings, prepare
from movieplotgpt.text.token_files import PreparedCorpus

SIZE = SizeSettings(size="tiny", context_length=64, n_layer=1, n_embd=16, n_head=1, head_dim=8, n_ff=16)
HEADER = "The plot summary of the movie named '{Title}' is:"


@pytest.fixture
def corpus_of(tmp_path: Path, plots_csv: Path) -> Callable[..., PreparedCorpus]:
    """``corpus_of("char")``: the invented films prepared, a fifth of them in the test split."""

    def prepared(kind: str, *, folded: bool = True, header: str = HEADER) -> PreparedCorpus:
        values = {
            "corpus": {"kind": "table", "text": "Plot", "page": "Wiki Page"},
            "cleaning": {"ascii": folded, "footnotes": True},
            "format": {"header": header},
            "split": {"kind": "group", "validation": 0.1, "test": 0.2, "seed": 1},
            "tokenizer": {"kind": kind, **({"vocab_size": 300} if kind == "bpe" else {})},
        }
        out = tmp_path / f"{kind}-{folded}-{bool(header)}"
        prepare(build_settings(PrepareSettings, values), plots_csv, out)
        return PreparedCorpus.load(out)

    return prepared


class Echo(GPT):
    """A model that expects the tokens it has read before: a title's words tell of its body."""

    def forward(self, ids_BT: Tensor, cache: Any = None) -> Tensor:
        seen_BTV = torch.nn.functional.one_hot(ids_BT, self.config.vocab_size).float().cumsum(1)
        return 3.0 * (seen_BTV > 0)


def untrained(corpus: PreparedCorpus, *, spread: float = 0.3) -> Checkpoint:
    """A model with weights drawn at random (all zero for ``spread`` 0) that claims to be trained on ``corpus``."""
    model = GPT(SIZE.model_config_for(corpus.tokenizer.vocab_size))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    info = {"corpus": {"hash": corpus.manifest.corpus_hash}}
    return Checkpoint(model.config, corpus.tokenizer, corpus.format, corpus.manifest.cleaning, info, model=model.eval())


@pytest.fixture
def untrained_on() -> Callable[..., Checkpoint]:
    """``untrained_on(corpus, spread=0.3)``."""
    return untrained


@pytest.fixture
def echo() -> Callable[[Checkpoint], Checkpoint]:
    """``echo(checkpoint)``: the same with a model that expects what it has read, and reads 256 tokens."""

    def made(checkpoint: Checkpoint) -> Checkpoint:
        config = checkpoint.config.model_copy(update={"context_length": 256})
        return replace(checkpoint, model=Echo(config))

    return made

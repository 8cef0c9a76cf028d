"""A text that was learnt by heart is found out, and one that was not is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.config import build_settings
from movieplotgpt.errors import DataError
from movieplotgpt.evaluation import memorisation as module
from movieplotgpt.evaluation.likelihood import validation_scorer
from movieplotgpt.evaluation.memorisation import memorisation
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.trainer import train


@pytest.mark.slow
def test_a_model_that_was_overfitted_on_purpose_is_found_out(plots_csv: Path, tmp_path: Path) -> None:
    values = {
        "corpus": {"kind": "table", "text": "Plot"},
        "format": {"header": "The plot summary of the movie named '{Title}' is:"},
        "split": {"kind": "group", "validation": 0.3, "test": 0.4},
        "tokenizer": {"kind": "bpe", "vocab_size": 600},
        "model": {"size": "tiny", "context_length": 256},
        "windows": {"no_title": 0},
        "training": {"steps": 150, "tokens_per_step": 1024, "evaluations": 1, "compile": "off"},
    }
    config = build_settings(RunConfig, values)
    prepare(config, plots_csv, tmp_path / "data")
    corpus, folder = PreparedCorpus.load(tmp_path / "data"), RunFolder(tmp_path / "run")
    list(train(config, corpus, folder, evaluate=validation_scorer(corpus)))
    found = memorisation(load_checkpoint(folder.last), corpus, documents=10)
    assert found.read.share > 0.8 and found.unread.share == 0
    assert found.read_bits < 0.5 < 1.5 < found.unread_bits
    assert found.read.interval[0] > 0.4 and found.read.documents <= 10


def test_a_model_that_knows_nothing_has_nothing_by_heart(
    corpus_of: Callable[..., PreparedCorpus], untrained_on: Callable[..., Checkpoint]
) -> None:
    corpus = corpus_of("bpe")
    told: dict[str, tuple[int, int]] = {}
    found = memorisation(
        untrained_on(corpus, spread=0.02),
        corpus,
        documents=4,
        progress=lambda stage, *done: told.update({stage: done}),
    )
    assert found.read.share == found.unread.share == 0
    assert found.read_bits == pytest.approx(found.unread_bits, rel=0.1)
    assert all(done == total for done, total in told.values()) and len(told) == 4


def test_texts_that_are_too_short_are_said(
    corpus_of: Callable[..., PreparedCorpus], untrained_on: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEGUN", 10**6)
    corpus = corpus_of("bpe")
    with pytest.raises(DataError, match="longer than the"):
        memorisation(untrained_on(corpus), corpus, documents=2)

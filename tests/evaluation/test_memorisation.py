"""A text that was learnt by heart is found out, and one that was not is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation import memorisation as module
from movieplotgpt.evaluation.memorisation import memorisation
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint
from movieplotgpt.text.token_files import PreparedCorpus


@pytest.mark.slow
def test_a_model_that_was_overfitted_on_purpose_is_found_out(overfitted: tuple[Path, Path]) -> None:
    model, data = overfitted
    found = memorisation(load_checkpoint(model), PreparedCorpus.load(data), documents=10)
    assert found.read.share > 0.8 and found.unread.share == 0
    assert found.read.characters > 80 and found.unread.characters < 20
    assert found.read_bits < 0.5 < 1.5 < found.unread_bits
    assert found.read.interval is None or found.read.interval[0] > 0.4
    assert found.read.documents <= 10


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
    assert found.read.share == found.unread.share == 0 and found.read.characters < 5
    assert found.read_bits == pytest.approx(found.unread_bits, rel=0.1)
    assert all(done == total for done, total in told.values()) and len(told) == 4


def test_texts_that_are_too_short_are_said(
    corpus_of: Callable[..., PreparedCorpus], untrained_on: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEGUN", 10**6)
    corpus = corpus_of("bpe")
    with pytest.raises(DataError, match="longer than the"):
        memorisation(untrained_on(corpus), corpus, documents=2)

"""What is kept of an evaluation puts together what is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from movieplotgpt import __version__
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.evaluation.compressors import CompressorScore
from movieplotgpt.evaluation.likelihood import evaluate
from movieplotgpt.evaluation.record import describe
from movieplotgpt.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from movieplotgpt.text.token_files import PreparedCorpus

TRAINING = {"step": 1200, "tokens": 9_830_400, "seconds": 2700.0, "device": "cpu", "precision": "float32", "threads": 1}
PRICE = CompressorScore(name="xz", bits_per_character=2.125, bytes=53_125, characters=200_000, documents=90, seconds=61)


def test_a_description_puts_together_what_is_known(
    corpus_of: Callable[..., PreparedCorpus], untrained_on: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    corpus = corpus_of("bpe")
    checkpoint = untrained_on(corpus)
    save_checkpoint(tmp_path / "m", replace(checkpoint, info={**checkpoint.info, "training": TRAINING}))
    checkpoint = load_checkpoint(tmp_path / "m")
    likelihood = evaluate(checkpoint, corpus, documents=2, others=0, resamples=20)
    one = describe("a-name", checkpoint, likelihood, [PRICE], "abc1234")
    assert one.weights_sha256 == hashlib.sha256((tmp_path / "m" / "model.safetensors").read_bytes()).hexdigest()
    assert (one.model, one.commit, one.movieplotgpt) == ("a-name", "abc1234", __version__)
    assert (one.tokenizer, one.vocab_size, one.context_length) == ("bpe", corpus.tokenizer.vocab_size, 64)
    assert one.parameters == parameters(checkpoint.config) == sum(w.numel() for w in checkpoint.model.parameters())
    assert (one.training, one.likelihood, one.compressors) == (TRAINING, likelihood, (PRICE,))

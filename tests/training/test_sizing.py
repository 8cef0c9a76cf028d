"""What a machine's speed and a text make of ``size = "auto"``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from movieplotgpt.config import build_settings
from movieplotgpt.model.hardware import Hardware
from movieplotgpt.model.sizes import LADDER, training_flops_per_token
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training import sizing
from movieplotgpt.training.run import RunConfig, TrainingSettings
from movieplotgpt.training.sizing import (
    MEMORISED_AFTER,
    SEEN_OFTEN,
    about_an_epoch,
    settle,
    settle_by_timing,
    training_speed,
)
from movieplotgpt.training.windows import TrainingWindows

TextOf = Callable[[int], str]
SLOW, USUAL, FAST = 1e8, 1e11, 1e15  # operations a second


def config_of(**training: Any) -> RunConfig:
    return build_settings(
        RunConfig,
        {
            "corpus": {"kind": "plain"},
            "tokenizer": {"kind": "byte"},
            "model": {"size": "auto", "context_length": 64},
            "training": {"minutes": 5, "compile": "off", "device": "cpu", **training},
        },
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PreparedCorpus:
    """40,000 characters."""
    folder = tmp_path_factory.mktemp("sizing")
    (folder / "text.txt").write_text("The lamp went out, and Ada lit it again. " * 1000, encoding="utf-8")
    prepare(config_of(), folder / "text.txt", folder / "data")
    return PreparedCorpus.load(folder / "data")


def tokens_of(corpus: PreparedCorpus) -> float:
    """Of an epoch: windows of 64 tokens repeat 16."""
    counts = corpus.manifest.splits["train"]
    return (counts.body_tokens + counts.header_tokens) * 64 / 48


class LargeText:
    """A corpus of which only the counts matter."""

    def __init__(self, corpus: PreparedCorpus, tokens: int) -> None:
        self.tokenizer = corpus.tokenizer
        counts = corpus.manifest.splits["train"].model_copy(update={"body_tokens": tokens, "header_tokens": 0})
        self.manifest = corpus.manifest.model_copy(update={"splits": {"train": counts}})


def large(corpus: PreparedCorpus, tokens: int) -> PreparedCorpus:
    return LargeText(corpus, tokens)  # type: ignore[return-value]


def test_a_size_that_is_set_is_left_alone(corpus: PreparedCorpus) -> None:
    config = build_settings(RunConfig, {**config_of().model_dump(mode="json"), "model": {"size": "small"}})
    assert settle_by_timing(config, corpus) == (config, ())


def test_a_larger_budget_never_gets_a_smaller_model(corpus: PreparedCorpus) -> None:
    ladder, text = [str(name) for name in LADDER], large(corpus, 8_000_000)
    sizes = [
        ladder.index(settle(config_of(), text, flops)[0].model.size) for flops in (1e6, 1e9, 1e10, 1e11, 1e12, 1e15)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0 < sizes[-1] < len(ladder) - 1, "the text, too, sets a limit"


def test_a_small_text_gets_a_small_model(corpus: PreparedCorpus) -> None:
    assert settle(config_of(), corpus, FAST)[0].model.size == "tiny"


def test_twice_the_time_is_twice_the_speed(corpus: PreparedCorpus) -> None:
    text = large(corpus, 50_000_000)
    (longer, why), (faster, also) = settle(config_of(minutes=10), text, USUAL), settle(config_of(), text, 2 * USUAL)
    assert longer.model == faster.model
    assert longer.training.tokens_per_step == faster.training.tokens_per_step
    assert why[0].partition("size")[2] == also[0].partition("size")[2]


@pytest.mark.parametrize(("flops", "often"), [(SLOW, False), (FAST, True)])
def test_a_text_seen_often_gets_dropout_and_patience(corpus: PreparedCorpus, flops: float, often: bool) -> None:
    config, reasons = settle(config_of(), corpus, flops)
    training = config.training
    assert (training.dropout > 0, training.patience is not None) == (often, often)
    said = "\n".join(reasons)
    assert ("expect verbatim passages" in said, "dropout 0.2: the text" in said) == (often, often)
    assert training.patience is None or training.patience < training.evaluations  # it can run out


def test_passes_are_the_budget_over_the_text(corpus: PreparedCorpus) -> None:
    tiny = config_of().model.model_copy(update={"size": "tiny"}).model_config_for(corpus.tokenizer.vocab_size)
    one_pass = training_flops_per_token(tiny) * tokens_of(corpus)
    for passes in (SEEN_OFTEN - 1, SEEN_OFTEN + 1, MEMORISED_AFTER + 1):
        config, reasons = settle(config_of(), corpus, passes * one_pass / (5 * 60))
        assert f"{passes}.0 times the text" in reasons[0]
        assert (config.training.dropout > 0) == (passes > SEEN_OFTEN)
        assert len(reasons) == 1 + (passes > SEEN_OFTEN) + (passes > MEMORISED_AFTER)


def test_an_epoch_is_what_training_reads(corpus: PreparedCorpus) -> None:
    windows = TrainingWindows.of(corpus, 64, config_of().windows, 1)
    assert 64 * windows.rows_in_epoch(0) == pytest.approx(tokens_of(corpus), rel=0.1)
    counts = corpus.manifest.splits["train"]
    assert about_an_epoch(counts.body_tokens, counts.documents, 64) == pytest.approx(tokens_of(corpus))
    assert about_an_epoch(600, 10, 64) == 600, "no window overlaps another"


def test_what_is_set_stays(corpus: PreparedCorpus) -> None:
    config = settle(config_of(tokens_per_step=640, dropout=0.1, evaluations=2), corpus, FAST)[0]
    assert (config.training.tokens_per_step, config.training.dropout, config.training.evaluations) == (640, 0.1, 2)


def test_epochs_and_steps_are_budgets_too(corpus: PreparedCorpus) -> None:
    text = large(corpus, 750_000)
    epochs = settle(config_of(minutes=None, epochs=40), text, SLOW)
    steps = settle(config_of(minutes=None, steps=10_000, tokens_per_step=4000), text, FAST)
    assert "40.0 times the text" in epochs[1][0] and "40.0 times the text" in steps[1][0]
    assert epochs[0].model == steps[0].model


@pytest.mark.parametrize(
    "dimension", [{"n_layer": 8}, {"n_embd": 8}, {"n_head": 8}, {"n_kv_head": 1}, {"head_dim": 8}, {"n_ff": 8}]
)
def test_a_network_given_is_not_called_by_the_name_of_a_size(corpus: PreparedCorpus, dimension: dict[str, int]) -> None:
    config = config_of()
    given = config.model_copy(update={"model": config.model.model_copy(update=dimension)})
    assert "TFLOP/s: size tiny (0.9 M parameters) sees" in settle(config, corpus, FAST)[1][0]
    told = settle(given, corpus, FAST)[1][0]
    assert "TFLOP/s: the network given (" in told and "size" not in told


def test_steps_are_of_the_batch_they_were_told_with(corpus: PreparedCorpus) -> None:
    config, reasons = settle(config_of(minutes=None, steps=100), large(corpus, 750_000), FAST)
    assert config.training.tokens_per_step == TrainingSettings().tokens_per_step == 8192
    assert "sees about 0.8 M tokens, 0.8 times the text, 8,192 a step" in reasons[0]


def test_compiling_must_pay(corpus: PreparedCorpus) -> None:
    config = build_settings(RunConfig, {**config_of().model_dump(mode="json"), "training": {"minutes": 1}})
    assert settle(config, corpus, USUAL)[0].training.compile == "off"
    config = build_settings(RunConfig, {**config_of().model_dump(mode="json"), "training": {"minutes": 30}})
    assert settle(config, corpus, USUAL)[0].training.compile == "auto"


def test_a_smaller_network_than_the_timed_one_is_timed_itself(
    corpus: PreparedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_token = training_flops_per_token(
        config_of().model.model_copy(update={"size": "tiny"}).model_config_for(corpus.tokenizer.vocab_size)
    )
    often = 1.5 * SEEN_OFTEN * tokens_of(corpus) * per_token / (5 * 60)  # operations a second
    asked: list[str | None] = []

    def speed(_settings: TrainingSettings, _context_length: int, size: str | None = None) -> float:
        asked.append(size)
        return often / 2 if size == "tiny" else often

    monkeypatch.setattr(sizing, "training_speed", speed)
    assert settle(config_of(), corpus, often)[0].training.dropout == 0.2
    settled, reasons = settle_by_timing(config_of(), corpus)
    assert asked == [None, "tiny"] and settled.model.size == "tiny"
    assert settled.training.dropout == 0 and "3.0 times the text" in reasons[0]
    settled, _ = settle_by_timing(config_of(), corpus, lambda flops: 4 * flops)
    assert settled.training.dropout == 0.2, "of several workers"
    asked.clear()
    config = config_of().model_copy(update={"model": config_of().model.model_copy(update={"size": "small"})})
    assert settle_by_timing(config, corpus) == (config, ()) and not asked
    monkeypatch.setattr(sizing, "TIMED_SIZE", "tiny")
    settle_by_timing(config_of(), corpus)
    assert asked == [None]


def test_what_is_settled_is_a_config_like_any_other(corpus: PreparedCorpus) -> None:
    settled, _ = settle(config_of(), corpus, USUAL)
    assert build_settings(RunConfig, settled.model_dump(mode="json")) == settled


def test_speed_is_measured_on_the_hardware_a_run_would_use(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainingSettings] = []

    def choose(settings: TrainingSettings) -> Hardware:
        asked.append(settings)
        return Hardware(torch.device("cpu"), torch.float32, False, ())

    monkeypatch.setattr(sizing, "choose_hardware", choose)
    monkeypatch.setattr(sizing, "TIMED_SIZE", "tiny")
    monkeypatch.setattr(sizing, "TIMED_TOKENS", 64)
    flops = training_speed(TrainingSettings(), 32)
    assert asked == [TrainingSettings()]
    assert math.isfinite(flops) and flops > 0


def test_slow_steps_among_the_timed_ones_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "choose_hardware", lambda _: Hardware(torch.device("cpu"), torch.float32, False, ()))
    monkeypatch.setattr(sizing, "TIMED_TOKENS", 64)

    def speed(*seconds: float) -> float:
        """What is measured where the first step and then these take so long."""
        ticks = iter([tick for each in (30.0, *seconds) for tick in (0.0, each)])
        monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
        return training_speed(TrainingSettings(), 32, "tiny")

    assert speed(1, 9, 1, 1, 9) == speed(1, 1, 1, 1, 1) == 2 * speed(2, 2, 2, 2, 2)

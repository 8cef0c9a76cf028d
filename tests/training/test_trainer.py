"""The loop: what it tells, that it learns, and that a run taken up again is the run that was never interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from movieplotgpt.config import build_settings
from movieplotgpt.errors import CheckpointError, TrainingError
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training import trainer as trainer_module
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.trainer import Evaluated, Event, Finished, Noted, Saved, Started, StepDone, train

TINY = {"size": "tiny", "context_length": 64, "n_layer": 1, "n_embd": 16, "n_head": 1, "head_dim": 16, "n_ff": 32}


def config_for(**training: Any) -> RunConfig:
    """A run of seconds: 12 steps of 4 windows, dropout on, in float32 and not compiled."""
    optimizer = training.pop("optimizer", {"kind": "muon"})
    length = {} if {"minutes", "epochs"} & training.keys() else {"steps": 12}
    values = {
        "corpus": {"kind": "table", "text": "Plot", "page": "Wiki Page"},
        "format": {"header": "The plot of '{Title}':"},
        "split": {"kind": "group", "validation": 0.1, "test": 0.1},
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "model": TINY,
        "optimizer": optimizer,
        "schedule": {"warmup_steps": 2},
        "training": {
            **length,
            "tokens_per_step": 256,
            "evaluations": 3,
            "dropout": 0.1,
            "precision": "float32",
            "compile": "off",
            "device": "cpu",
            **training,
        },
    }
    return build_settings(RunConfig, values)


@pytest.fixture
def corpus(tmp_path: Path, plots_csv: Path) -> PreparedCorpus:
    prepare(config_for(), plots_csv, tmp_path / "data")
    return PreparedCorpus.load(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, corpus: PreparedCorpus) -> Callable[..., list[Event]]:
    """``run("name", config, evaluate=..., **options)``: all events of a run in ``tmp_path/name``."""

    def all_events(name: str, config: RunConfig, evaluate: Callable[[GPT], float] = weight_sum, **options: Any) -> Any:
        return list(train(config, corpus, RunFolder(tmp_path / name), evaluate=evaluate, **options))

    return all_events


def weight_sum(model: GPT) -> float:
    """A score that is a function of the weights, and falls as they grow."""
    return -sum(float(weight.detach().abs().sum()) for weight in model.parameters())


def scores(*values: float) -> Callable[[GPT], float]:
    """An evaluation that returns one value after the other."""
    left = list(values)
    return lambda model: left.pop(0)


def stop_after(steps: int) -> Callable[[], bool]:
    """A stop that is asked for after so many steps."""
    asked = iter(range(1, 1_000_000))
    return lambda: next(asked) >= steps


def ended(events: list[Event]) -> tuple[int, str]:
    """After how many steps, and why."""
    last = events[-1]
    assert isinstance(last, Finished)
    return last.step, last.reason


def weights_and_state(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "training" / "optimizer.safetensors").read_bytes()


def test_a_run_tells_what_happens_in_order(run: Callable[..., list[Event]], tmp_path: Path) -> None:
    events = run("run", config_for(), sample=lambda model: "a sample")
    assert isinstance(events[0], Started)
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(12))
    assert [event.step for event in events if isinstance(event, Evaluated)] == [4, 8, 12]
    assert ended(events) == (12, "complete")
    kinds = [type(event).__name__ for event in events if not isinstance(event, StepDone)]
    assert kinds[1:6] == ["Saved", "Evaluated", "Saved", "Saved", "Sampled"]  # saved before it is scored
    assert (tmp_path / "run" / "last" / "training" / "progress.json").exists()
    assert not (tmp_path / "run" / "best" / "training").exists()


def test_the_loss_falls(run: Callable[..., list[Event]]) -> None:
    losses = [e.loss for e in run("run", config_for(steps=40, dropout=0)) if isinstance(e, StepDone)]
    assert losses[0] == pytest.approx(math.log(320), abs=0.3)  # 300 ids, padded to 320 rows
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


@pytest.mark.parametrize("stopped_after", [1, 5, 8, 11])
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    run: Callable[..., list[Event]], tmp_path: Path, kind: str, stopped_after: int
) -> None:
    config = config_for(optimizer={"kind": kind})
    whole = run("whole", config)
    first = run("parts", config, stop=stop_after(stopped_after))
    assert ended(first) == (stopped_after, "interrupted")
    second = run("parts", config, resume=True)
    assert isinstance(second[0], Started) and second[0].step == stopped_after
    assert weights_and_state(tmp_path / "parts" / "last") == weights_and_state(tmp_path / "whole" / "last")
    best = (tmp_path / "parts" / "best" / "model.safetensors").read_bytes()
    assert best == (tmp_path / "whole" / "best" / "model.safetensors").read_bytes()
    told = [e.loss for e in first + second if isinstance(e, StepDone)]
    assert told == [e.loss for e in whole if isinstance(e, StepDone)]


def test_another_seed_is_another_run(run: Callable[..., list[Event]], tmp_path: Path) -> None:
    run("a", config_for())
    run("b", config_for(seed=1))
    assert weights_and_state(tmp_path / "a" / "last")[0] != weights_and_state(tmp_path / "b" / "last")[0]


def test_the_best_checkpoint_outlives_worse_ones(run: Callable[..., list[Event]], tmp_path: Path) -> None:
    events = run("run", config_for(), evaluate=scores(2.0, 1.5, 1.9))
    assert [event.best for event in events if isinstance(event, Evaluated)] == [True, True, False]
    steps = [load_checkpoint(tmp_path / "run" / name).info["training"]["step"] for name in ("best", "last")]
    assert steps == [8, 12]


def test_patience_ends_a_run_that_gets_no_better(run: Callable[..., list[Event]]) -> None:
    events = run("run", config_for(steps=20, evaluations=10, patience=2), evaluate=scores(2.0, 1.5, 1.6, 1.7, 1.0))
    assert ended(events) == (8, "no progress")


def test_nothing_is_lost_where_scoring_fails(run: Callable[..., list[Event]], tmp_path: Path) -> None:
    def out_of_memory(model: GPT) -> float:
        raise MemoryError

    with pytest.raises(MemoryError):
        run("run", config_for(), evaluate=out_of_memory)
    assert load_checkpoint(tmp_path / "run" / "last").info["training"]["step"] == 4
    second = run("run", config_for(), resume=True)
    run("whole", config_for())
    assert isinstance(second[0], Started) and second[0].step == 4
    assert weights_and_state(tmp_path / "run" / "last") == weights_and_state(tmp_path / "whole" / "last")


def test_minutes_become_a_number_of_steps_that_a_resumed_run_keeps(
    run: Callable[..., list[Event]], tmp_path: Path
) -> None:
    config = config_for(minutes=0.02, evaluations=1)
    first = run("run", config, stop=stop_after(trainer_module.TIMED_STEPS.stop + 1))
    total = first[-2].total_steps if isinstance(first[-2], StepDone) else None
    notes = [event.message for event in first if isinstance(event, Noted)]
    assert notes and notes[0].startswith("0.02 minutes are ")
    second = run("run", config, resume=True)
    assert isinstance(second[0], Started) and second[0].total_steps
    assert total in (None, second[0].total_steps)
    assert isinstance(second[-1], Finished) and second[-1].step == second[0].total_steps


def test_epochs_are_passes_over_the_windows(run: Callable[..., list[Event]]) -> None:
    events = run("run", config_for(epochs=2))
    started = events[0]
    assert isinstance(started, Started)
    assert started.total_steps == round(2 * started.windows_per_epoch / 4)


def test_a_loss_that_is_no_number_is_one_sentence(
    run: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GPT, "loss", lambda self, ids_BT, targets_BT: self(ids_BT).sum() * math.nan)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 0; lower optimizer.learning_rate \(it is 0.02\)"):
        run("run", config_for())


def test_fine_tuning_starts_from_the_weights_it_is_given(
    run: Callable[..., list[Event]], tmp_path: Path, corpus: PreparedCorpus
) -> None:
    run("first", config_for(steps=40, dropout=0))
    start = load_checkpoint(tmp_path / "first" / "last")
    tuned = [e.loss for e in run("tuned", config_for(dropout=0), start_from=start) if isinstance(e, StepDone)]
    fresh = [e.loss for e in run("fresh", config_for(dropout=0)) if isinstance(e, StepDone)]
    assert tuned[0] < fresh[0] - 0.5


def test_there_has_to_be_something_to_resume(run: Callable[..., list[Event]]) -> None:
    with pytest.raises(CheckpointError, match="run"):
        run("run", config_for(), resume=True)


def test_a_run_is_not_resumed_on_another_text(run: Callable[..., list[Event]], tmp_path: Path, plots_csv: Path) -> None:
    run("run", config_for(), stop=stop_after(3))
    plots_csv.write_text(plots_csv.read_text(encoding="utf-8").replace("harbour", "hangar"), encoding="utf-8")
    prepare(config_for(), plots_csv, tmp_path / "other")
    other = PreparedCorpus.load(tmp_path / "other")
    with pytest.raises(TrainingError, match="began on another corpus"):
        list(train(config_for(), other, RunFolder(tmp_path / "run"), evaluate=weight_sum, resume=True))


def test_other_threads_are_said(run: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch) -> None:
    run("run", config_for(), stop=stop_after(3))
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    notes = [event.message for event in run("run", config_for(), resume=True) if isinstance(event, Noted)]
    assert any(f"began with {threads} threads and goes on with {threads + 1}" in note for note in notes)


def test_checkpoints_come_as_often_as_asked(run: Callable[..., list[Event]]) -> None:
    events = run("run", config_for(checkpoint_every=5, evaluations=1))
    assert [event.step for event in events if isinstance(event, Saved) and event.folder.name == "last"] == [
        5,
        10,
        12,
        12,
    ]

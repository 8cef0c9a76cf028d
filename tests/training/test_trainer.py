"""The loop: what it tells, what it keeps, and that a resumed run is the run that was never interrupted."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from movieplotgpt.config import build_settings, override
from movieplotgpt.engine.model_config import parameters
from movieplotgpt.errors import CheckpointError, TrainingError
from movieplotgpt.model.checkpoints import load_checkpoint
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.hardware import Hardware
from movieplotgpt.model.previous_token_head import add_previous_token_head
from movieplotgpt.text.prepare import prepare
from movieplotgpt.text.token_files import PreparedCorpus
from movieplotgpt.training import steps as steps_module
from movieplotgpt.training import trainer as module
from movieplotgpt.training.compiling import CompiledLoss
from movieplotgpt.training.distributed import Workers
from movieplotgpt.training.events import Evaluated, Event, Finished, Noted, Sampled, Saved, Skipped, Started, StepDone
from movieplotgpt.training.run import RunConfig, RunFolder
from movieplotgpt.training.steps import Steps
from movieplotgpt.training.trainer import train
from movieplotgpt.training.windows import TrainingWindows, too_small

VALUES: dict[str, Any] = {
    "corpus": {"kind": "table", "text": "Plot", "hints": {"Decade": {"kind": "decade", "column": "Release Year"}}},
    "format": {"header": "The plot summary of the movie named '{Title}' is:", "hints": ["Decade"]},
    "split": {"kind": "group", "validation": 0.2, "test": 0.1, "seed": 1},
    "tokenizer": {"kind": "bpe", "vocab_size": 400},
    "model": {"context_length": 48, "n_layer": 1, "n_embd": 16, "n_head": 1, "head_dim": 8, "n_ff": 16},
    "schedule": {"warmup_steps": 2},
    "training": {
        "steps": 9,
        "tokens_per_step": 192,
        "evaluations": 2,
        "plain_tail": 0.3,
        "device": "cpu",
        "precision": "float32",
        "compile": "off",
    },
}


def config_of(*overrides: str) -> RunConfig:
    return build_settings(RunConfig, override(VALUES, overrides))


@pytest.fixture
def corpus(tmp_path: Path, plots_csv: Path) -> PreparedCorpus:
    prepare(config_of(), plots_csv, tmp_path / "data")
    return PreparedCorpus.load(tmp_path / "data")


STATE = "training/optimizer.safetensors"


@dataclass
class Trained:
    """A run's folder and all it told, from every life it had."""

    folder: RunFolder
    events: list[Event] = field(default_factory=list)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def losses(self) -> dict[int, float]:
        return {event.step: event.loss for event in self.of(StepDone)}

    @property
    def files(self) -> list[bytes]:
        """Weights and optimizer, to the last bit."""
        return [(self.folder.last / name).read_bytes() for name in ("model.safetensors", STATE)]

    @property
    def best(self) -> bytes:
        """The weights kept as the best."""
        return (self.folder.best / "model.safetensors").read_bytes()

    @property
    def finished(self) -> tuple[int, str]:
        """After how many steps the last life ended, and why."""
        event = self.events[-1]
        assert isinstance(event, Finished)
        return event.step, event.reason

    @property
    def progress(self) -> dict[str, Any]:
        """Where the checkpoint stands, but for what is read from the clock."""
        progress: dict[str, Any] = json.loads((self.folder.last / "training/progress.json").read_text("utf-8"))
        return {name: value for name, value in progress.items() if "seconds" not in name}


Run = Callable[..., Trained]


def mean_weight(model: GPT) -> float:
    """A score that tells apart what differs; training changes it."""
    return sum(weight.double().mean().item() for weight in model.parameters())


def stop_after(steps: int) -> Callable[[], bool]:
    asked = itertools.count(1)
    return lambda: next(asked) >= steps


@pytest.fixture
def run(tmp_path: Path, corpus: PreparedCorpus) -> Run:
    """``run("name", *overrides, **arguments of train)``: train to the end, or to where it stops."""

    def trained(name: str, *overrides: str, **arguments: Any) -> Trained:
        result = Trained(RunFolder(tmp_path / name))
        given = {"evaluate": mean_weight, **arguments}
        result.events.extend(train(config_of(*overrides), corpus, result.folder, **given))
        return result

    return trained


@torch.no_grad()
def loss_of(model: GPT, corpus: PreparedCorpus, *, rows: int, seed: int = 1337) -> float:
    """Nats per token of the first windows of a training."""
    windows = TrainingWindows(
        corpus.split("train"),
        empty_sentence=corpus.tokenizer.encode(corpus.format.sentence()),
        end_id=corpus.tokenizer.end_id,
        context_length=48,
        settings=config_of().windows,
        seed=seed,
    )
    batch = windows.batch(0, rows)
    return model.loss(*map(torch.from_numpy, (batch.ids_BT, batch.targets_BT, batch.starts_BT))).item()


def scores(values: Iterable[float]) -> Callable[[GPT], float]:
    score = iter(values)
    return lambda model: next(score)


def test_a_run_tells_its_story_in_order(run: Run, corpus: PreparedCorpus) -> None:
    result = run("a", "training.evaluations=3", evaluate=scores([5.0, 4.0, 4.5]), sample=lambda model: "Once.")
    steps = [f"step {i}" for i in range(9)]
    told = [f"step {event.step}" if isinstance(event, StepDone) else type(event).__name__ for event in result.events]
    looked = ["Saved", "Evaluated", "Saved", "Saved", "Sampled"]
    last = [*looked[:2], *looked[3:]]  # no better, so nothing goes to best
    assert told == ["Started", *steps[:3], *looked, *steps[3:6], *looked, *steps[6:], *last, "Finished"]
    assert [(e.step, e.bits_per_character, e.best) for e in result.of(Evaluated)] == [
        (3, 5.0, True),
        (6, 4.0, True),
        (9, 4.5, False),
    ]
    assert [event.step for event in result.of(Sampled)] == [3, 6, 9]
    assert {event.folder.name for event in result.of(Saved)} == {"last", "best"}
    assert result.finished == (9, "complete")
    started = result.of(Started)[0]
    assert (started.step, started.total_steps, started.tokens_per_step) == (0, 9, 192)
    assert started.parameters == parameters(load_checkpoint(result.folder.last).model.config)
    assert all(
        event.tokens == 192 and event.gradient_norm > 0 and event.total_steps == 9 for event in result.of(StepDone)
    )


def test_the_rate_is_the_schedule_s(run: Run) -> None:
    config = config_of()
    for kind in ("muon", "adamw"):
        rates = [event.learning_rate for event in run(kind, f"optimizer.kind={kind}").of(StepDone)]
        top = config_of(f"optimizer.kind={kind}").optimizer.learning_rate
        assert rates == pytest.approx([top * config.schedule.multiplier(step, 9) for step in range(9)])


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_the_loss_falls_and_the_model_keeps_what_it_learned(run: Run, corpus: PreparedCorpus, kind: str) -> None:
    result = run(kind, "training.steps=80", f"optimizer.kind={kind}", "optimizer.learning_rate=0.02")
    losses = list(result.losses.values())
    assert losses[0] == pytest.approx(torch.tensor(448.0).log().item(), abs=0.2)  # 400 ids, padded: all alike at first
    assert sum(losses[-10:]) / 10 < losses[0] - 1.0
    learnt = loss_of(load_checkpoint(result.folder.last).model, corpus, rows=16)
    assert learnt == pytest.approx(sum(losses[-10:]) / 10, abs=0.5)


def test_the_first_loss_is_that_of_the_first_batch(run: Run, corpus: PreparedCorpus) -> None:
    result = run("a", "training.seed=5", "training.steps=1")
    plain = run("b", "training.seed=5", "training.steps=1", "training.previous_token_head=false")
    model = GPT(config_of().model.model_config_for(corpus.tokenizer.vocab_size))
    model.initialize(5)
    assert plain.losses[0] == pytest.approx(loss_of(model, corpus, rows=4, seed=5), rel=1e-6) != result.losses[0]
    add_previous_token_head(model)
    assert result.losses[0] == pytest.approx(loss_of(model, corpus, rows=4, seed=5), rel=1e-6)


def test_the_last_part_of_training_shows_no_hints(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, plain = TrainingWindows.batch, []

    def noted(self: TrainingWindows, *arguments: Any, **options: Any) -> Any:
        plain.append(options["plain"])
        return batch(self, *arguments, **options)

    monkeypatch.setattr(TrainingWindows, "batch", noted)
    run("a", "training.steps=10", "training.plain_tail=0.3")
    assert plain == [False] * 7 + [True] * 3


def test_the_seed_decides_everything(run: Run) -> None:
    one, again, other = run("one"), run("again"), run("other", "training.seed=1")
    assert one.losses == again.losses and one.files == again.files
    assert one.losses != other.losses


VARIANTS = {
    "muon": ["training.dropout=0.2", "training.checkpoint_every=4"],
    "adamw": ["optimizer.kind=adamw", "training.dropout=0.2"],
    "decaying": ["optimizer.weight_decay=0.1", "training.gradient_clip=none", "training.patience=2"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(run: Run, variant: str) -> None:
    overrides = VARIANTS[variant]
    whole = run("whole", *overrides)
    for steps in range(1, 10):
        name = f"stopped-{steps}"
        stopped = run(name, *overrides, stop=stop_after(steps))
        assert stopped.finished == (steps, "interrupted")
        assert stopped.files != whole.files or steps == 9
        torch.manual_seed(steps)  # whatever happened in between
        resumed = run(name, *overrides, resume=True)
        assert resumed.of(Started)[0].step == steps
        assert {**stopped.losses, **resumed.losses} == whole.losses
        assert resumed.files == whole.files
        assert resumed.progress == whole.progress
        told = [[(e.step, e.bits_per_character, e.best) for e in result.of(Evaluated)] for result in (stopped, resumed)]
        assert told[0] + told[1] == [(e.step, e.bits_per_character, e.best) for e in whole.of(Evaluated)]


def test_a_run_may_be_interrupted_at_every_step(run: Run) -> None:
    whole = run("whole", "training.dropout=0.1")
    for life in range(9):
        result = run("often", "training.dropout=0.1", resume=life > 0, stop=lambda: True)
        assert len(result.of(StepDone)) == 1
    assert result.files == whole.files
    assert result.best == whole.best


def test_the_newest_checkpoint_is_the_one_of_checkpoint_every(run: Run, corpus: PreparedCorpus, tmp_path: Path) -> None:
    folder, overrides = RunFolder(tmp_path / "killed"), ["training.checkpoint_every=2", "training.evaluations=1"]
    events = train(config_of(*overrides), corpus, folder, evaluate=mean_weight)
    for event in events:
        if isinstance(event, StepDone) and event.step == 5:
            break  # as kill -9 would: the loop never comes back
    events.close()  # type: ignore[attr-defined]
    resumed = run("killed", *overrides, resume=True)
    assert [event.step for event in resumed.of(Started)] == [4]
    assert resumed.files == run("whole", *overrides).files


def test_the_best_checkpoint_outlives_worse_scores(run: Run) -> None:
    result = run("a", "training.evaluations=3", evaluate=scores([3.0, 2.0, 2.5]))
    best, last = load_checkpoint(result.folder.best), load_checkpoint(result.folder.last)
    assert (best.info["training"]["step"], last.info["training"]["step"]) == (6, 9)
    assert best.info["training"]["validation_bits_per_character"] == 2.0
    assert not (result.folder.best / "training").exists()
    assert any((a != b).any() for a, b in zip(best.model.parameters(), last.model.parameters(), strict=True))


def test_a_checkpoint_says_where_it_comes_from(run: Run, corpus: PreparedCorpus) -> None:
    info = load_checkpoint(run("a").folder.last).info
    assert info["corpus"]["hash"] == corpus.manifest.corpus_hash
    assert build_settings(RunConfig, info["settings"]) == config_of()
    assert (info["training"]["tokens"], info["training"]["total_steps"]) == (9 * 192, 9)
    assert (info["training"]["device"], info["training"]["precision"]) == ("cpu", "float32")


def test_a_run_from_other_weights_keeps_what_they_went_through(run: Run, corpus: PreparedCorpus) -> None:
    first = load_checkpoint(run("first").folder.best)
    assert "trained_before" not in first.info
    second = load_checkpoint(run("second", start_from=first, stop=stop_after(4)).folder.last)
    expected = [{**first.info["training"], "corpus_hash": corpus.manifest.corpus_hash}]
    assert second.info["trained_before"] == expected and second.info["training"]["step"] == 4
    second = load_checkpoint(run("second", resume=True).folder.last)
    assert second.info["trained_before"] == expected and second.info["training"]["step"] == 9
    third = load_checkpoint(run("third", start_from=second).folder.last).info["trained_before"]
    assert third[:1] == expected and [before["step"] for before in third[1:]] == [9]


def test_curve_survives_resuming(run: Run) -> None:
    run("a", "training.evaluations=3", evaluate=scores([5.0]), stop=stop_after(4))
    result = run("a", "training.evaluations=3", evaluate=scores([4.0, 4.5]), resume=True)
    training = load_checkpoint(result.folder.last).info["training"]
    assert training["curve"] == [[3, 5.0], [6, 4.0], [9, 4.5]]
    assert load_checkpoint(result.folder.best).info["training"]["curve"] == [[3, 5.0], [6, 4.0]]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_patience_ends_a_run_that_gets_no_better(run: Run, after: int) -> None:
    overrides = ["training.evaluations=9", f"training.patience={after}"]
    result = run("a", *overrides, evaluate=scores([3.0, 2.0, 2.0, 2.1, 2.2, 2.3]))
    assert result.finished == (2 + after, "no progress")
    assert load_checkpoint(result.folder.best).info["training"]["step"] == 2
    again = run("a", *overrides, resume=True)
    assert again.of(StepDone) == [] and again.finished == result.finished


def test_a_better_score_gives_patience_back(run: Run) -> None:
    falling = scores([3.0, 3.1, 2.0, 2.1, 1.0, 1.1, 0.5, 0.6, 0.4])
    result = run("a", "training.evaluations=9", "training.patience=2", evaluate=falling)
    assert result.finished == (9, "complete")


def test_patience_is_kept_when_a_run_goes_on(run: Run) -> None:
    overrides = ["training.evaluations=9", "training.patience=2"]
    run("a", *overrides, evaluate=scores([1.0, 2.0]), stop=stop_after(2))
    result = run("a", *overrides, evaluate=scores([2.0]), resume=True)
    assert result.finished == (3, "no progress")


@dataclass
class Clock:
    """A clock that stands still between steps."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    """``clock(seconds, then, change)``: from now on a step takes so long, the first two ten times that.

    From ``change`` seconds of the run on a step takes ``then`` seconds.
    """
    launch = Steps.launch

    def ticking(seconds: float, then: float = 0.0, change: float = float("inf")) -> Clock:
        clock = Clock()

        def slow(self: Any, step: int) -> Any:
            clock.now += seconds * (10 if step < 2 else 1) if self.progress.seconds < change else then
            return launch(self, step)

        monkeypatch.setattr(Steps, "launch", slow)
        for each in (module, steps_module):
            monkeypatch.setattr(each, "time", clock)
        return clock

    return ticking


def test_minutes_become_steps(run: Run, clock: Callable[..., Clock], corpus: PreparedCorpus) -> None:
    overrides = ["training.steps=none", "training.minutes=1", "training.evaluations=1"]
    clock(1.0)
    whole = run("whole", *overrides)
    (note,) = whole.of(Noted)
    total = whole.progress["total_steps"]
    assert note.message == f"1 minutes are {total} steps at this speed"
    counts = corpus.manifest.splits["validation"]
    scoring = (counts.body_tokens + counts.header_tokens) * 1.3 / 192 / 3
    assert total == 8 + int(60 - 26 - scoring)
    assert whole.finished == (total, "complete")
    assert 60 - scoring - 1 <= whole.of(Finished)[0].seconds <= 60
    assert [event.total_steps for event in whole.of(StepDone)] == [None] * 8 + [total] * (total - 8)
    stopped = run("stopped", *overrides, stop=stop_after(11))
    assert stopped.progress["total_steps"] == total
    resumed = run("stopped", *overrides, resume=True)
    assert resumed.of(Started)[0].total_steps == total and not resumed.of(Noted)
    assert {**stopped.losses, **resumed.losses} == whole.losses and resumed.files == whole.files


@pytest.mark.parametrize("change", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("then", [4.0, 0.25])
def test_minutes_are_kept_when_the_speed_changes_fourfold(
    run: Run, clock: Callable[..., Clock], then: float, change: float
) -> None:
    clock(1.0, then, change * 240)
    result = run("a", "training.steps=none", "training.minutes=4", "training.evaluations=5")
    assert result.finished[1] == "complete"
    assert 240 * 0.9 <= result.of(Finished)[0].seconds <= 240 * 1.1
    rates = [event.learning_rate for event in result.of(StepDone)]
    assert rates[2:] == sorted(rates[2:], reverse=True), "it never rises again"
    assert rates[-1] < 0.1 * max(rates), "it still falls to zero"
    evaluated = [event.step for event in result.of(Evaluated)]
    assert evaluated[-1] == result.finished[0] and 2 <= len(evaluated) <= 5


def test_a_resumed_run_keeps_the_plan(run: Run, clock: Callable[..., Clock]) -> None:
    overrides = ["training.steps=none", "training.minutes=4", "training.evaluations=2", "training.dropout=0.1"]
    clock(1.0, 4.0, 120)
    whole = run("whole", *overrides)
    at = whole.progress["planned_at"]
    assert 100 < at < whole.finished[0] - 10, "planned anew once, midway"
    stopped = run("stopped", *overrides, stop=stop_after(at + 5))
    assert stopped.progress["total_steps"] == whole.progress["total_steps"]
    resumed = run("stopped", *overrides, resume=True)
    assert not resumed.of(Noted) and resumed.progress == whole.progress
    assert {**stopped.losses, **resumed.losses} == whole.losses and resumed.files == whole.files


def test_a_budget_too_short_for_its_first_steps_still_ends(run: Run, clock: Callable[[float], Clock]) -> None:
    clock(100.0)
    result = run("a", "training.steps=none", "training.minutes=0.1")
    assert result.finished == (9, "complete") and result.of(Evaluated)


def test_epochs_become_steps(run: Run, corpus: PreparedCorpus) -> None:
    result = run("a", "training.steps=none", "training.epochs=0.5")
    assert result.of(Started)[0].total_steps == round(0.5 * result.of(Started)[0].windows_per_epoch / 4)
    assert {event.epoch for event in result.of(StepDone)} == {0}
    assert {event.epoch for event in run("b", "training.steps=none", "training.epochs=1.5").of(StepDone)} == {0, 1}


def test_a_run_must_say_how_long(run: Run) -> None:
    with pytest.raises(TrainingError, match=r"^say how long to train: minutes=30, steps=1000 or epochs=4$"):
        run("a", "training.steps=none")


def a_loss_that_fails(monkeypatch: pytest.MonkeyPatch, *, at: set[int]) -> None:
    """From now on the loss of these calls, counted from 0, is not a number."""
    calls, loss = itertools.count(), GPT.loss

    def failing(self: GPT, *inputs: Tensor) -> Tensor:
        return loss(self, *inputs) * (float("nan") if next(calls) in at else 1.0)

    monkeypatch.setattr(GPT, "loss", failing)


def test_a_step_whose_loss_is_no_number_is_skipped_and_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole", "schedule.warmup_steps=0", "schedule.decay=0")
    a_loss_that_fails(monkeypatch, at={2, 5})
    result = run("a", "schedule.warmup_steps=0", "schedule.decay=0")
    assert [(event.step, event.total) for event in result.of(Skipped)] == [(2, 1), (5, 2)]
    assert list(result.losses) == [0, 1, 3, 4, 6, 7, 8] and result.finished == (9, "complete")
    assert result.losses[1] == whole.losses[1] and result.losses[3] != whole.losses[3]
    assert (result.progress["skipped"], result.progress["skipped_in_a_row"]) == (2, 0)
    assert all(weight.isfinite().all() for weight in load_checkpoint(result.folder.last).model.parameters())


def test_too_many_skipped_steps_end_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SKIPPED", 3)
    good = run("good", stop=stop_after(4))
    a_loss_that_fails(monkeypatch, at={4, 5, 6})
    words = (
        r"the loss was NaN or infinite in 3 steps in a row, the last of them step 6 \(nan\); the weights before them are saved "
        r"in (.*last): lower optimizer\.learning_rate \(it is 0\.02\) and train with from_=\1, or from the beginning"
    )
    with pytest.raises(TrainingError, match=f"^{words}$"):
        run("a")
    folder = RunFolder(good.folder.path.parent / "a")
    assert (folder.last / "model.safetensors").read_bytes() == (good.folder.last / "model.safetensors").read_bytes()


def test_but_compiled_code_is_given_up_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers err, and a run need not end for it (GCC 12 once made a gradient NaN)."""
    monkeypatch.setattr(module, "MOST_SKIPPED", 3)

    class Miscompiled(CompiledLoss):
        def __call__(self, ids_BT: Tensor, targets_BT: Tensor, starts_BT: Tensor | None = None) -> Tensor:
            return super().__call__(ids_BT, targets_BT, starts_BT) * float("nan")

    monkeypatch.setattr(steps_module, "CompiledLoss", Miscompiled)
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    result = run("a", "training.compile=on")
    (note,) = result.of(Noted)
    assert note.message == (
        "the loss was NaN or infinite in 3 steps in a row: continuing without compiled code, in case the fault is the compiler's"
    )
    assert list(result.losses) == [3, 4, 5, 6, 7, 8] and result.finished == (9, "complete")
    assert (result.progress["compiled"], result.progress["skipped"]) == (False, 3)


class _Failing(torch.autograd.Function):
    """A loss whose backward is compiled late, and in vain."""

    @staticmethod
    def forward(_: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("lib.so: file too short")


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("at", [0, 5])
def test_compiling_may_fail_at_any_time(run: Run, monkeypatch: pytest.MonkeyPatch, where: str, at: int) -> None:
    overrides = ["training.dropout=0.2", "training.compile=on"]
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    whole = run("whole", *overrides)
    calls = itertools.count()

    class Broken(CompiledLoss):
        def __call__(self, ids_BT: Tensor, targets_BT: Tensor, starts_BT: Tensor | None = None) -> Tensor:
            loss = super().__call__(ids_BT, targets_BT, starts_BT)
            if next(calls) < at:
                return loss
            if where == "forward":
                raise OSError("lib.so: file too short")
            failing: Tensor = _Failing.apply(loss)
            return failing

    monkeypatch.setattr(steps_module, "CompiledLoss", Broken)
    result = run("a", *overrides)
    assert [event.message for event in result.of(Noted)] == [
        "compiling failed, so this training runs without compiled code: lib.so: file too short"
    ]
    assert next(calls) == at + 1 and not result.progress["compiled"]
    assert result.losses == whole.losses and result.files[0] == whole.files[0], "the step is taken again as it was"


def test_an_error_that_is_not_the_compiler_s_is_raised(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: GPT, *inputs: Tensor) -> Tensor:
        raise ValueError("a bug")

    monkeypatch.setattr(GPT, "loss", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("a")


def test_a_rate_far_too_high_is_found_out(run: Run) -> None:
    with pytest.raises(TrainingError, match=r"the loss was NaN or infinite in 10 steps in a row"):
        run("a", "optimizer.kind=adamw", "optimizer.learning_rate=1e30", "training.steps=50")


def test_a_batch_that_memory_cannot_hold_is_halved_and_it_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole")
    loss = GPT.loss

    def narrow(self: GPT, *inputs: Tensor) -> Tensor:
        if len(inputs[0]) > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory")
        return loss(self, *inputs)

    monkeypatch.setattr(GPT, "loss", narrow)
    result = run("a")
    assert list(result.losses.values()) == pytest.approx(list(whole.losses.values()), rel=1e-5)
    assert [event.message for event in result.of(Noted)] == [
        "4 windows at once do not fit into memory: each step takes them in 4 parts and adds their gradients up"
    ]
    assert result.progress["parts"] == 4


def test_gradients_in_parts_are_kept_when_a_run_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "parts_for", lambda *_: 2)
    whole = run("whole")
    run("a", stop=stop_after(3))
    monkeypatch.setattr(steps_module, "parts_for", lambda *_: 1)  # more memory now
    assert run("a", resume=True).files == whole.files


def test_more_workers_than_windows_is_said(run: Run) -> None:
    words = "5 workers share a batch of 4 windows; start fewer, or raise training.tokens_per_step to 240 or more"
    with pytest.raises(TrainingError, match=f"^{words}$"):
        run("a", workers=Workers(0, 5))


def test_the_wall_clock_may_jump(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole")
    jumps = itertools.cycle([2e9, 0.0, 1.7e9])
    monkeypatch.setattr("time.time", lambda: next(jumps))
    result = run("a")
    assert result.files == whole.files
    assert all(0 <= event.seconds < 60 for event in result.of(StepDone))


def test_gradients_are_clipped_only_where_asked(run: Run) -> None:
    overrides = ["optimizer.kind=adamw", "training.steps=3"]
    free, tight = (run(str(clip), *overrides, f"training.gradient_clip={clip}") for clip in ("none", 1e-9))
    assert free.of(StepDone)[0].gradient_norm == tight.of(StepDone)[0].gradient_norm > 1e-3
    assert free.losses[2] != tight.losses[2]


def test_dropout_is_for_training_only(run: Run) -> None:
    wet, dry = run("wet", "training.dropout=0.5"), run("dry")
    assert wet.losses != dry.losses
    seen: list[tuple[bool, float]] = []

    def evaluate(model: GPT) -> float:
        with torch.no_grad():
            ids = torch.arange(8)[None]
            model.eval()
            seen.append((bool((model(ids) == model(ids)).all()), model.dropout))
        return 1.0

    result = run("a", "training.dropout=0.5", evaluate=evaluate)
    assert seen == [(True, 0.5)] * 2
    assert result.losses == wet.losses, "scoring leaves the model in training mode's hands"


def test_fine_tuning_starts_where_another_run_ended(run: Run, corpus: PreparedCorpus) -> None:
    first = run("first", "training.steps=60", "optimizer.learning_rate=0.02")
    start = load_checkpoint(first.folder.last)
    expected = loss_of(start.model, corpus, rows=4)
    assert expected < run("fresh", "training.steps=1").losses[0] - 0.5
    tuned = run("tuned", "training.steps=4", start_from=start)
    assert (tuned.of(Started)[0].step, *tuned.finished) == (0, 4, "complete")
    assert tuned.losses[0] == pytest.approx(expected, rel=1e-6)
    assert tuned.files[0] != first.files[0]
    stopped = run("stopped", "training.steps=4", start_from=load_checkpoint(first.folder.last), stop=stop_after(2))
    assert run(stopped.folder.path.name, "training.steps=4", resume=True).files == tuned.files


def test_there_must_be_something_to_resume(run: Run) -> None:
    with pytest.raises(CheckpointError, match=r"there is no model .*last"):
        run("nothing", resume=True)
    published = run("published")
    (published.folder.last / "training/progress.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"last holds nothing to resume from; leave resume=True out, or train with from_=.*last"
    ):
        run("published", resume=True)


def test_a_run_goes_on_with_the_text_it_began_with(run: Run, tmp_path: Path) -> None:
    stopped = run("a", stop=stop_after(2))
    before = stopped.files
    other = config_of("split.seed=2")
    prepare(other, tmp_path / "plots.csv", tmp_path / "other")
    with pytest.raises(TrainingError, match=r"began on another corpus than .*other .*out=FOLDER"):
        list(
            train(
                config_of(), PreparedCorpus.load(tmp_path / "other"), stopped.folder, evaluate=mean_weight, resume=True
            )
        )
    assert stopped.files == before


def test_another_number_of_threads_is_said(run: Run) -> None:
    stopped = run("a", stop=stop_after(2))
    path = stopped.folder.last / "training/progress.json"
    progress = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**progress, "threads": 77}), encoding="utf-8")
    (note,) = run("a", resume=True).of(Noted)
    assert note.message.startswith(
        f"the run began with 77 threads and continues with {torch.get_num_threads()} threads: "
    )


def test_another_precision_has_to_be_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun on a machine with bfloat16 units, resumed on one without."""
    monkeypatch.setattr("movieplotgpt.model.hardware.cpu_info", lambda: {"flags": "amx_bf16"})
    stopped = run("a", "training.precision=auto", stop=stop_after(2))
    before = stopped.files
    monkeypatch.setattr("movieplotgpt.model.hardware.cpu_info", dict)
    with pytest.raises(TrainingError) as refused:
        run("a", "training.precision=auto", resume=True)
    assert str(refused.value) == (
        f"the run in {stopped.folder.path} was trained in bfloat16 so far, and here it would continue in float32; keep it with "
        "training.precision=bfloat16, or change it with training.precision=float32"
    )
    assert run("a", "training.precision=bfloat16", resume=True, stop=stop_after(3)).of(Noted) == []
    assert stopped.files != before
    (note,) = run("a", "training.precision=float32", resume=True, stop=stop_after(4)).of(Noted)
    assert note.message == "the run began in bfloat16 and continues in float32, as asked: its numbers are of both"
    assert not run("a", "training.precision=float32", resume=True).of(Noted)


def test_another_device_is_said(run: Run) -> None:
    about = run("a", stop=stop_after(2)).folder.last / "movieplotgpt.json"
    about.write_text(about.read_text("utf-8").replace('"device": "cpu"', '"device": "Colossus"'), encoding="utf-8")
    (note,) = run("a", resume=True).of(Noted)
    assert note.message.startswith("the run began on Colossus and continues on cpu: ")


class BrokenError(Exception):
    """Stands for whatever may happen while scoring: a kill, no memory, a bug."""


@pytest.mark.parametrize("at", [1, 2])
def test_an_evaluation_that_fails_loses_nothing(run: Run, at: int) -> None:
    whole = run("whole")
    told = iter(range(1, 9))

    def evaluate(model: GPT) -> float:
        if next(told) == at:
            raise BrokenError
        return mean_weight(model)

    with pytest.raises(BrokenError):
        run("a", evaluate=evaluate)
    resumed = run("a", resume=True)
    due = [4, 9][at - 1]
    assert resumed.of(Started)[0].step == due, "saved before it was scored"
    assert [event.step for event in resumed.of(Evaluated)] == [4, 9][at - 1 :], "and scored when it goes on"
    assert resumed.files == whole.files and resumed.progress == whole.progress
    assert resumed.best == whole.best


def test_a_complete_run_has_nothing_left_to_do(run: Run) -> None:
    before = run("a").files
    again = run("a", resume=True)
    assert [type(event) for event in again.events] == [Started, Finished]
    assert again.finished == (9, "complete") and again.files == before


def test_too_little_text_is_said(corpus: PreparedCorpus) -> None:
    counts = corpus.manifest.splits["train"]
    tokens = counts.body_tokens + counts.header_tokens
    assert too_small(corpus, tokens) is None
    assert too_small(corpus, tokens + 1) == (
        f"the training text has {tokens:,} tokens and a window {tokens + 1:,}; "
        "give more text or a shorter model.context_length"
    )


@pytest.mark.slow
def test_a_compiled_run_resumes_bit_for_bit(run: Run) -> None:
    overrides = ["training.compile=on", "training.dropout=0.1", "training.steps=4", "training.evaluations=1"]
    whole = run("whole", *overrides)
    run("stopped", *overrides, stop=stop_after(2))
    resumed = run("stopped", *overrides, resume=True)
    assert resumed.files == whole.files
    eager = run("eager", *overrides[1:])
    assert whole.losses[0] == pytest.approx(eager.losses[0], rel=1e-3)


class FakeChoice:
    """Hardware with the compiler there or not."""

    compiler = False

    def __call__(self, settings: object) -> Hardware:
        return Hardware(torch.device("cpu"), torch.float32, self.compiler, ())


def test_a_run_keeps_the_compile_mode_it_chose(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []

    def fake(loss: Callable[[Tensor, Tensor], Tensor], dynamic: bool) -> Callable[[Tensor, Tensor], Tensor]:
        compiled.append(True)
        return loss

    monkeypatch.setattr(torch, "compile", fake)
    monkeypatch.setattr(steps_module, "choose_hardware", choose := FakeChoice())
    run("a", "training.compile=auto", stop=stop_after(2))
    choose.compiler = True  # a compiler has been installed meanwhile
    run("a", "training.compile=auto", resume=True)
    assert compiled == []


class Unheard(Workers):
    """One of several workers, whose companions send zeros."""

    def sum(self, *values: float) -> list[float]:
        return list(values)

    def sum_gradients(self, weights: Iterable[Tensor], loss: Tensor) -> Tensor:
        return loss


def test_dropout_differs_by_seed_step_and_worker(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, states = GPT.loss, list[bytes]()

    def noted(self: GPT, *inputs: Tensor) -> Tensor:
        states.append(torch.get_rng_state().numpy().tobytes())
        return loss(self, *inputs)

    def states_of(name: str, *overrides: str, **arguments: Any) -> list[bytes]:
        """The state of the generator that dropout draws from, at the start of each step."""
        states.clear()
        run(name, "training.dropout=0.2", "training.steps=4", *overrides, **arguments)
        return [*states]

    monkeypatch.setattr(GPT, "loss", noted)
    first = states_of("first")
    assert states_of("again") == first
    others = [states_of("second worker", workers=Unheard(1, 2)), states_of("another seed", "training.seed=7")]
    drawn = [*first, *(state for other in others for state in other)]
    assert len(drawn) == len(set(drawn)) == 12

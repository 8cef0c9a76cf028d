"""What is kept and shown of a run: the metrics, the samples, the console's words, TensorBoard, the loss figure."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from movieplotgpt.errors import MissingExtraError, StorageError
from movieplotgpt.model.hardware import Hardware
from movieplotgpt.training import monitors as module
from movieplotgpt.training.events import Evaluated, Event, Finished, Noted, Sampled, Saved, Started, StepDone
from movieplotgpt.training.monitors import (
    ConsoleProgress,
    MetricsFile,
    SamplesFile,
    TensorBoard,
    draw_loss,
    notify,
    read_metrics,
)
from movieplotgpt.training.run import RunFolder

HARDWARE = Hardware(
    torch.device("cpu"), torch.float32, False, ("device cpu: it is [here]", "precision float32: so be it")
)


def step_of(
    step: int, *, total: int | None = 10, loss: float = 1.0, tokens: int = 192, seconds: float = 0.5
) -> StepDone:
    return StepDone(step, total, loss, 0.01, 0.7, tokens, seconds, step // 4)


def events_of(steps: Iterable[int], *, every: int = 5) -> list[Event]:
    """A run's events: after every ``every`` steps it saves, scores and samples."""
    events: list[Event] = [Started(0, 10, 1000, 192, 40, HARDWARE)]
    for step in steps:
        events.append(step_of(step, loss=4 / (step + 1)))
        if (step + 1) % every == 0:
            done = step + 1
            events += [Saved(done, Path("last")), Evaluated(done, 5 / done, True, 0.2), Sampled(done, f"Text {done}.")]
    return events


def told(monitor: Any, events: Iterable[Event]) -> None:
    for event in events:
        monitor(event)


def started(**changes: Any) -> Started:
    return Started(
        **{
            "step": 0,
            "total_steps": 10,
            "parameters": 12_240_000,
            "tokens_per_step": 8192,
            "windows_per_epoch": 40_123,
            "hardware": HARDWARE,
            **changes,
        }
    )


def console_of(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=120), file


def shown(*events: Event, tokens_per_character: float = 0.5, every: float = 0.0) -> list[str]:
    """The lines a console that is no terminal gets."""
    console, file = console_of()
    with ConsoleProgress(console, tokens_per_character, every=every) as progress:
        told(progress, events)
    return file.getvalue().splitlines()


# metrics.jsonl


@pytest.mark.parametrize(
    "line",
    [
        *("[]", "3", "null", "{}", '{"event": []}', '{"event": "step"}', '{"event": "step", "step": "1", "loss": 1.5}'),
        *(
            '{"event": "step", "step": 1}',
            '{"event": "evaluated", "step": 1, "loss": 1.5}',
            "[" * 100_000,
            "9" * 5_000,
            "\ufffd",
        ),
    ],
    ids=range(12),
)
def test_lines_that_are_no_events_end_what_is_read(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    first = {"event": "step", "step": 0, "loss": 2.5}
    path.write_text(f"{json.dumps(first)}\n{line}\n{json.dumps({**first, 'step': 2})}\n", encoding="utf-8")
    assert read_metrics(path) == [first]
    assert read_metrics(MetricsFile(path, resume_at=3).path) == [first]


def test_metrics_file_has_one_json_object_per_event(tmp_path: Path) -> None:
    events = [*events_of(range(10)), Noted("by the way"), Finished(10, "complete", 5.0)]
    told(MetricsFile(tmp_path / "metrics.jsonl"), events)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["event"], line["step"]) for line in lines] == [
        *(("step", step) for step in range(5)),
        ("evaluated", 5),
        *(("step", step) for step in range(5, 10)),
        ("evaluated", 10),
    ]
    assert lines[2] == {
        "event": "step",
        "step": 2,
        "total_steps": 10,
        "loss": 4 / 3,
        "learning_rate": 0.01,
        "gradient_norm": 0.7,
        "tokens": 192,
        "seconds": 0.5,
        "epoch": 0,
    }
    assert lines[5] == {"event": "evaluated", "step": 5, "bits_per_character": 1.0, "best": True, "seconds": 0.2}
    assert lines == read_metrics(tmp_path / "metrics.jsonl")


def test_a_line_is_on_disk_as_soon_as_it_is_told(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(3):
        metrics(step_of(step))
        assert len(read_metrics(metrics.path)) == step + 1


@pytest.mark.parametrize("killed_after", [5, 6, 8, 10])
@pytest.mark.parametrize("resume_at", [1, 3, 5])
def test_a_resumed_file_reads_as_if_never_interrupted(tmp_path: Path, resume_at: int, killed_after: int) -> None:
    told(MetricsFile(tmp_path / "whole.jsonl"), events_of(range(10)))
    told(MetricsFile(tmp_path / "metrics.jsonl"), events_of(range(killed_after)))
    told(MetricsFile(tmp_path / "metrics.jsonl", resume_at=resume_at), events_of(range(resume_at, 10)))
    assert (tmp_path / "metrics.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_evaluation_made_again_after_a_kill_is_kept_once(tmp_path: Path) -> None:
    told(MetricsFile(tmp_path / "metrics.jsonl"), events_of(range(5)))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    resumed = MetricsFile(tmp_path / "metrics.jsonl", resume_at=5)
    resumed(Evaluated(5, 1.0, True, 9.0))
    assert resumed.path.read_bytes() == before
    resumed(Evaluated(10, 0.5, True, 9.0))
    assert [line["step"] for line in read_metrics(resumed.path) if line["event"] == "evaluated"] == [5, 10]


def test_an_evaluation_lost_in_a_kill_is_made_up_for(tmp_path: Path) -> None:
    told(MetricsFile(tmp_path / "metrics.jsonl"), [step_of(step) for step in range(5)])
    resumed = MetricsFile(tmp_path / "metrics.jsonl", resume_at=5)
    resumed(Evaluated(5, 1.0, True, 9.0))
    assert [line["event"] for line in read_metrics(resumed.path)] == ["step"] * 5 + ["evaluated"]


@pytest.mark.parametrize("resume_at", [None, 0])
def test_a_run_from_the_start_leaves_no_line_of_the_one_before(tmp_path: Path, resume_at: int | None) -> None:
    told(MetricsFile(tmp_path / "metrics.jsonl"), events_of(range(5)))
    assert read_metrics(MetricsFile(tmp_path / "metrics.jsonl", resume_at=resume_at).path) == []


def test_a_last_line_cut_short_anywhere_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    told(MetricsFile(path), events_of(range(3)))
    whole, data = read_metrics(path), path.read_bytes()
    start = data.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(start, len(data) - 1):
        path.write_bytes(data[:cut])
        assert read_metrics(path) == whole[:2], data[start:cut]
    path.write_bytes(data[:-1])  # only the line break is missing
    assert read_metrics(path) == whole


def test_resuming_over_a_cut_line_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    told(MetricsFile(path), events_of(range(4)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    told(MetricsFile(path, resume_at=3), [step_of(3, loss=1.0)])
    assert path.read_bytes() == whole


def test_no_file_is_no_metrics(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


# samples.md


def test_samples_are_appended_under_their_step(tmp_path: Path) -> None:
    path = tmp_path / "samples.md"
    told(SamplesFile(path), events_of(range(5)))
    told(SamplesFile(path), [Sampled(10, "Ein Café, spät.")])  # another process, resumed
    assert path.read_text(encoding="utf-8") == "## step 5\n\nText 5.\n\n## step 10\n\nEin Café, spät.\n\n"


def test_a_run_that_writes_nothing_has_no_samples_file(tmp_path: Path) -> None:
    told(SamplesFile(tmp_path / "samples.md"), [step_of(0), Noted("no sample")])
    assert not (tmp_path / "samples.md").exists()


# The console


def test_a_step_is_one_line_of_loss_bits_speed_and_time_left() -> None:
    """Nats per token x tokens per character / ln 2 = bits per character."""
    event = step_of(0, total=1121, loss=3 * math.log(2), tokens=8192, seconds=0.5)
    assert shown(event, tokens_per_character=0.25) == [
        "step 1/1,121  loss 2.079  ~0.750 bits/char  16,384 tokens/s  ETA 9:20"
    ]


@pytest.mark.parametrize(
    ("total", "left"),
    [(1, "0:00"), (8, "0:07"), (61, "1:00"), (3600, "59:59"), (3601, "1:00:00"), (36_063, "10:01:02"), (None, "?")],
)
def test_time_left_in_words(total: int | None, left: str) -> None:
    (line,) = shown(step_of(0, total=total, seconds=1.0))
    assert line.endswith(f"  ETA {left}")
    assert line.startswith(f"step 1/{'?' if total is None else f'{total:,}'}  ")


@pytest.mark.parametrize("first", [0, 1000])
def test_a_first_step_that_compiled_does_not_slow_the_forecast(first: int) -> None:
    """Of a fresh run and of one resumed; from the fourth step on the pace is a mean that moves by a tenth."""
    steps = [step_of(first + i, total=first + 14, tokens=100, seconds=s) for i, s in enumerate([90.0, 60.0, 1.0, 11.0])]
    *_, third, fourth = shown(started(step=first), *steps)
    assert third.endswith("  100 tokens/s  ETA 0:11")
    assert fourth.endswith("  50 tokens/s  ETA 0:20")


def test_lines_come_no_oftener_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    console, file = console_of()
    progress = ConsoleProgress(console, 0.5, every=10.0)
    for step in range(7):
        progress(step_of(step))
        now += 4.0
    assert [line.split("  ")[0] for line in file.getvalue().splitlines()] == ["step 1/10", "step 4/10", "step 7/10"]


def test_the_start_tells_the_hardware_and_the_sizes() -> None:
    assert shown(started()) == [
        *HARDWARE.reasons,
        "12.2 M parameters, 40,123 windows an epoch, 8,192 tokens a step",
    ]
    compiling = Hardware(HARDWARE.device, HARDWARE.dtype, True, ())
    assert "compiling" in shown(started(hardware=compiling))[-1]


def test_evaluations_notes_and_the_end_have_a_line_each() -> None:
    assert shown(
        Evaluated(1500, 1.23456, True, 2.0),
        Evaluated(2000, 1.3, False, 2.0),
        Saved(2000, Path("last")),
        Noted("the budget holds 2,000 steps"),
        Finished(2000, "no progress", 90.0),
    ) == [
        "step 1,500: validation 1.2346 bits per character, the best so far",
        "step 2,000: validation 1.3000 bits per character",
        "the budget holds 2,000 steps",
        "no progress after 2,000 steps, 1.5 minutes",
    ]


@pytest.mark.parametrize("text", ["[red]Ada[/red] [/] finds [it", "He says :heart: and :warning: 1 2 3", "wide " * 50])
def test_what_the_model_writes_is_shown_as_it_is(text: str) -> None:
    assert shown(Sampled(5, f"\n {text.strip()} \n")) == [text.strip()]


def test_a_long_sample_is_shown_by_its_beginning() -> None:
    assert shown(Sampled(5, "ab" * 1000)) == ["ab" * 300]


def test_a_terminal_gets_a_bar_in_place_of_lines() -> None:
    console, file = console_of(terminal=True)
    with ConsoleProgress(console, 0.5, every=0.0) as progress:
        told(progress, [step_of(step, loss=1.25) for step in range(4)])
        progress.bar.refresh()
        assert progress.bar.tasks[0].completed == 4
        assert progress.bar.tasks[0].total == 10
    assert "4/10" in file.getvalue()
    assert "loss 1.250  ~0.902 bits/char  384 tokens/s  ETA 0:03" in file.getvalue()
    assert "step 4/10" not in file.getvalue()


def test_the_bar_is_taken_down_when_training_fails() -> None:
    console, _ = console_of(terminal=True)
    with pytest.raises(KeyError), ConsoleProgress(console, 0.5) as progress:
        assert progress.bar.live.is_started
        raise KeyError
    assert not progress.bar.live.is_started


# The loss figure


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_the_figure_is_an_svg_of_both_curves(folder: RunFolder) -> None:
    pytest.importorskip("matplotlib")
    told(MetricsFile(folder.metrics), events_of(range(10)))
    assert draw_loss(folder, 0.5) == folder.figure
    drawn = folder.figure.read_text(encoding="utf-8")
    assert "<svg" in drawn
    assert all(f"<!-- {label}" in drawn for label in ("training", "validation", "bits per character", "step"))


def test_the_same_run_draws_the_same_bytes(folder: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    other = RunFolder(tmp_path / "other")
    drawn = []
    for place, steps in ((folder, 10), (other, 7), (other, 10)):
        place.path.mkdir(exist_ok=True)
        told(MetricsFile(place.metrics), events_of(range(steps)))
        drawn.append(draw_loss(place, 0.5).read_bytes())
    assert drawn[0] == drawn[2] != drawn[1]
    assert draw_loss(folder, 0.7).read_bytes() != drawn[0]


@pytest.mark.parametrize("events", [[], [step_of(0)], [Evaluated(5, 1.0, True, 0.1)]])
def test_a_run_hardly_begun_can_be_drawn(
    folder: RunFolder, events: list[Event], recwarn: pytest.WarningsRecorder
) -> None:
    pytest.importorskip("matplotlib")
    told(MetricsFile(folder.metrics), events)
    assert draw_loss(folder, 0.5).stat().st_size > 0
    assert [str(warning.message) for warning in recwarn] == []


# Extras


def test_without_matplotlib_the_figure_names_its_extra(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*pip install 'movieplotgpt\[plots\]'"):
        draw_loss(folder, 0.5)
    assert not folder.figure.exists()


def test_without_tensorboard_it_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"tensorboard.*pip install 'movieplotgpt\[track\]'"):
        TensorBoard(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tensorboard_reads_back_what_was_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told(TensorBoard(tmp_path), [*events_of(range(10)), Finished(10, "complete", 5.0)])
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    scalars: dict[str, Any] = {
        tag: [(point.step, pytest.approx(point.value)) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]
    }
    assert scalars == {
        "loss/train, nats per token": [(step, 4 / (step + 1)) for step in range(10)],
        "learning rate": [(step, 0.01) for step in range(10)],
        "bits per character/validation": [(5, 1.0), (10, 0.5)],
    }


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), StorageError("no space left")])
def test_a_monitor_whose_write_fails_is_dropped_and_the_others_go_on(error: Exception) -> None:
    seen: list[str] = []

    def failing(_: Event) -> None:
        seen.append("failing")
        raise error

    monitors = [failing, lambda _: seen.append("working")]
    said = [reason for event in events_of(range(2)) for reason in notify(monitors, event)]
    assert seen == ["failing", "working", "working", "working"]
    assert said == [f"function failed and is not written any more: {error}"]


def test_a_fault_of_ours_in_a_monitor_is_raised() -> None:
    def faulty(_: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(notify([faulty], step_of(0)))

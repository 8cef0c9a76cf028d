"""Progress goes to stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from movieplotgpt import progress_bars
from movieplotgpt.progress_bars import PLAIN_EVERY, progress_bar, stage_bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_bars, "time", clock)
    return clock


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Stderr as a terminal; not a fixture, for pytest sets stderr anew before the test itself."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_stage_that_ends_at_once_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with stage_bars() as show:
        for done in range(11):
            show("read", done, 10)
            clock.now += PLAIN_EVERY / 20
    assert capsys.readouterr() == ("", "")


def test_a_long_stage_says_its_share_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with stage_bars() as show:
        for done in range(101):
            show("encode", done, 100)
            clock.now += PLAIN_EVERY / 40
    assert capsys.readouterr() == ("", "encode: 40 %\nencode: 80 %\n")


def test_each_stage_has_a_time_of_its_own(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with stage_bars() as show:
        show("read", 0, 4)
        clock.now += PLAIN_EVERY
        show("encode", 0, 4)
        show("read", 1, 4)
        clock.now += PLAIN_EVERY
        show("encode", 3, 4)
    assert capsys.readouterr().err == "read: 25 %\nencode: 75 %\n"


def test_a_total_of_nothing_is_no_error(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("office") as show:
        show(0, 0)
        clock.now += 2 * PLAIN_EVERY
        show(0, 0)
    assert capsys.readouterr() == ("", "office: 0 %\n")


def test_a_terminal_sees_a_bar_for_each_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = a_terminal(monkeypatch)
    with stage_bars() as show:
        for stage in ("read", "train tokenizer"):
            show(stage, 0, 2)
            show(stage, 2, 2)
    seen = terminal.getvalue()
    assert "read" in seen and "train tokenizer" in seen and "━" in seen
    assert "\n" in seen and capsys.readouterr().out == ""


def test_a_bar_is_closed_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    with pytest.raises(ValueError, match="broken"), progress_bar("office") as show:
        show(1, 2)
        raise ValueError("broken")
    shown, hidden = (terminal.getvalue().count(f"\x1b[?25{letter}") for letter in "hl")
    assert shown == hidden > 0, "the cursor is shown again"

"""Signals ask a command to stop; none is lost, none is heeded that was ignored, and no handler fails."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from movieplotgpt.cli.compare import compare
from movieplotgpt.errors import MoviePlotGPTError
from movieplotgpt.signals import handle_signals, interrupt_once, stop_on_signal

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else ()


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in ALL}
    for number in ALL:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ignored", ALL)
def test_what_is_ignored_stays_ignored(ignored: signal.Signals) -> None:
    signal.signal(ignored, signal.SIG_IGN)
    handle_signals(("SIGINT", "SIGTERM", "SIGHUP", "SIGOFANOTHERSYSTEM"), signal.default_int_handler)
    for number in ALL:
        expected = signal.SIG_IGN if number == ignored else signal.default_int_handler
        assert signal.getsignal(number) is expected


def test_a_training_under_nohup_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = stop_on_signal("stopping")
    signal.raise_signal(signal.SIGHUP)
    assert not stop()
    signal.raise_signal(signal.SIGTERM)
    assert stop()


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_only_a_second_ctrl_c_stops_at_once(
    first: signal.Signals, second: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal that closes may send SIGHUP twice; `compare` sends SIGTERM to runs that a Ctrl-C has reached."""
    stop = stop_on_signal("stopping")
    signal.raise_signal(first)
    with pytest.raises(KeyboardInterrupt) if first == second == signal.SIGINT else nullcontext():
        signal.raise_signal(second)
    assert stop()
    assert capsys.readouterr().err == "stopping\n"


class Gone:
    """A stream whose terminal was closed."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, _: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "gone"), RuntimeError("reentrant call"), ValueError("closed")])
def test_a_handler_that_cannot_print_raises_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = stop_on_signal("stopping")
    monkeypatch.setattr(sys, "stderr", Gone(error))
    signal.raise_signal(signal.SIGHUP)
    assert stop()


def test_a_comparison_is_interrupted_once() -> None:
    interrupt_once()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)


def test_a_comparison_under_nohup_outlives_its_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs, which are processes, inherit what is ignored."""
    seen: list[object] = []

    def running(*_: object, **__: object) -> list[str]:
        seen.extend(map(signal.getsignal, (signal.SIGHUP, signal.SIGTERM)))
        raise MoviePlotGPTError("enough")

    class Prepared:
        def prepare(self, *_: object) -> None:
            pass

    monkeypatch.setattr("movieplotgpt.study.grid.Study.read", lambda *_: Prepared())
    monkeypatch.setattr("movieplotgpt.study.running.run_study", running)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with pytest.raises(MoviePlotGPTError, match="enough"):
        compare(tmp_path / "study.toml", out=tmp_path)
    assert seen[0] is signal.SIG_IGN and seen[1] is not signal.SIG_DFL

"""A signal that was ignored when the command was started stays ignored."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from movieplotgpt.cli.compare import compare
from movieplotgpt.cli.signals import handle_signals
from movieplotgpt.cli.train import _stop_on_signal
from movieplotgpt.errors import MoviePlotGPTError

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
    stop = _stop_on_signal()
    signal.raise_signal(signal.SIGHUP)
    assert not stop()
    signal.raise_signal(signal.SIGTERM)
    assert stop()


def test_so_does_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert seen == [signal.SIG_IGN, signal.default_int_handler]

"""Signals that end a command: handled, except where whoever started the process chose to ignore them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


def handle_signals(names: tuple[str, ...], handler: Handler) -> None:
    """Install ``handler`` for the signals of these names that this system has.

    A signal that is ignored stays ignored: ``nohup`` ignores SIGHUP so that a command outlives its terminal.
    """
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def stop_on_signal(message: str) -> Callable[[], bool]:
    """Return a function that is true once Ctrl-C, SIGTERM or a closed terminal has asked this process to stop.

    Only a second Ctrl-C raises KeyboardInterrupt. The others may come several times: a terminal that closes sends SIGHUP
    itself and through its shell, and a command that is interrupted along with the processes it started ends those as well.
    """
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        again = number == signal.SIGINT and number in asked
        asked.append(number)
        if again:
            raise KeyboardInterrupt
        if len(asked) == 1:
            with suppress(OSError, RuntimeError, ValueError):  # RuntimeError: stderr was just being written to
                print(message, file=sys.stderr, flush=True)

    handle_signals(("SIGINT", "SIGTERM", "SIGHUP"), ask)
    return lambda: bool(asked)


def interrupt_once() -> None:
    """Let the first SIGTERM or SIGHUP raise KeyboardInterrupt, as Ctrl-C does; later ones change nothing."""
    interrupted: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        interrupted.append(number)
        if len(interrupted) == 1:
            raise KeyboardInterrupt

    handle_signals(("SIGTERM", "SIGHUP"), interrupt)

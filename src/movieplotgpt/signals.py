"""Signals that end a command: handled, except where whoever started the process chose to ignore them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
                sys.stderr.write(f"{message}\n")
                sys.stderr.flush()

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


@contextmanager
def stop_on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C call ``stop``, and the second raise KeyboardInterrupt.

    Nothing changes outside the main thread, or where the process handles Ctrl-C itself.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

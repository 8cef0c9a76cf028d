"""Signals that end a command: handled, except where whoever started the process chose to ignore them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


def handle_signals(names: tuple[str, ...], handler: Callable[[int, FrameType | None], object]) -> None:
    """Install ``handler`` for the signals of these names that this system has.

    A signal that is ignored stays ignored: ``nohup`` ignores SIGHUP so that a command outlives its terminal.
    """
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)

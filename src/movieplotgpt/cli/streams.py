"""The standard streams: no character of the product is lost, and messages never stop the work."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def open_streams() -> None:
    r"""Replace closed streams, and make files and pipes UTF-8.

    A terminal keeps its encoding. A character that a stream cannot encode is written as an escape (``\u2019``). What stderr
    cannot take, because its terminal was closed or its disk is full, is dropped.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`: what is printed goes nowhere
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="strict" if stream is sys.stdin else "backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and isinstance(_raw(sys.stderr), io.FileIO):
        raw = _BestEffort(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True
        )


def _raw(stream: io.TextIOWrapper) -> object:
    """Return the raw stream below a buffer; PYTHONUNBUFFERED leaves the buffer out."""
    return getattr(stream.buffer, "raw", stream.buffer)


class _BestEffort(io.FileIO):
    """A file whose failed writes count as done."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes

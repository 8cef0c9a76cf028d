"""The standard streams: no character of a text is lost, whatever the locale and wherever they lead."""

from __future__ import annotations

import io
import os
import sys


def open_streams() -> None:
    r"""Replace closed streams, and make files and pipes UTF-8.

    A terminal keeps its encoding. A character that a stream cannot encode is written as an escape (``\u2019``).
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`: what is printed goes nowhere
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="strict" if stream is sys.stdin else "backslashreplace")

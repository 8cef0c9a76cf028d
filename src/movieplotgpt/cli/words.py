"""Arguments of the Python API, as errors name them, in the words of the command line."""

from __future__ import annotations

import ast
import re
import shlex

NAMES = "|".join(
    """add context_length data documents end epochs from_ header judge minutes no_header others out plan resume revision
    samples size source steps study text_column title_column to""".split()
)
_ARGUMENT = re.compile(rf"""(?<![\w./-])({NAMES})=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,;)]+)""")


def in_flags(message: str) -> str:
    """Return the message with ``name=value`` as a flag: ``text_column='My Plot'`` becomes ``--text-column 'My Plot'``."""
    return _ARGUMENT.sub(_flag, message)


def _flag(found: re.Match[str]) -> str:
    flag = "--" + found[1].strip("_").replace("_", "-")
    value = shlex.quote(ast.literal_eval(found[2])) if found[2][0] in "'\"" else found[2]
    return flag if value == "True" else f"{flag} {value}"

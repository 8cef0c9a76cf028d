"""A text cut into sentences."""

from __future__ import annotations

import re

_TITLES = "Mr Mrs Ms Dr St Jr Sr Lt Col Gen Capt Sgt Prof Rev Hon vs".split()
_END = re.compile(r"""[.!?]+["')\]]*(?=\s+["'(\[]*([^\s"'(\[]))|\n+""")
_NO_END = re.compile(rf"(?:\b(?:{'|'.join(_TITLES)}|[A-Z]))\.\Z")


def split_sentences(text: str) -> list[str]:
    """The sentences of an English text, white space around them left out.

    A sentence ends at a line's end, or at a full stop, question or exclamation mark before a capital letter or a digit,
    but not behind a title (Dr.) or an initial (J.).
    """
    sentences, begin = [], 0
    for found in _END.finditer(text):
        next_is_small = found[1] is not None and not (found[1].isupper() or found[1].isdigit())
        if not next_is_small and not _NO_END.search(text, begin, found.end()):
            sentences.append(text[begin : found.end()].strip())
            begin = found.end()
    return [sentence for sentence in (*sentences, text[begin:].strip()) if sentence]

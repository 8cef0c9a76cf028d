"""A text cut into sentences, and its words that are no names."""

from __future__ import annotations

import re

_TITLES = "Mr Mrs Ms Dr St Jr Sr Lt Col Gen Capt Sgt Prof Rev Hon vs".split()
_END = re.compile(r"""[.!?]+["')\]]*(?=\s+["'(\[]*([^\s"'(\[]))|\n+""")
_NO_END = re.compile(rf"(?:\b(?:{'|'.join(_TITLES)}|[A-Z]))\.\Z")
_LOWER = re.compile(r"\b[a-z]{2,}\b")
_LAST = re.compile(r"""[.!?]+["')\]]*\s*\Z""")


def ends_sentence(text: str) -> bool:
    """Whether ``text`` ends where a sentence does: not behind a title (Dr.) or an initial (J.)."""
    found = _LAST.search(text)
    return found is not None and not _NO_END.search(text.rstrip())


def split_sentences(text: str) -> list[str]:
    """The sentences of an English text, white space around them left out.

    A sentence ends at a line's end, or at a full stop, question or exclamation mark before a capital letter or a digit,
    but not behind a title (Dr.) or an initial (J.).
    """
    ends = sentence_ends(text)
    sentences = (text[begin:end].strip() for begin, end in zip([0, *ends], ends, strict=False))
    return [sentence for sentence in sentences if sentence]


def sentence_ends(text: str) -> list[int]:
    """Where each sentence of ``text`` ends; the last one ends with the text."""
    ends, begin = [], 0
    for found in _END.finditer(text):
        next_is_small = found[1] is not None and not (found[1].isupper() or found[1].isdigit())
        if not next_is_small and not _NO_END.search(text, begin, found.end()):
            begin = found.end()
            ends.append(begin)
    return ends if begin == len(text) else [*ends, len(text)]


def lower_case_words(text: str) -> list[str]:
    """The words of ``text`` in small letters: no names, and no first words."""
    return _LOWER.findall(text)

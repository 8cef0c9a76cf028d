"""A text cut into sentences, and its words that are no names."""

from __future__ import annotations

import re

HONORIFICS = frozenset("Mr Mrs Ms Dr St Jr Sr Lt Col Gen Capt Sgt Prof Rev Hon vs".split())
_END = re.compile(r"""[.!?]+["')\]]*(?=\s+["'(\[]*([^\s"'(\[]))|\n+""")
_NO_END = re.compile(rf"(?:\b(?:{'|'.join(sorted(HONORIFICS))}|[A-Z]))\.\Z")
ASIDE = re.compile(r"\([^()]*\)")  # in film plots: the cast
_SPAN = 5  # words that make a loop when they come again
_LOWER = re.compile(r"\b[a-z]{2,}\b")
_LAST = re.compile(r"""[.!?]+["')\]]*\s*\Z""")


def ends_sentence(text: str) -> bool:
    """Return whether ``text`` ends where a sentence does: not after a title (Dr.) or an initial (J.)."""
    found = _LAST.search(text)
    return found is not None and not _NO_END.search(text.rstrip())


def split_sentences(text: str) -> list[str]:
    """The sentences of an English text, white space around them left out.

    A sentence ends at a line's end, or at a full stop, question or exclamation mark before a capital letter or a digit,
    but not after a title (Dr.) or an initial (J.).
    """
    ends = sentence_ends(text)
    sentences = (text[begin:end].strip() for begin, end in zip([0, *ends], ends, strict=False))
    return [sentence for sentence in sentences if sentence]


def sentence_ends(text: str) -> list[int]:
    """Return where each sentence of ``text`` ends; the last one ends with the text."""
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


def repeated_share(text: str) -> float | None:
    """Return the share of five words in a row that the text had before; None of fewer words."""
    words = text.split()
    spans = list(zip(*(words[k:] for k in range(_SPAN)), strict=False))
    return 1 - len(set(spans)) / len(spans) if spans else None


def word_spans(title: str, text: str) -> list[tuple[int, int]]:
    """Return where the words of ``title`` stand in ``text``, in any case."""
    words = {word.casefold() for word in re.findall(r"\w+", title)}
    return [found.span() for found in re.finditer(r"\w+", text) if found[0].casefold() in words]

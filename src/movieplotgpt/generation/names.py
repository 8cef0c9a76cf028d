"""Names that return too soon or too often: "Brill tells Brill", one name three times in a sentence, in every clause.

A small model does this far more often than people do. A name is a run of letters that begins with a capital, within a
sentence; text in parentheses, in plots the cast, does not count.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from movieplotgpt.text.sentences import ASIDE, HONORIFICS, sentence_ends

NEAR, MOST = 5, 2  # words within which a name does not return; uses of it in one sentence
OFTEN = ((300, 5), (1_000, 8))  # uses of a name in so many characters: 95 % and 85 % of real plots have no more
OFTEN_IN_TITLE = ((1_000, 5),)  # of a word of the title: 95 % of real plots have no more
_MEETING = re.compile(r"\b([A-Z]\w+) [a-z]+ (?=\1\b)")
_LONGEST = 600  # characters of a sentence that are looked at
_WORD = re.compile(r"[^\W\d_]+")
_LAST_WORD = re.compile(r"\s?([^\W\d_]+)\Z")


def returning_name(text: str, new: int, title: Collection[str] = ()) -> int | None:
    """Return where a name starts that returns too soon and that the characters from ``new`` on complete, or None.

    ``title`` are the words of the title in small letters, which may be used less often.
    """
    for word in _WORD.finditer(text, max(0, text.rfind(" ", 0, new))):
        complete = new <= word.end() < len(text)
        if complete and len(word[0]) > 1 and word[0][0].isupper() and _returns(text[: word.start()], word[0], title):
            return word.start()
    return None


def self_meetings(text: str) -> int:
    """Return how often a name meets itself, one word between: "Brill tells Brill", "Brill and Brill"."""
    return sum(1 for _ in _MEETING.finditer(text))


def open_name(text: str) -> int:
    """Return how many characters at the end of ``text`` are a name that may continue, with the blank before it."""
    found = _LAST_WORD.search(text)
    return len(found[0]) if found and found[1][0].isupper() else 0


def _returns(before: str, name: str, title: Collection[str]) -> bool:
    """Return whether ``name``, after ``before``, returns too soon, too often in its sentence, or in too many sentences."""
    window = before[-_LONGEST:]
    *_, start = [0, *(end for end in sentence_ends(f"{window}{name}") if end <= len(window))]
    sentence = ASIDE.sub(" ", window[start:])
    words = _WORD.findall(sentence)
    if "(" in sentence or name in HONORIFICS:
        return False
    if name in words[-NEAR:] or words.count(name) >= MOST:
        return True
    if not words and not re.search(rf"[^\W\d_],? {name}\b", before[-OFTEN[-1][0] :]):  # "The", "Later"
        return False
    often = OFTEN_IN_TITLE if name.casefold() in title else OFTEN
    return any(_WORD.findall(ASIDE.sub(" ", before[-width:])).count(name) >= most for width, most in often)

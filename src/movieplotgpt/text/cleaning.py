"""What is done to a text before it is counted, split or tokenized; hashed, so that a number names its text.

In this order: given replacements, line breaks, broken quotes, ASCII folding, footnote marks and literal end markers,
spaces and blank lines. Cleaning a clean text changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from pydantic import Field

from movieplotgpt.config import Settings
from movieplotgpt.text.formatting import END_OF_PLOT, Document, one_line

CLEANER_VERSION = 1  # raise it with every change of what comes out

NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_FOOTNOTE_WORDS = (
    r"(?:citation|clarification|disambiguation|verification|explanation|further explanation|better source)\s+needed",
    r"(?:original research|self-published source|according to whom|by whom|who|when|where|which|why)\?",
    r"vague|dubious\b[^\[\]\n]{0,30}|discuss|failed verification|update\?",
)
FOOTNOTE = re.compile(  # begins with a bracket, which makes the search fast
    r"\[(?:(?:(?:notes?|nb|n)\s)?\d{1,3}(?:[ ,]+\d{1,3})*|" + "|".join(_FOOTNOTE_WORDS) + r"|"
    r"(?<=[.,;:!?\"'\w)\]]\[)[a-d](?=\](?!\w)))\]",  # "[a]" after a blank is an editor's word: "to [a] man"
    re.IGNORECASE,
)


class CleaningSettings(Settings):
    """Which changes a text goes through; the defaults suit text in any language."""

    replace: dict[str, str] = Field({}, description="Literal replacements made before everything else.")
    line_breaks: bool = Field(True, description="CRLF and CR become LF.")
    broken_quotes: bool = Field(False, description="Runs of U+FFFD become the quote, apostrophe or dash they were.")
    ascii: bool = Field(False, description="Fold what is outside ASCII with anyascii: é becomes e.")
    footnotes: bool = Field(False, description="Take Wikipedia's footnote marks out: [1], [citation needed].")
    spaces: bool = Field(True, description="No blanks at a line's end, no blank lines, nothing around the text.")

    def hash(self) -> str:
        """SHA-256 that changes whenever the cleaned text might."""
        values = {"version": CLEANER_VERSION, **self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def unify_line_breaks(text: str) -> str:
    """Return ``text`` with CRLF and CR as LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def clean_documents(
    documents: Iterable[Document], settings: CleaningSettings, end: str = END_OF_PLOT
) -> tuple[list[Document], dict[str, int]]:
    """Clean bodies, titles and hints; counts what was changed. A document nothing is left of has an empty body."""
    counts: Counter[str] = Counter()
    cleaned = [
        replace(
            document,
            body=clean_text(document.body, settings, end, counts),
            title=one_line(clean_text(document.title, settings, end, counts)),
            hints={name: one_line(clean_text(text, settings, end, counts)) for name, text in document.hints.items()},
        )
        for document in documents
    ]
    return cleaned, dict(counts)


def clean_text(
    text: str, settings: CleaningSettings, end: str = END_OF_PLOT, counts: Counter[str] | None = None
) -> str:
    """``text`` as the settings want it; adds what was changed to ``counts``."""
    counts = Counter() if counts is None else counts
    for old, new in settings.replace.items():
        if old in text:
            counts["replacements"] += text.count(old)
            text = text.replace(old, new)
    if settings.line_breaks and "\r" in text:
        counts["line breaks"] += text.count("\r")
        text = unify_line_breaks(text)
    if settings.broken_quotes and "\ufffd" in text:
        counts["broken quotes"] += len(_BROKEN.findall(text))
        text = repair_quotes(text)
    if settings.ascii and not text.isascii():
        counts["characters folded"] += sum(map(len, NON_ASCII.findall(text)))
        text = fold_ascii(text)
    text = _without_marks(text, settings.footnotes, end, counts)
    return _without_blanks(text, counts) if settings.spaces else text


def fold_ascii(text: str) -> str:
    """``text`` in ASCII; only what is outside ASCII is touched."""
    return NON_ASCII.sub(lambda run: "".join(map(_transliterated, run[0])), text)


def fold_prompt(text: str, settings: CleaningSettings) -> tuple[str, list[str]]:
    """Fold a prompt as the training text was folded; also return what was changed, each change once: ``é→e``."""
    folded = unify_line_breaks(text) if settings.line_breaks else text
    if not settings.ascii or folded.isascii():
        return folded, []
    changed = dict.fromkeys("".join(NON_ASCII.findall(folded)))
    return fold_ascii(folded), [f"{character}→{_transliterated(character)}" for character in changed]


@lru_cache(maxsize=65536)
def _transliterated(character: str) -> str:
    from anyascii import anyascii

    return str(anyascii(character))


def _without_marks(text: str, footnotes: bool, end: str, counts: Counter[str]) -> str:
    """Take marks out until none is left: taking one out may join the halves of another."""
    while True:
        found = 0
        if footnotes and "[" in text:
            *parts, last = FOOTNOTE.split(text)
            found = len(parts)
            counts["footnote marks"] += found
            text = "".join(part.rstrip(" \t\xa0") for part in parts) + last
        if end in text:
            counts["end markers"] += text.count(end)
            text = text.replace(end, "")
        elif not found:
            return text


def _without_blanks(text: str, counts: Counter[str]) -> str:
    lines = text.strip().split("\n")
    stripped = [line.rstrip() for line in lines]
    kept = [line for line in stripped if line]
    counts["blank lines"] += len(lines) - len(kept) if text else 0
    counts["lines with trailing blanks"] += sum(a != b for a, b in zip(lines, stripped, strict=True) if b)
    return "\n".join(kept)


# A character of three bytes that was lost byte by byte shows as three U+FFFD: in English dialogue an apostrophe, a
# quote, a dash or an ellipsis. Two are a letter with an accent or a hard blank.
_BROKEN = re.compile("\ufffd+")
_UNIT = re.compile(  # one lost character; in a run of five the shorter one comes first ("fiance's")
    "\ufffd{2}(?=(?:\ufffd{3})*(?!\ufffd)|\ufffd{2}(?!\ufffd))|\ufffd{3}|\ufffd"
)
_OPENERS = " [(\"'-"
_CONTRACTION = re.compile(r"(?:s|t|m|d|ll|re|ve|nt|all|am|clock|er|em|mon|posed|cha|know)\b", re.IGNORECASE)
_NAME = re.compile(r"\b(?:O|D|L)$")
_ELISION = re.compile(
    r"(?:\d|(?:cause|cuz|em|til|till|round|bout|scuse|specially|sup|tis|twas|mageddon|nother|neath|er|course|kay)\b)",
    re.IGNORECASE,
)
_DROPPED = re.compile(
    r"(?:\d|[A-Za-z]{2}(?<!aga)(?<!kev)(?<!er)in|[A-Za-z]{3}(?<!thi)(?<!alway)(?<!gue)(?<!thank)(?<!seem)s)$",
    re.IGNORECASE,
)


def repair_quotes(text: str) -> str:
    """Turn runs of U+FFFD into what they most likely were, line by line, by their context.

    - between letters: an apostrophe before a contraction (``don't``) or in a name (``O'Brien``), else an ellipsis;
    - before a word: an opening quote, or an apostrophe where a letter was dropped (``'cause``);
    - after a word or its punctuation: a closing quote if one is open, else an apostrophe after a dropped g or a
      plural's s, else an ellipsis (speech that breaks off);
    - alone between blanks: a dash;
    - two of them: a blank where no letter stands on both sides, else nothing (a lost letter).
    """
    return "\n".join(_repair_line(line) if "\ufffd" in line else line for line in text.split("\n"))


def _repair_line(line: str) -> str:
    done, rest, quote_open = "", line, False
    while found := _UNIT.search(rest):
        before, after = done + rest[: found.start()], rest[found.end() :]
        mark = _lost_mark(before, after, quote_open) if len(found[0]) == 3 else _lost_letter(before, after)
        quote_open = quote_open != (mark == '"')
        done, rest = before + mark, after
    return done + rest


def _lost_mark(before: str, after: str, quote_open: bool) -> str:
    last, first = before[-1:] or " ", after[:1] or " "
    if last.isalnum() and first.isalnum():
        apostrophe = last.isdigit() or _CONTRACTION.match(after) or (first.isupper() and _NAME.search(before))
        return "'" if apostrophe else "..."
    if last in _OPENERS and (first.isalnum() or first == "\ufffd"):
        return "'" if _ELISION.match(after) else '"'
    if quote_open and last != " ":
        return '"'
    if last == first == " " and not before.endswith(": ") and after:
        return "-"
    if first in " .,?!" and after and _DROPPED.search(before):
        return "'"
    return "..."


def _lost_letter(before: str, after: str) -> str:
    return "" if before[-1:].isalnum() or before[-1:] == " " or after[:1] in (" ", "\ufffd") else " "

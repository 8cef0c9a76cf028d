"""What can be counted in a text: returning names, invented words, loops, speakers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from movieplotgpt.errors import optional
from movieplotgpt.evaluation.intervals import Tally, tally
from movieplotgpt.generation import names
from movieplotgpt.text.sentences import ASIDE, repeated_share, split_sentences, word_spans

_WORD = re.compile(r"[^\W\d_](?:[\w'-]*\w)?")
_LABEL = re.compile(r"([^:\n]{1,40}): ")
_RARE = 3.5  # Zipf: under it a capitalised first word is taken for a name
_COMMON = 6.0  # Zipf: words such as "the" and "with" say nothing of a title
_OFTEN = (4, 6, 9)  # uses of one title word: in 14, 5 and 0 % of real plots' first thousand characters
_THRICE = 3
_OPENING = 3  # words


def name_mentions(text: str) -> list[str]:
    """Return the names in ``text``, each as often as it occurs.

    A name is a capitalised word within a sentence, or a rare one at its start; text in parentheses, which in plots
    is the cast, is left out, and so is a possessive's ending.

    Raises:
        MissingExtraError: wordfreq is not installed.
    """
    zipf = word_frequencies()
    found = []
    for sentence in split_sentences(ASIDE.sub(" ", text)):
        words = [word.removesuffix("'s") for word in _WORD.findall(sentence)]
        found += [
            word
            for i, word in enumerate(words)
            if len(word) > 1 and word[0].isupper() and (i > 0 or zipf(word) < _RARE)
        ]
    return found


def names_that_return(texts: Sequence[str]) -> Tally:
    """Return the share of mentions that are of a name mentioned twice or more: whether introduced people stay.

    Real plots have 0.6, random text under 0.1.
    """
    counts = (Counter(name_mentions(text)) for text in texts)
    return tally((sum(count for count in each.values() if count > 1), each.total()) for each in counts)


def names_per_text(texts: Sequence[str]) -> Tally:
    """Count the different names in a text: incoherent text keeps introducing people."""
    return tally((len(set(name_mentions(text))), 1) for text in texts)


def self_meetings(texts: Sequence[str]) -> Tally:
    """Count how often a text lets a name meet itself ("Brill tells Brill", "Brill and Brill"): real plots under 0.02 times."""
    return tally((names.self_meetings(text), 1) for text in texts)


def crowded_sentences(texts: Sequence[str]) -> Tally:
    """Return the share of sentences that mention one name three times or more: 0.6 % in real plots.

    Raises:
        MissingExtraError: wordfreq is not installed.
    """
    per_text = []
    for text in texts:
        counts = [Counter(name_mentions(sentence)) for sentence in split_sentences(text)]
        per_text.append((sum(max(each.values(), default=0) >= _THRICE for each in counts), len(counts)))
    return tally(per_text)


def top_name_share(texts: Sequence[str]) -> Tally:
    """Return the share of a text's mentions of names that its most frequent name has: the mean over texts with names.

    Raises:
        MissingExtraError: wordfreq is not installed.
    """
    counts = (Counter(name_mentions(text)) for text in texts)
    return tally((max(each.values()) / each.total(), 1) if each else (0, 0) for each in counts)


def shared_openings(texts: Sequence[str]) -> Tally:
    """Return the share of texts whose first three words also open another of them."""
    openings = [tuple(text.split()[:_OPENING]) for text in texts]
    counts = Counter(openings)
    return tally((counts[opening] > 1, 1) for opening in openings)


def unknown_to_english(words: Iterable[str]) -> set[str]:
    """Those of ``words`` that no English text of note has.

    Raises:
        MissingExtraError: wordfreq is not installed.
    """
    zipf = word_frequencies()
    return {word for word in set(words) if zipf(word) == 0}


def title_words(titles: Sequence[str], texts: Sequence[str]) -> dict[str, Tally]:
    """Count the words of titles in their texts, common words such as "the" left out.

    Returns tallies by name: ``title_words`` per 100 words, ``title_sentences`` the share of sentences with one, and
    ``title_word_4``, ``_6``, ``_9`` the shares of texts that use one title word at least so many times.

    Raises:
        MissingExtraError: wordfreq is not installed.
    """
    zipf = word_frequencies()
    found, sentences, most = [], [], []
    for title, text in zip(titles, texts, strict=True):
        telling = {word.casefold() for word in re.findall(r"\w+", title) if zipf(word) < _COMMON}
        hits = [
            [word for word in map(str.casefold, re.findall(r"\w+", each)) if word in telling]
            for each in split_sentences(text)
        ]
        counts = Counter(word for each in hits for word in each)
        found.append((counts.total(), len(re.findall(r"\w+", text)) / 100))
        sentences.append((sum(map(bool, hits)), len(hits)))
        most.append(max(counts.values(), default=0))
    often = {f"title_word_{least}": tally((count >= least, 1) for count in most) for least in _OFTEN}
    return {"title_words": tally(found), "title_sentences": tally(sentences), **often}


def without_words_of(title: str, text: str) -> str:
    """``text`` without the words of ``title``."""
    cuts = [0, *(at for span in word_spans(title, text) for at in span), len(text)]
    return "".join(text[start:stop] for start, stop in zip(cuts[::2], cuts[1::2], strict=True))


def repeated_spans(texts: Sequence[str]) -> Tally:
    """Return the share of five words in a row that their text had before: the mean over texts that have five words."""
    shares = map(repeated_share, texts)
    return tally((0, 0) if share is None else (share, 1) for share in shares)


def labels(text: str) -> list[str | None]:
    """Who speaks each line that is not empty; None where nobody is named."""
    found = [_LABEL.match(line) for line in text.splitlines() if line.strip()]
    return [label[1] if label else None for label in found]


def word_frequencies() -> Callable[[str], float]:
    """Return how common a word is in English: the base-10 logarithm of its uses per thousand million words; 0 if unknown.

    Raises:
        MissingExtraError: wordfreq is not installed.
    """
    zipf_frequency = optional("wordfreq", "evaluate").zipf_frequency
    return lambda word: float(zipf_frequency(word, "en"))

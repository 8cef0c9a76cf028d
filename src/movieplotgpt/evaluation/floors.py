"""Fake texts assembled from real ones: the baseline that every score must beat."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from movieplotgpt.text.sentences import split_sentences

_MOST = 5_000_000  # characters that trigrams are counted in


def shuffled_sentences(texts: Sequence[str], seed: int = 0) -> list[str]:
    """As many texts, each with as many sentences as one of ``texts``, drawn from all without replacement."""
    sentences = [split_sentences(text) for text in texts]
    every = [one for own in sentences for one in own]
    drawn = iter(np.random.default_rng(seed).permutation(len(every)).tolist())
    return [" ".join(every[next(drawn)] for _ in own) for own in sentences]


def trigram_texts(training: Sequence[str], lengths: Sequence[int], seed: int = 0) -> list[str]:
    """A text of about each of ``lengths`` characters in which any three words in a row stand in ``training``, too."""
    words: list[str] = []
    for text in training:
        words += [*text.split(), ""]
        if len(words) * 6 > _MOST:
            break
    following = defaultdict(list)
    for at, pair in enumerate(itertools.pairwise(words)):
        following[pair].append(at + 2)
    first = [at for at in range(len(words) - 2) if words[at] and not (at and words[at - 1])]
    rng = np.random.default_rng(seed)

    def walk(length: int) -> str:
        written = ""
        at = int(rng.choice(first))
        while len(written) <= length:
            if at + 1 >= len(words) or not words[at + 1]:  # a text of the training ends here
                at = int(rng.choice(first))
            written += words[at] + " "
            at = int(rng.choice(following[words[at], words[at + 1]])) - 1
        return written[:length]

    return [walk(length) for length in lengths]

"""Does a model know what comes next? The true next sentence against three that do not belong there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import HeldOut
from movieplotgpt.evaluation.intervals import F64, Interval, share_interval
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.model.scoring import score_documents
from movieplotgpt.progress_bars import StageReport, silent
from movieplotgpt.records import Record
from movieplotgpt.text.sentences import split_sentences

PLACES = 300
SHORTEST = 20  # characters of a sentence
MOST_BEFORE = 1_500  # characters of the plot before it


class Choice(Record):
    """How often the true continuation was taken; by chance 0.5."""

    share: float
    interval: Interval | None


class NextSentence(Record):
    """The true next sentence against one of another work, against a later one, and the next two against their swap.

    What is compared is how much likelier the text so far makes a continuation: its log-likelihood after header and text
    minus that after the header alone, per character.
    """

    another_work: Choice
    later: Choice
    swapped: Choice
    places: int
    seed: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """A place in a document, and what might follow: the true one and the false one of each question."""

    title: str
    work: str
    before: str
    pairs: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]  # another work's, a later one, the two swapped


def next_sentence(
    checkpoint: Checkpoint,
    held_out: HeldOut,
    *,
    places: int = PLACES,
    seed: int = 0,
    progress: StageReport = silent,
) -> NextSentence:
    """Ask at ``places`` places, one in a document, drawn by ``seed``: the same for every model of a corpus.

    Raises:
        DataError: there are no two works with a document long enough.
    """
    began = time.monotonic()
    texts = [checkpoint.tokenizer.decode(body) for body in held_out.bodies]
    drawn = draw_places(held_out.titles, held_out.groups, texts, places, seed)
    asked = [(place, text) for place in drawn for pair in place.pairs for text in pair]
    gain = _gain(checkpoint, asked, partial(progress, "next sentences")).reshape(len(drawn), 3, 2)
    right = (gain[..., 0] > gain[..., 1]) + 0.5 * (gain[..., 0] == gain[..., 1])
    works = len({place.work for place in drawn})
    choices = [Choice(share=share, interval=share_interval(share, works)) for share in right.mean(0).tolist()]
    return NextSentence(
        **dict(zip(("another_work", "later", "swapped"), choices, strict=True)),
        places=len(drawn),
        seed=seed,
        seconds=round(time.monotonic() - began, 2),
    )


def draw_places(titles: list[str], groups: list[str], texts: list[str], places: int, seed: int) -> list[Place]:
    """Return places with a sentence before and three after them, at most one per document, in a random order.

    Sentences under SHORTEST characters are left out of the text.

    Raises:
        DataError: there are no two works with a document long enough.
    """
    rng = np.random.default_rng(seed)
    sentences = [[one for one in split_sentences(text) if len(one) >= SHORTEST] for text in texts]
    long_enough = [i for i in rng.permutation(len(texts)).tolist() if len(sentences[i]) >= 4]
    if len({groups[i] for i in long_enough}) < 2:
        raise DataError("next sentences need two works of four sentences at least; take more documents")
    drawn = []
    for i in long_enough[:places]:
        own = sentences[i]
        lengths = np.cumsum([len(one) + 1 for one in own])
        last = min(len(own) - 3, int(np.searchsorted(lengths, MOST_BEFORE, "right")))
        k = int(rng.integers(1, max(1, last) + 1))
        other = int(rng.choice([j for j in long_enough if groups[j] != groups[i]]))
        foreign = sentences[other][int(rng.integers(1, len(sentences[other])))]
        true, after = own[k : k + 2]
        later = own[int(rng.integers(k + 2, len(own)))]
        pairs = (true, foreign), (true, later), (f"{true} {after}", f"{after} {true}")
        drawn.append(Place(titles[i], groups[i], " ".join(own[:k]), pairs))
    return drawn


def _gain(checkpoint: Checkpoint, asked: list[tuple[Place, str]], progress: Callable[[int, int], None]) -> F64:
    """Nats a character that the text before each continuation saves of it."""
    encode = checkpoint.tokenizer.encode_batch
    headers = encode([checkpoint.format.sentence(place.title) for place, _ in asked])
    before, after = encode([place.before for place, _ in asked]), encode([f" {text}" for _, text in asked])
    behind_text = [(header, np.concatenate(parts)) for header, *parts in zip(headers, before, after, strict=True)]
    alone = list(zip(headers, after, strict=True))
    scores = score_documents(checkpoint.model, [*behind_text, *alone], checkpoint.tokenizer.end_id, progress=progress)
    own = zip(scores.bodies, [*after, *after], strict=True)
    nats = np.array([body[-1 - len(text) : -1].sum() for body, text in own])
    characters = np.array([len(text) for _, text in asked])
    return np.asarray((nats[len(asked) :] - nats[: len(asked)]) / characters, np.float64)

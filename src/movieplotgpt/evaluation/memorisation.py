"""Has a model learnt its text by heart? Bits per character on text it has read, and what it reproduces verbatim."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from statistics import mean
from typing import Any

from movieplotgpt.errors import DataError
from movieplotgpt.evaluation.held_out import HeldOut, read_held_out
from movieplotgpt.evaluation.intervals import Interval, bits_per_character, share_interval
from movieplotgpt.generation.generator import TEXTS_AT_ONCE, PlotGenerator
from movieplotgpt.generation.plots import Plot, plot_of
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.progress_bars import StageReport, silent
from movieplotgpt.records import Record
from movieplotgpt.text.splits import Split
from movieplotgpt.text.token_files import PreparedCorpus

DOCUMENTS = 100
BEGUN, ASKED = 200, 100  # characters that are given, and that have to follow
_SLACK = 8  # tokens: the same characters may be written in a few more


class Extracted(Record):
    """The share of documents that the likeliest continuation of their beginning reproduces, character by character.

    ``characters`` is how many, of ASKED, it reproduces before the first that differs, the mean over documents. Source:
    extractability (arXiv 2202.07646), in characters so that tokenizers compare.
    """

    share: float
    characters: float
    interval: Interval | None
    documents: int


class Memorisation(Record):
    """Read and unread text side by side: where they part, the text is being learnt by heart."""

    read_bits: float
    unread_bits: float
    read: Extracted
    unread: Extracted
    seed: int
    seconds: float


def memorisation(
    checkpoint: Checkpoint,
    corpus: PreparedCorpus,
    *,
    documents: int = DOCUMENTS,
    seed: int = 0,
    progress: StageReport = silent,
) -> Memorisation:
    """Compare ``documents`` of the training split with as many of the test split.

    Raises:
        DataError: the model was trained on another corpus; the corpus has no test split; or no document is long enough.
    """
    if checkpoint.record.corpus.hash != corpus.manifest.corpus_hash:
        raise DataError(f"the model does not record that it was trained on {corpus.folder}")
    began = time.monotonic()
    found: dict[str, Any] = {}
    sides: tuple[tuple[Split, str, str], ...] = (
        ("train", "read", "text it has read"),
        ("test", "unread", "text it has not read"),
    )
    for split, side, name in sides:
        held_out = read_held_out(checkpoint, corpus, split, documents, seed)
        scores = held_out.score(checkpoint, held_out.titles, partial(progress, name))
        found[f"{side}_bits"] = bits_per_character(scores.body, held_out.n_characters)
        found[side] = _extract(checkpoint, held_out, partial(progress, f"{name}, by heart"))
    return Memorisation(**found, seed=seed, seconds=round(time.monotonic() - began, 2))


def _extract(checkpoint: Checkpoint, held_out: HeldOut, progress: Callable[[int, int], None]) -> Extracted:
    generator = PlotGenerator(checkpoint)
    bodies = map(checkpoint.tokenizer.decode, held_out.bodies)
    documents = zip(held_out.groups, held_out.titles, bodies, strict=True)
    asked = [(work, title, body) for work, title, body in documents if len(body) > BEGUN + ASKED]
    pairs = [(title, body) for _, title, body in asked]
    if not pairs:
        raise DataError(f"no document of these is longer than the {BEGUN + ASKED} characters that are asked for")
    right: list[int] = []
    for at in range(0, len(pairs), TEXTS_AT_ONCE):
        some = pairs[at : at + TEXTS_AT_ONCE]
        right += [_follows(plot, body) for plot, (_, body) in zip(_go_on(generator, some), some, strict=True)]
        progress(len(right), len(pairs))
    share = right.count(ASKED) / len(pairs)
    interval = share_interval(share, len({work for work, _, _ in asked}))
    return Extracted(share=share, characters=mean(right), interval=interval, documents=len(pairs))


def _go_on(generator: PlotGenerator, pairs: Sequence[tuple[str, str]]) -> list[Plot]:
    """The likeliest continuation of each begin, guided by nothing but the text itself."""
    tokenizer, document_format = generator.checkpoint.tokenizer, generator.checkpoint.format
    requests = []
    for title, body in pairs:
        begun = body[:BEGUN].rpartition(" ")[0] or body[:BEGUN]  # between words, where tokens end too
        tokens = len(tokenizer.encode(body[len(begun) : len(begun) + ASKED])) + _SLACK
        prompt = document_format.sentence(title) + begun
        requests += generator.requests(prompt=prompt, temperature=0, guidance=1, max_tokens=tokens)
    writings = [generator.writing(request) for request in requests]
    deque(generator.write(writings), maxlen=0)
    tokenizer = generator.checkpoint.tokenizer
    return [plot_of(request, writing, tokenizer) for request, writing in zip(requests, writings, strict=True)]


def _follows(plot: Plot, body: str) -> int:
    """Count the characters of a continuation that equal the body's, up to the first that differs."""
    begun = len(plot.begun)
    pairs = zip(plot.text[begun:], body[begun : begun + ASKED], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

"""The loop from token to token, for one text or many.

Shapes: B the texts that are being written, R their readings (two of a guided text), T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from movieplotgpt.engine.session import Engine
from movieplotgpt.generation.guidance import guide
from movieplotgpt.generation.sampling import Chosen, Logits, choose, logprob
from movieplotgpt.generation.writing import Writing


def write(engine: Engine, texts: Sequence[Writing], vocab_size: int, *, room: int) -> Iterator[tuple[int, str]]:
    """Write all ``texts``, ``room`` readings at a time; yields (number of the text, what was added) for each token.

    Raises:
        CheckpointError: the logits are NaN or infinite, or there is not enough memory.
    """
    numbers = {text: number for number, text in enumerate(texts)}
    batch, waiting = Batch(engine, vocab_size, min(room, sum(text.readings for text in texts))), [*reversed(texts)]
    while waiting or batch.texts:
        coming, free = [], batch.free
        while waiting and (free := free - waiting[-1].readings) >= 0:
            coming.append(waiting.pop())
        batch.join(coming)
        for text, piece in batch.step():
            yield numbers[text], piece


@dataclass
class _Row:
    """One reading of a text."""

    text: Writing
    reading: int


class Batch:
    """Texts that are written side by side; each joins and leaves between two tokens.

    There is room for a number of readings; a guided text is read twice, after either header. A text whose window is full
    continues in the window it would have been trained in: the header again, then the last of its tokens. Ids from
    ``vocab_size`` on are padding and never drawn.
    """

    def __init__(self, engine: Engine, vocab_size: int, room: int) -> None:
        self._engine, self._vocab_size, self._room = engine, vocab_size, room
        self._cache = engine.new_cache(room)
        self._cache.keep([])
        self._rows: list[_Row] = []

    @property
    def free(self) -> int:
        """How many readings more there is room for."""
        return self._room - len(self._rows)

    @property
    def texts(self) -> list[Writing]:
        """What is being written, in no order."""
        return [row.text for row in self._rows if row.reading == 0]

    def join(self, texts: Sequence[Writing]) -> None:
        """Read the prompts of ``texts``, all together; from the next step on they are written."""
        rows = [_Row(text, reading) for text in texts for reading in range(text.readings)]
        assert len(rows) <= self.free, "there is no room for these texts"
        first = len(self._rows)
        for row in rows:
            self._cache.add()
            self._rows.append(row)
        self._engine.read([row.text.window(row.reading)[:-1] for row in rows], self._cache, first)

    def leave(self, text: Writing) -> None:
        """Write no more of a text."""
        self._keep([number for number, row in enumerate(self._rows) if row.text is not text])

    def step(self) -> list[tuple[Writing, str]]:
        """Write one token of each text; return the text that this makes certain. A text that ends leaves.

        Raises:
            CheckpointError: the logits are NaN or infinite.
        """
        ids = [self._ready(number) for number in range(len(self._rows))]
        logits_RV = self._engine.next_logits(ids, self._cache)[:, : self._vocab_size]
        without = {row.text: logits_RV[number] for number, row in enumerate(self._rows) if row.reading}
        chosen = [
            (row.text, _choose(row.text, logits_RV[number], without.get(row.text)))
            for number, row in enumerate(self._rows)
            if not row.reading
        ]
        taken = {text: text.take(token) for text, token in chosen}
        for number, row in enumerate(self._rows):
            _, count = taken[row.text]
            if count:
                self._take_back(number, count)
        needed = [number for number, row in enumerate(self._rows) if row.reading < row.text.readings]
        if len(needed) < len(self._rows):
            self._keep(needed)
        return [(text, piece) for text, (piece, _) in taken.items()]

    def _ready(self, number: int) -> int:
        """Bring the cache of one reading up to all but its last token, which is returned: what the batch reads next."""
        row, lengths = self._rows[number], self._cache.lengths
        if 0 < lengths[number] < row.text.context_length:
            return (row.text.body or row.text.headers[row.reading])[-1]
        window = row.text.window(row.reading)
        lengths[number] = 0
        self._engine.read([window[:-1]], self._cache, number)
        return window[-1]

    def _take_back(self, number: int, count: int) -> None:
        """Forget tokens of one reading; all of it, where it would now be read in an earlier window."""
        row, lengths = self._rows[number], self._cache.lengths
        kept = int(lengths[number]) - count
        lengths[number] = kept if kept == len(row.text.window(row.reading)) - 1 else 0

    def _keep(self, numbers: Sequence[int]) -> None:
        self._rows = [self._rows[number] for number in self._cache.keep(numbers)]


def _choose(text: Writing, logits_V: Logits, without_V: Logits | None) -> Chosen:
    """Choose the next token of a text; ``without_V`` is what its reading without a title says, if there is one."""
    if without_V is None:
        return choose(logits_V, text.config, text.random, text.history())
    guided_V = guide(logits_V.astype(np.float64), without_V, text.guidance) if text.guidance > 1 else None
    chosen = choose(logits_V, text.config, text.random, text.history(), guided_V)
    return replace(chosen, gain=logprob(logits_V, chosen.id) - logprob(without_V, chosen.id))

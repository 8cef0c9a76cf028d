"""The loop from token to token, for one text or many.

Shapes: B the texts that are being written, R their readings (two of a guided text), T time, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
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
    batch, waiting = TextBatch(engine, vocab_size, min(room, sum(text.readings for text in texts))), [*reversed(texts)]
    while waiting or batch.texts:
        coming, free = [], batch.free
        while waiting and (free := free - waiting[-1].readings) >= 0:
            coming.append(waiting.pop())
        batch.join(coming)
        for text, piece in batch.step():
            yield numbers[text], piece


@dataclass(eq=False)
class _Row:
    """One reading of a text."""

    text: Writing
    reading: int
    _prompt: list[int] | None = None

    def prompt(self) -> list[int]:
        """Return what is read before the next token is, the window without its last one; kept until it is read."""
        if self._prompt is None:
            self._prompt = self.text.window(self.reading)[:-1]
        return self._prompt

    def forget_prompt(self) -> None:
        """Forget what was read: the text continues."""
        self._prompt = None


class TextBatch:
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
        self._read = 0  # the rows whose prompts are read, which come first

    @property
    def free(self) -> int:
        """How many readings more there is room for."""
        return self._room - len(self._rows)

    @property
    def texts(self) -> list[Writing]:
        """What is being written, in no order."""
        return [row.text for row in self._rows if row.reading == 0]

    @property
    def unread(self) -> set[Writing]:
        """Texts that rest, or whose prompts are not yet read."""
        return {row.text for row in self._rows[self._read :]}

    def join(self, texts: Sequence[Writing]) -> None:
        """Let ``texts`` join: they are written from the step on in which their prompts are read."""
        rows = [_Row(text, reading) for text in texts for reading in range(text.readings)]
        assert len(rows) <= self.free, "there is no room for these texts"
        for row in rows:
            self._cache.add()
            self._rows.append(row)

    def leave(self, text: Writing) -> None:
        """Write no more of a text."""
        self._keep([number for number, row in enumerate(self._rows) if row.text is not text])

    def step(self, resting: Collection[Writing] = (), prompt_tokens: float = math.inf) -> list[tuple[Writing, str]]:
        """Write one token of each text but those that rest; return the text that this makes certain. A text that ends leaves.

        At most ``prompt_tokens`` tokens of prompts are read before, short prompts first, so that a long one does not hold up
        what is being written.

        Raises:
            CheckpointError: the logits are NaN or infinite.
        """
        self._put_last(resting)
        self._read_prompts(resting, prompt_tokens)
        rows = self._rows[: self._read]
        if not rows:
            return []
        ids = [self._ready(number) for number in range(len(rows))]
        logits_RV = self._engine.next_logits(ids, self._cache)[:, : self._vocab_size]
        without = {row.text: logits_RV[number] for number, row in enumerate(rows) if row.reading}
        chosen = [
            (row.text, _choose(row.text, logits_RV[number], without.get(row.text)))
            for number, row in enumerate(rows)
            if not row.reading
        ]
        taken = {text: text.take(token) for text, token in chosen}
        for number, row in enumerate(rows):
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

    def _put_last(self, resting: Collection[Writing]) -> None:
        """Move the rows of texts that rest after those that are written."""
        for number in range(self._read - 1, -1, -1):
            if self._rows[number].text in resting:
                self._read -= 1
                self._exchange(number, self._read)

    def _read_prompts(self, resting: Collection[Writing], left: float) -> None:
        """Read prompts until all are read, or ``left`` tokens."""
        while left > 0 and self._read < len(self._rows):
            unread: dict[Writing, int] = {}
            for number, row in enumerate(self._rows[self._read :], self._read):
                if row.text in resting:
                    continue
                unread[row.text] = unread.get(row.text, 0) + len(self._rest(number))
            if not unread:
                return
            text, *others = sorted(unread, key=unread.__getitem__)
            if unread[text] > left:
                self._read_part(text, int(left))
                return
            texts, tokens = {text}, unread[text]
            for other in others if self._is_unread(text) else ():
                if tokens + unread[other] > left or not self._is_unread(other):
                    break
                texts, tokens = {*texts, other}, tokens + unread[other]
            self._read_whole(texts)
            left -= tokens

    def _rest(self, number: int) -> list[int]:
        """Return what is still to be read of the prompt of a row."""
        return self._rows[number].prompt()[int(self._cache.lengths[number]) :]

    def _is_unread(self, text: Writing) -> bool:
        return not any(self._cache.lengths[number] for number, row in enumerate(self._rows) if row.text is text)

    def _read_part(self, text: Writing, most: int) -> None:
        """Read ``most`` tokens of the prompt of ``text``, which is longer."""
        for number, row in enumerate(self._rows):
            if row.text is text and most > 0 and (part := self._rest(number)[:most]):
                self._engine.read([part], self._cache, number)
                most -= len(part)

    def _read_whole(self, texts: Collection[Writing]) -> None:
        """Read the prompts of ``texts`` to their ends, together if they are unread."""
        first = self._read
        for number in range(first, len(self._rows)):
            if self._rows[number].text in texts:
                self._exchange(number, self._read)
                self._read += 1
        rests = [self._rest(number) for number in range(first, self._read)]
        for row in self._rows[first : self._read]:
            row.forget_prompt()
        if len(texts) > 1 or not self._cache.lengths[first : self._read].any():
            self._engine.read(rests, self._cache, first)
            return
        for number, rest in enumerate(rests, first):
            self._engine.read([rest], self._cache, number)

    def _exchange(self, first: int, second: int) -> None:
        if first != second:
            self._cache.exchange(first, second)
            self._rows[first], self._rows[second] = self._rows[second], self._rows[first]

    def _keep(self, numbers: Sequence[int]) -> None:
        order = self._cache.keep(numbers)
        self._rows = [self._rows[number] for number in order]
        read = sum(number < self._read for number in order)
        early = [place for place in range(read) if order[place] >= self._read]
        late = [place for place in range(read, len(order)) if order[place] < self._read]
        for first, second in zip(early, late, strict=True):
            self._exchange(first, second)
        self._read = read


def _choose(text: Writing, logits_V: Logits, without_V: Logits | None) -> Chosen:
    """Choose the next token of a text; ``without_V`` are the logits of its reading without a title, if there is one."""
    if without_V is None:
        return choose(logits_V, text.config, text.random, text.history())
    guided_V = guide(logits_V.astype(np.float64), without_V, text.guidance) if text.guidance > 1 else None
    chosen = choose(logits_V, text.config, text.random, text.history(), guided_V)
    return replace(chosen, gain=logprob(logits_V, chosen.id) - logprob(without_V, chosen.id))

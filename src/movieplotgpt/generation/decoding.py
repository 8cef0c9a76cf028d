"""The loop from token to token, for one text or many.

Shapes: B the texts that are being written, R their readings (two of a guided text), T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from movieplotgpt.generation.guidance import guide
from movieplotgpt.generation.sampling import Chosen, choose
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.decoder import Decoder
from movieplotgpt.model.kv_cache import KVCache


def write(decoder: Decoder, texts: Sequence[Writing], vocab_size: int, *, room: int) -> Iterator[tuple[int, str]]:
    """Write all ``texts``, ``room`` readings at a time; yields (number of the text, what was added) for each token.

    Raises:
        CheckpointError: the logits are no numbers.
    """
    numbers = {text: number for number, text in enumerate(texts)}
    batch, waiting = Batch(decoder, vocab_size, min(room, sum(text.readings for text in texts))), [*reversed(texts)]
    while waiting or batch.texts:
        while waiting and waiting[-1].readings <= batch.free:
            batch.join(waiting.pop())
        for text, piece in batch.step():
            yield numbers[text], piece


@dataclass
class _Row:
    """One reading of a text; what its cache holds begins with ``prompt``."""

    text: Writing
    reading: int
    prompt: Sequence[int]


class Batch:
    """Texts that are written side by side; each joins and leaves at the border of a token.

    There is room for a number of readings; a guided text is read twice, behind either header. A text whose window is full
    goes on in the window it would have been trained in: the header again, then the last of its tokens. Ids from
    ``vocab_size`` on are padding and never drawn.
    """

    def __init__(self, decoder: Decoder, vocab_size: int, room: int) -> None:
        self._decoder, self._vocab_size, self._room = decoder, vocab_size, room
        self._cache = decoder.new_cache(room)
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

    @torch.inference_mode()
    def join(self, text: Writing) -> None:
        """Read the prompt of a text, which is written from the next step on; one that others began with is not read again."""
        assert text.readings <= self.free, "there is no room for this text"
        for reading in range(text.readings):
            window, row = text.window(reading), self._cache.add()
            known = next((k for k, other in enumerate(self._rows) if other.prompt == window), None)
            if known is not None:
                self._cache.copy(known, row, len(window) - 1)
            else:
                _read(self._decoder, window, self._cache.row(row))
            self._rows.append(_Row(text, reading, window))

    def leave(self, text: Writing) -> None:
        """Write no more of a text."""
        self._keep([number for number, row in enumerate(self._rows) if row.text is not text])

    @torch.inference_mode()
    def step(self) -> list[tuple[Writing, str]]:
        """One token of each text, with what is certain to be added by it; a text that ends leaves.

        Raises:
            CheckpointError: the logits are no numbers.
        """
        ids_R = torch.tensor([self._ready(number) for number in range(len(self._rows))], device=self._decoder.device)
        logits_RV = self._decoder.next_logits(ids_R, self._cache)[:, : self._vocab_size].cpu()
        logits = {(row.text, row.reading): logits_V for row, logits_V in zip(self._rows, logits_RV, strict=True)}
        taken = {text: text.take(chosen) for text, chosen in _choose(logits, self.texts)}
        for number, row in enumerate(self._rows):
            _, count = taken[row.text]
            if count:
                self._take_back(number, count)
        going_on = [number for number, row in enumerate(self._rows) if row.text.finish_reason is None]
        if len(going_on) < len(self._rows):
            self._keep(going_on)
        return [(text, piece) for text, (piece, _) in taken.items()]

    def _ready(self, number: int) -> int:
        """Bring the cache of one reading up to all but its last token, which is returned: what the batch reads next."""
        row, cache = self._rows[number], self._cache.row(number)
        if 0 < cache.length < row.text.context_length:
            return (row.text.body or row.text.headers[row.reading])[-1]
        window, row.prompt = row.text.window(row.reading), ()
        cache.reset()
        _read(self._decoder, window, cache)
        return window[-1]

    def _take_back(self, number: int, count: int) -> None:
        """Forget tokens of one reading; all of it, where it would now be read in an earlier window."""
        row, cache = self._rows[number], self._cache.row(number)
        kept = cache.length - count
        cache.shorten(kept if kept == len(row.text.window(row.reading)) - 1 else 0)

    def _keep(self, numbers: Sequence[int]) -> None:
        self._rows = [self._rows[number] for number in self._cache.keep(numbers)]


def _read(decoder: Decoder, window: Sequence[int], cache: KVCache) -> None:
    """Read all but the last token of a window."""
    if len(window) > 1:
        decoder.read(torch.tensor([window[:-1]], device=decoder.device), cache)


def _choose(logits: Mapping[tuple[Writing, int], Tensor], texts: Sequence[Writing]) -> Iterator[tuple[Writing, Chosen]]:
    """The next token of each text, those of the same rules together; ``logits`` are by text and reading."""
    same: dict[tuple[str, int], list[Writing]] = {}
    for text in texts:
        same.setdefault((text.rules, text.readings), []).append(text)
    for (_, readings), alike in same.items():
        config = alike[0].config
        logits_BV, *without = (torch.stack([logits[text, k] for text in alike]) for k in range(readings))
        randoms, histories = [text.random for text in alike], [text.history() for text in alike]
        if not without:
            yield from zip(alike, choose(logits_BV, config, randoms, histories), strict=True)
            continue
        own_BV, without_BV = (each.double() for each in (logits_BV, *without))
        strength = config.guidance or 1.0
        guided_BV = guide(own_BV, without_BV, strength) if strength > 1 else None
        all_B = own_BV.logsumexp(-1) - without_BV.logsumexp(-1)
        for row, chosen in enumerate(choose(logits_BV, config, randoms, histories, guided_BV)):
            gain = float(own_BV[row, chosen.id] - without_BV[row, chosen.id] - all_B[row])
            yield alike[row], replace(chosen, gain=gain)

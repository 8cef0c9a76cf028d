"""The loop from token to token, for one text or many.

Shapes: B the texts that are still being written, R their readings (two of a guided text), T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from movieplotgpt.generation.guidance import guide
from movieplotgpt.generation.sampling import Chosen, choose
from movieplotgpt.generation.writing import Writing
from movieplotgpt.model.decoder import Decoder
from movieplotgpt.model.kv_cache import KVCache


@torch.inference_mode()
def write(decoder: Decoder, texts: Sequence[Writing], vocab_size: int) -> Iterator[tuple[int, str]]:
    """Write all ``texts`` at once; yields (number of the text, what was added) for each token.

    A text that ends leaves the batch. A text whose window is full goes on in the window it would have been trained in:
    the header again, then the last of its tokens. A guided text is read twice, behind either header. Ids from
    ``vocab_size`` on are padding and never drawn.

    Raises:
        CheckpointError: the logits are no numbers.
    """
    rows = [(number, reading) for number, text in enumerate(texts) for reading in range(len(text.headers))]
    cache = decoder.new_cache(len(rows))
    while rows:
        last_ids = [
            _ready(decoder, cache.row(row), texts[number], reading) for row, (number, reading) in enumerate(rows)
        ]
        logits_RV = decoder(torch.tensor(last_ids, device=decoder.device)[:, None], cache)[:, -1, :vocab_size]
        numbers = list(dict.fromkeys(number for number, _ in rows))
        writing = [texts[number] for number in numbers]
        taken_back = dict.fromkeys(numbers, 0)
        for number, chosen in zip(numbers, _choose(logits_RV, writing), strict=True):
            piece, taken_back[number] = texts[number].take(chosen)
            yield number, piece
        for row, (number, reading) in enumerate(rows):
            _take_back(cache.row(row), texts[number], reading, taken_back[number])
        going_on = [row for row, (number, _) in enumerate(rows) if texts[number].finish_reason is None]
        if 0 < len(going_on) < len(rows):
            cache.keep(going_on)
        rows = [rows[row] for row in going_on]


def _choose(logits_RV: Tensor, texts: Sequence[Writing]) -> list[Chosen]:
    """The next token of each text, those of one config together."""
    firsts = list(accumulate((len(text.headers) for text in texts), initial=0))[:-1]
    guided = [
        guide(logits_RV[row], logits_RV[row + 1], text.config.guidance or 1.0) if len(text.headers) == 2 else None
        for row, text in zip(firsts, texts, strict=True)
    ]
    same: dict[int, list[int]] = {}
    for i, text in enumerate(texts):
        same.setdefault(id(text.config), []).append(i)
    chosen: dict[int, Chosen] = {}
    for own in same.values():
        some = [texts[i] for i in own]
        drawn = choose(
            logits_RV[[firsts[i] for i in own]],
            some[0].config,
            [text.random for text in some],
            [text.history() for text in some],
            [guided[i] for i in own],
        )
        chosen.update(zip(own, drawn, strict=True))
    return [chosen[i] for i in range(len(texts))]


def _ready(decoder: Decoder, cache: KVCache, text: Writing, reading: int) -> int:
    """Bring the cache of one reading up to all but its last token, which is returned: what the batch reads next."""
    if 0 < cache.length < text.context_length:
        return (text.body or text.headers[reading])[-1]
    window = text.window(reading)
    cache.reset()
    if len(window) > 1:
        decoder.read(torch.tensor([window[:-1]], device=decoder.device), cache)
    return window[-1]


def _take_back(cache: KVCache, text: Writing, reading: int, count: int) -> None:
    """Forget tokens of one reading; all of it, where it would now be read in an earlier window."""
    if count:
        kept = cache.length - count
        cache.shorten(kept if kept == len(text.window(reading)) - 1 else 0)

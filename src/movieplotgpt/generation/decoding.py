"""The loop from token to token, for one text or many.

Shapes: B the texts that are still being written, R their readings (two of a guided text), T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

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
    _read_prompts(decoder, cache, [tuple(texts[number].window(reading)) for number, reading in rows])
    while rows:
        last_ids = [
            _ready(decoder, cache.row(row), texts[number], reading) for row, (number, reading) in enumerate(rows)
        ]
        logits_RV = decoder.next_logits(torch.tensor(last_ids, device=decoder.device), cache)[:, :vocab_size].cpu()
        logits = dict(zip(rows, logits_RV, strict=True))
        numbers = sorted({number for number, _ in rows})
        taken_back = dict.fromkeys(numbers, 0)
        for number, chosen in _choose(logits, {number: texts[number] for number in numbers}):
            piece, taken_back[number] = texts[number].take(chosen)
            yield number, piece
        for row, (number, reading) in enumerate(rows):
            _take_back(cache.row(row), texts[number], reading, taken_back[number])
        going_on = [row for row, (number, _) in enumerate(rows) if texts[number].finish_reason is None]
        if len(going_on) < len(rows):
            rows = [rows[row] for row in cache.keep(going_on)]


def _read_prompts(decoder: Decoder, cache: KVCache, windows: Sequence[tuple[int, ...]]) -> None:
    """Read all but the last token of each window; one that several texts share is read once."""
    read: dict[tuple[int, ...], int] = {}
    for row, window in enumerate(windows):
        if window in read:
            cache.copy(read[window], row)
        elif len(window) > 1:
            decoder.read(torch.tensor([window[:-1]], device=decoder.device), cache.row(row))
            read[window] = row


def _choose(logits: Mapping[tuple[int, int], Tensor], texts: Mapping[int, Writing]) -> Iterator[tuple[int, Chosen]]:
    """The next token of each text, those of one config together; ``logits`` are by text and reading."""
    same: dict[tuple[int, int], list[int]] = {}
    for number, text in texts.items():
        same.setdefault((id(text.config), len(text.headers)), []).append(number)
    for (_, readings), numbers in same.items():
        config = texts[numbers[0]].config
        logits_BV, *without = (torch.stack([logits[number, k] for number in numbers]) for k in range(readings))
        randoms, histories = zip(*((texts[number].random, texts[number].history()) for number in numbers), strict=True)
        if not without:
            yield from zip(numbers, choose(logits_BV, config, randoms, histories), strict=True)
            continue
        logprobs_BV, without_BV = (each.double().log_softmax(-1) for each in (logits_BV, *without))
        strength = config.guidance or 1.0
        guided_BV = guide(logprobs_BV, without_BV, strength) if strength > 1 else None
        for row, chosen in enumerate(choose(logits_BV, config, randoms, histories, guided_BV)):
            gain = float(logprobs_BV[row, chosen.id] - without_BV[row, chosen.id])
            yield numbers[row], replace(chosen, gain=gain)


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

"""The loop from token to token, for one text or many: windows, KV cache, and where a text ends.

Shapes: B the texts that are still being written, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.sampling import SamplingConfig, choose
from movieplotgpt.model.gpt import GPT
from movieplotgpt.model.kv_cache import KVCache
from movieplotgpt.text.formatting import cut_pieces, fit_header, overlap_for
from movieplotgpt.text.tokenizers import Tokenizer

FinishReason = Literal["stop", "length"]


class Writing:
    """One text while it is written: the tokens so far, the window that goes on, and what ends it."""

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Tokenizer,
        context_length: int,
        *,
        seed: int,
        max_tokens: int,
        stop: Sequence[str],
    ) -> None:
        self.context_length, self.max_tokens, self.end_id = context_length, max_tokens, tokenizer.end_id
        self.header = fit_header([int(i) for i in tokenizer.encode(prompt.header)], context_length)
        self.body = [int(i) for i in tokenizer.encode(prompt.begun)]
        self.random = np.random.default_rng(seed)
        self.tokens = 0
        self.finish_reason: FinishReason | None = None
        self._decoder = tokenizer.decoder()
        self._stop = (*stop, tokenizer.end)  # the end marker spelled letter by letter ends a text as well
        self._held = ""  # text that may be the begin of a stop string

    def window(self) -> list[int]:
        """What the model reads to go on: begin token, header, and the piece that training would cut here."""
        overlap = overlap_for(self.context_length)
        piece = cut_pieces(len(self.header), len(self.body) + 1, self.context_length, overlap)[-1]
        return [self.end_id, *self.header, *self.body[piece.start :]]

    def take(self, token_id: int) -> str:
        """Add a token; return the text that is certain by now."""
        if token_id == self.end_id:
            return self._finish("stop", self._decoder.finish())
        self.body.append(token_id)
        self.tokens += 1
        self._held += self._decoder.push(token_id)
        found = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            self._held = self._held[: min(found)]
            return self._finish("stop")
        if self.tokens == self.max_tokens:  # half a character is left out
            return self._finish("length")
        certain = len(self._held) - max(held_back(self._held, stop) for stop in self._stop)
        text, self._held = self._held[:certain], self._held[certain:]
        return text

    def _finish(self, reason: FinishReason, rest: str = "") -> str:
        self.finish_reason = reason
        return self._held + rest


def held_back(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` are the begin of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


@torch.inference_mode()
def write(model: GPT, texts: Sequence[Writing], vocab_size: int, config: SamplingConfig) -> Iterator[tuple[int, str]]:
    """Write all ``texts`` at once; yields (number of the text, what was added) for each token.

    A text that ends leaves the batch. A text whose window is full goes on in the window it would have been trained in:
    the header again, then the last of its tokens. Ids from ``vocab_size`` on are padding and never drawn.

    Raises:
        CheckpointError: the logits are no numbers.
    """
    was_training = model.training
    cache = new_cache(model, len(texts))
    rows = list(range(len(texts)))
    try:
        while rows:
            if model.training:  # whoever trains it meanwhile has switched dropout on
                model.eval()
            last_ids = [_ready(model, cache.row(row), texts[number]) for row, number in enumerate(rows)]
            ids_BT = torch.tensor(last_ids, device=cache.keys.device)[:, None]
            logits_BV = model(ids_BT, cache)[:, -1, :vocab_size]
            chosen = choose(logits_BV, config, [texts[number].random for number in rows])
            for number, token_id in zip(rows, chosen, strict=True):
                yield number, texts[number].take(token_id)
            going_on = [row for row, number in enumerate(rows) if texts[number].finish_reason is None]
            if 0 < len(going_on) < len(rows):
                cache.keep(going_on)
            rows = [rows[row] for row in going_on]
    finally:
        model.train(was_training)


def new_cache(model: GPT, batch: int) -> KVCache:
    """An empty cache for ``batch`` texts of a full context."""
    config, weight = model.config, model.model.embed_tokens.weight
    return KVCache(
        config.n_layer,
        batch,
        config.n_kv_head,
        config.context_length,
        config.head_dim,
        dtype=model.compute_dtype,
        device=weight.device,
    )


def _ready(model: GPT, cache: KVCache, text: Writing) -> int:
    """Bring the cache of one text up to all but its last token, which is returned: what the batch reads next."""
    if 0 < cache.length < text.context_length:
        return text.body[-1]
    window = text.window()
    cache.reset()
    if len(window) > 1:
        model.hidden(torch.tensor([window[:-1]], device=cache.keys.device), cache)
    return window[-1]

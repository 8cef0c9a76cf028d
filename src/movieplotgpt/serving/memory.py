"""How much memory requests may take, so that the size printed at the start is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from movieplotgpt.errors import PromptError, QueueFullError
from movieplotgpt.generation.plots import PlotRequest
from movieplotgpt.generation.writing import MAX_TOKENS
from movieplotgpt.serving.requests import MOST_TOKENS

HELD = 512_000_000  # bytes, of all requests together
RUNNING_TOKEN = 300  # bytes, of a text that is being written
TOKEN = 16  # of one that is finished
PROBABILITY = 1_200  # of each reported token and of each other in its place, until an answer is sent
WAITING_CHARACTER = 16  # of a prompt, for each text that waits
UNREAD = 64  # pieces of a stream that wait for their client; then nothing more is written for it
_PIECE = 1_000  # bytes


@dataclass
class Memory:
    """What the requests of each client hold, in bytes: ``most`` of all together, half of it of one client."""

    most: int = HELD
    held: Counter[str] = field(default_factory=Counter)

    def hold(self, client: str, size: int) -> None:
        """Count ``size`` bytes.

        Raises:
            PromptError: they can never be had.
            QueueFullError: others hold too much just now.
        """
        if size > self.most // 2:
            raise PromptError(
                f"the answer may take {size / 1e6:,.0f} MB of memory, and at most {self.most / 2e6:,.0f} MB are allowed; ask "
                "for fewer texts, fewer tokens (max_tokens) or fewer logprobs"
            )
        if self.held[client] + size > self.most // 2 or self.held.total() + size > self.most:
            raise QueueFullError("the answers under way take too much memory; try again in a while")
        self.held[client] += size

    def release(self, client: str, size: int) -> None:
        """Count ``size`` bytes no more."""
        self.held[client] -= size
        if not self.held[client]:
            del self.held[client]


def size_of(requests: Sequence[PlotRequest], kind: str, readings: int, *, keep: bool) -> int:
    """Return the bytes that the texts of ``requests`` take until their answer is sent, beside those being written.

    ``kind`` is that of the tokenizer, ``readings`` the number of places. Without ``keep`` they are streamed and not kept.
    """
    size = 0
    for request in requests:
        config = request.config
        tokens = config.max_tokens or max(MAX_TOKENS[kind], config.target_characters or 0) * 5 // 4
        reported = 0 if config.logprobs is None else config.logprobs + 1
        of_token = TOKEN + (PROBABILITY * reported if keep else 0)
        if request.candidates > 1:
            of_token += RUNNING_TOKEN * request.candidates
        waiting = WAITING_CHARACTER * len(request.prompt.header + request.prompt.begun) * request.candidates
        size += tokens * of_token + waiting
    if not keep and requests[0].config.logprobs is not None:
        size += (UNREAD + readings) * PROBABILITY * (requests[0].config.logprobs + 1)
    return size + (UNREAD + readings) * _PIECE


def running_bytes(readings: int) -> int:
    """Return what the texts take that are written at once."""
    return readings * MOST_TOKENS * RUNNING_TOKEN

"""What is asked for, and what comes of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from movieplotgpt.generation.prompts import Prompt
from movieplotgpt.generation.sampling import Chosen
from movieplotgpt.generation.settings import SamplingConfig, SamplingKeywords
from movieplotgpt.generation.writing import FinishReason, Seed, Writing
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.stream_decoder import StreamDecoder
from movieplotgpt.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenProbability:
    """A token that was written: its log-probability under the model, in nats, and the likeliest ones in its place."""

    text: str
    logprob: float
    others: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Plot:
    """A text and how it came about.

    ``text`` is everything after the header: the beginning given by the prompt, and what the model wrote. ``tokens`` counts
    what it wrote, without the end token. ``finish_reason`` is "stop" where the text ended, by itself or before a stop
    string, "length" where it was cut at ``max_tokens``, "unmet" where a wish was not met, which ``unmet`` names,
    "stopped" where a stream was. ``changes`` says what was changed in the prompt: ``é→e``; ``begun`` is the text's begin
    that the prompt gave. ``title_gain`` is by how many nats a token title and hints made the text likelier, where it was
    read without them, too. ``probabilities`` holds each token that was written, where ``logprobs`` asked for them.
    """

    title: str
    prompt: str
    text: str
    finish_reason: FinishReason
    seed: int
    tokens: int
    max_tokens: int
    hints: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    begun: str = ""
    unmet: tuple[str, ...] = ()
    title_gain: float | None = field(default=None, compare=False)  # beside others its last digits differ
    probabilities: tuple[TokenProbability, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def plan(self) -> str:
        """The plan that the text follows, or an empty string."""
        return self.hints.get(PLAN, "")


class PlotKeywords(SamplingKeywords, total=False):
    """What may be asked of a plot besides its title: hints, a beginning or a whole prompt, and how to sample."""

    prompt: str | None
    begin: str
    hints: Mapping[str, str] | None
    sampling: SamplingConfig | None


@dataclass(frozen=True)
class PlotRequest:
    """One text to be written; the ``rank``-th candidate of several draws by its own numbers."""

    prompt: Prompt
    config: SamplingConfig
    seed: int
    rank: int = 0
    of_plan: bool = False  # for a plan rather than a text, see planning.py

    @property
    def drawn_by(self) -> Seed:
        """What seeds the draws: the header is part of it, or plots for different titles would begin alike."""
        return (self.seed, self.rank, zlib.crc32(self.prompt.header.encode()))

    @property
    def _wished(self) -> bool:
        return bool(self.prompt.title or self.prompt.hints)

    @property
    def candidates(self) -> int:
        """How many texts to choose from; without a title and hints there is nothing to choose by."""
        return self.config.best_of or 1 if self._wished else 1

    @property
    def compared(self) -> bool:
        """Whether it is read without its title and hints, too: to be guided, or to know the best."""
        return self._wished and ((self.config.guidance or 1) > 1 or self.candidates > 1)

    @property
    def readings(self) -> int:
        """How often each of its tokens is read."""
        return 2 if self.compared else 1

    def all_candidates(self) -> list[PlotRequest]:
        """The same with draws of their own, the first with the request's."""
        return [replace(self, rank=rank) for rank in range(self.candidates)]


def plot_of(
    request: PlotRequest,
    writing: Writing,
    tokenizer: Tokenizer,
    probabilities: Sequence[TokenProbability] | None = None,
) -> Plot:
    """Return the plot of a finished text; ``probabilities`` are those of its tokens, if they are known already."""
    assert writing.finish_reason is not None, "the text is still being written"
    if probabilities is None:
        kept = request.config.logprobs is not None
        probabilities = token_probabilities(writing.chosen, tokenizer) if kept else ()
    prompt = request.prompt
    return Plot(
        title=prompt.title,
        prompt=prompt.header + prompt.begun,
        text=prompt.begun + writing.told,
        finish_reason=writing.finish_reason,
        seed=request.seed,
        tokens=writing.tokens,
        max_tokens=writing.max_tokens,
        hints=prompt.hints,
        changes=prompt.changes,
        begun=prompt.begun,
        unmet=writing.unmet,
        title_gain=writing.title_gain,
        probabilities=tuple(probabilities),
    )


def token_probabilities(
    chosen: Sequence[Chosen], tokenizer: Tokenizer, decoder: StreamDecoder | None = None
) -> tuple[TokenProbability, ...]:
    """Return each token with the characters it completes: of a character in several tokens the last one has it.

    ``decoder`` has decoded the tokens before.
    """
    decoder = decoder or tokenizer.decoder()
    made = []
    for each in chosen:
        assert each.logprob is not None, "log-probabilities were not kept"
        others = tuple((tokenizer.decode([id_]), logprob) for id_, logprob in each.others)
        made.append(TokenProbability(decoder.push(each.id), each.logprob, others))
    return tuple(made)

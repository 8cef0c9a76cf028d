"""What a client asked a server to write: a job, its texts, and what is reported of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.plots import Plot, PlotRequest, TokenProbability, plot_of, token_probabilities
from movieplotgpt.generation.writing import Writing
from movieplotgpt.serving.tokens import TokenPrompt, spelled
from movieplotgpt.text.stream_decoder import StreamDecoder
from movieplotgpt.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextUpdate:
    """What is new of the ``index``-th text of a job.

    A piece with its tokens' probabilities, the plan that was written before its first, or the whole plot at its end.
    """

    index: int
    piece: str = ""
    tokens: Sequence[TokenProbability] = ()
    plan: str = ""
    plot: Plot | None = None


Tell: TypeAlias = Callable[[TextUpdate | Exception], None]


class JobWriter(Protocol):
    """What writes the texts of a job."""

    def cancel(self, job: Job) -> None:
        """Stop writing it."""

    def resume(self, job: Job) -> None:
        """Continue to write it."""


@dataclass(eq=False)
class Job:
    """The texts that ``client`` asked for; ``tell`` is called in the scheduler's thread.

    While ``paused``, none of it is written. Without ``keep`` the probabilities of tokens are dropped once they are sent.
    """

    writer: JobWriter
    requests: list[PlotRequest]
    tell: Tell
    client: str = ""
    keep: bool = True
    paused: bool = False
    texts: list[Text] = field(default_factory=list)
    waiting: deque[Text] = field(default_factory=deque)
    cancelled: bool = False
    ended: bool = False

    def cancel(self) -> None:
        """Stop writing it; its places are free within a step."""
        self.writer.cancel(self)

    def pause(self) -> None:
        """Stop writing it until ``resume``."""
        self.paused = True

    def resume(self) -> None:
        """Continue to write it."""
        self.writer.resume(self)

    def add(self, generator: PlotGenerator, requests: Mapping[int, PlotRequest]) -> None:
        """Let all candidates of requests wait; the requests are given by the numbers of their texts."""
        candidates = [(index, each) for index, request in requests.items() for each in request.all_candidates()]
        writings = generator.writings([candidate for _, candidate in candidates])
        for (index, candidate), writing in zip(candidates, writings, strict=True):
            if isinstance(candidate.prompt, TokenPrompt):
                writing.body = [*candidate.prompt.begun_ids]
            text = Text(self, index, candidate, writing, generator.checkpoint.tokenizer.decoder())
            self.texts.append(text)
            self.waiting.append(text)

    def candidates_of(self, text: Text) -> list[Text]:
        """Return the texts, or the plans, of the same request as ``text``."""
        same = (text.index, text.request.of_plan)
        return [other for other in self.texts if (other.index, other.request.of_plan) == same]

    def rests(self, closing: bool) -> bool:
        """Return whether it is paused; nothing is while the server is ``closing``."""
        return self.paused and not closing


@dataclass(eq=False)
class Text:
    """One candidate of one request of a job."""

    job: Job
    index: int
    request: PlotRequest
    writing: Writing
    decoder: StreamDecoder  # of the tokens that were sent
    told: int = 0  # tokens
    reported: list[TokenProbability] = field(default_factory=list)  # those that the plot will have
    done: bool = False

    def new_tokens(self, tokenizer: Tokenizer) -> Sequence[TokenProbability]:
        """Return the tokens that became certain since the last call, if their probabilities are asked for."""
        if self.request.config.logprobs is None:
            return ()
        before, self.told = self.told, self.writing.certain_tokens
        chosen = self.writing.chosen[before : self.told]
        tokens = spelled(tokenizer, token_probabilities(chosen, tokenizer, self.decoder), chosen)
        self.writing.chosen[before : self.told] = [replace(each, others=()) for each in chosen]
        if self.job.keep or self.request.candidates > 1:
            self.reported += tokens
        return tokens

    def plot(self, tokenizer: Tokenizer) -> Plot:
        """Return the plot of the text, which is finished."""
        return plot_of(self.request, self.writing, tokenizer, self.reported)

"""The models that are served: each with its scheduler, and what a client may know of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from threading import Lock
from typing import Any

from starlette.requests import ClientDisconnect, Request

from movieplotgpt.engine.model_config import kv_cache_bytes, parameters
from movieplotgpt.errors import ContextLengthError, DataError, PromptError, UnknownModelError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.guidance import knows_no_title
from movieplotgpt.generation.plots import Plot, PlotRequest, TokenProbability, token_probabilities
from movieplotgpt.generation.prompts import usual_hints
from movieplotgpt.generation.sampling import Chosen, likeliest, log_softmax
from movieplotgpt.serving.answers import Model, now
from movieplotgpt.serving.jobs import TextUpdate
from movieplotgpt.serving.memory import HELD, UNREAD, Memory, running_bytes, size_of
from movieplotgpt.serving.scheduler import Scheduler
from movieplotgpt.serving.tokens import prompt_ids, spelled
from movieplotgpt.serving.upstream import Upstream
from movieplotgpt.serving.workers import in_worker

MOST_OF_BODIES = 128_000_000  # bytes that are received and not yet read, of all requests together
KEEP_ALIVE_SECONDS = 15.0  # without news; many proxies hang up after 30 or 60


@dataclass(frozen=True)
class PromptReading:
    """What a model makes of a prompt: its tokens with their probabilities, and the end token after them."""

    tokens: tuple[TokenProbability, ...]
    end: TokenProbability


@dataclass
class ServedModel:
    """A model that is served under ``name``; ``turn`` is held while it reads a prompt, as while its scheduler takes a step."""

    name: str
    generator: PlotGenerator
    scheduler: Scheduler | Upstream
    turn: Lock = field(default_factory=Lock)
    created: int = field(default_factory=now)

    def about(self) -> Model:
        """Return what clients may know of the model."""
        checkpoint = self.generator.checkpoint
        config = checkpoint.config
        return Model(
            id=self.name,
            created=self.created,
            parameters=parameters(config),
            context_length=config.context_length,
            vocab_size=checkpoint.tokenizer.vocab_size,
            tokenizer=checkpoint.tokenizer.kind,
            titles=bool(checkpoint.format.header),
            hints=list(checkpoint.format.hints),
            hint_values={name: [*values] for name, values in usual_hints(checkpoint).items()},
            cast=bool(self.generator.builder.defaults["cast"]),
            guided=knows_no_title(checkpoint) and isinstance(self.scheduler, Scheduler),
            copies=self._knows_copies(),
            bits_per_character=checkpoint.record.evaluation.bits_per_character,
        )

    def card(self) -> str:
        """The model card, as Markdown; empty where it has none."""
        folder = self.generator.checkpoint.folder
        path = folder / "README.md" if folder else None
        return path.read_text(encoding="utf-8") if path and path.is_file() else ""

    def prompt_tokens(self, request: PlotRequest) -> int:
        """Return the number of tokens of a prompt: the BOS token, the header and the beginning of the text.

        Raises:
            ContextLengthError: they are more than the context holds.
        """
        tokenizer = self.generator.checkpoint.tokenizer
        self.check_length(len(request.prompt.header + request.prompt.begun) // tokenizer.longest_token, " or more")
        tokens = 1 + len(prompt_ids(tokenizer, request.prompt))
        self.check_length(tokens)
        return tokens

    def check_length(self, tokens: int, more: str = "") -> None:
        """Check that a prompt of ``tokens`` tokens fits into the context.

        Raises:
            ContextLengthError: it does not.
        """
        if tokens > (most := self.generator.checkpoint.config.context_length):
            raise ContextLengthError(  # clients look for these words
                f"this model's maximum context length is {most} tokens, but the prompt has {tokens}{more}; shorten the prompt"
            )

    def read_prompt(self, request: PlotRequest, others: int) -> PromptReading:
        """Return each token of a prompt after the BOS token, with the ``others`` likeliest ones in its place."""
        tokenizer = self.generator.checkpoint.tokenizer
        ids = prompt_ids(tokenizer, request.prompt)
        with self.turn:
            logits_TV = self.generator.engine().logits([tokenizer.end_id, *ids])
        logprobs_TV = log_softmax(logits_TV[:, : tokenizer.vocab_size])
        chosen = [
            Chosen(id_, logprob=float(logprobs_V[id_]), others=likeliest(logprobs_V, others) if others else ())
            for id_, logprobs_V in zip([*ids, tokenizer.end_id], logprobs_TV, strict=True)
        ]
        *read, end = spelled(tokenizer, token_probabilities(chosen, tokenizer), chosen)
        return PromptReading(tuple(read), end)

    def check_number(self, texts: int) -> None:
        """Return whether as many can ever be taken.

        Raises:
            PromptError: they cannot.
        """
        most = self.scheduler.most_waiting
        if not 0 < texts <= most:
            raise PromptError(
                f"{texts:,} texts are asked for (n times best_of, for each prompt); at least 1 and at most {most:,}"
            )

    def _knows_copies(self) -> bool:
        try:
            return self.generator.copies is not None
        except DataError:
            return False


class ServedModels(dict[str, ServedModel]):
    """All of them; the first is the one that is meant where none is named."""

    def __init__(self, models: Iterable[ServedModel], memory: int = HELD) -> None:
        super().__init__({model.name: model for model in models})
        self.memory = Memory(memory)

    @classmethod
    def scheduled(cls, generators: Mapping[str, PlotGenerator], *, readings: int, waiting: int) -> ServedModels:
        """Return models that write in this process, each with ``readings`` places and at most ``waiting`` texts in its queue."""
        turn = Lock()
        return cls(
            ServedModel(name, generator, Scheduler(generator, readings=readings, waiting=waiting, turn=turn), turn)
            for name, generator in generators.items()
        )

    def named(self, name: str | None) -> ServedModel:
        """The model of that name, or the first.

        Raises:
            UnknownModelError: no such model is served.
        """
        if name is None:
            return next(iter(self.values()))
        if name not in self:
            raise UnknownModelError(f"no model {name!r} is served; there is {', '.join(self)}")
        return self[name]

    @property
    def most_bytes(self) -> int:
        """Return what requests may take at most, beside the models: keys and values, texts, answers and bodies."""
        return (
            self.memory.most
            + MOST_OF_BODIES
            + sum(
                kv_cache_bytes(
                    each.generator.checkpoint.config, each.generator.engine().precision, batch=each.scheduler.readings
                )
                + running_bytes(each.scheduler.readings)
                for each in self.values()
            )
        )

    def close(self) -> None:
        """Finish what runs."""
        for model in self.values():
            model.scheduler.close()


class Answer:
    """What the scheduler reports of one HTTP request, as it comes; a client that goes away ends it within a step.

    ``async with`` it: what it holds is released at the end. A stream is read by ``async for``: while the client does not
    read, nothing more is written for it. Without ``keep`` the probabilities of a stream are not in its plots.

    Raises:
        QueueFullError: too much waits already.
        PromptError: the answer would take too much memory.
    """

    def __init__(
        self, http: Request, model: ServedModel, requests: Sequence[PlotRequest], *, keep: bool = True
    ) -> None:
        self._http, self._scheduler, self._requests, self._keep = http, model.scheduler, requests, keep
        self._left = len(requests)
        self._queue: asyncio.Queue[TextUpdate | Exception | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._client, self._memory = client_of(http), served(http).memory
        self._size = size_of(requests, model.generator.checkpoint.tokenizer.kind, self._scheduler.readings, keep=keep)
        self._held = 0
        self._job: Any = None
        self._gone: asyncio.Future[None] | None = None
        self._quiet = False  # whether nothing came since the last beat
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Answer:
        """Submit the requests."""
        self._memory.hold(self._client, self._size)
        self._held = self._size
        try:
            submit = partial(self._scheduler.submit, self._requests, self._hear, client=self._client, keep=self._keep)
            if isinstance(self._scheduler, Upstream):  # which works in this thread
                self._job = submit()
            else:
                self._job = await in_worker(weight_of(self._requests), submit)
        except BaseException:
            self.close()
            raise
        self._gone = asyncio.ensure_future(_gone(self._http))
        self._gone.add_done_callback(self._leave)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Release what is held."""
        self.close()

    def close(self) -> None:
        """Write no more of it, and release what is held."""
        self._memory.release(self._client, self._held)
        self._held = 0
        if self._gone:
            self._gone.cancel()
        if self._job:
            self._job.cancel()
        if self._timer:
            self._timer.cancel()

    def _hear(self, told: TextUpdate | Exception) -> None:
        """In the scheduler's thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, told)
        except RuntimeError:  # the loop is closed: nobody listens any more
            if self._job:
                self._job.cancel()

    def _take(self, told: TextUpdate | Exception) -> None:
        self._queue.put_nowait(told)
        if self._job and self._queue.qsize() >= UNREAD:
            self._job.pause()

    def _leave(self, gone: asyncio.Future[None]) -> None:
        if gone.cancelled():
            return
        self.close()
        self._queue.put_nowait(ClientDisconnect())

    def _beat(self) -> None:
        if self._quiet:
            self._queue.put_nowait(None)
        self._quiet = True
        self._timer = self._loop.call_later(KEEP_ALIVE_SECONDS, self._beat)

    async def __aiter__(self) -> AsyncIterator[TextUpdate | None]:
        """Yield what comes, and None when nothing came for ``KEEP_ALIVE_SECONDS`` or up to twice as long."""
        self._beat()
        while self._left:
            told = await self._queue.get()
            if self._queue.qsize() == UNREAD // 2:
                self._job.resume()
            if isinstance(told, Exception):
                raise told
            if told is not None:
                self._quiet = False
                self._left -= told.plot is not None
            yield told

    async def plots(self) -> list[Plot]:
        """Return all plots when they are whole, in the order of their requests."""
        found = {told.index: told.plot async for told in self if told and told.plot}
        return [found[index] for index in sorted(found)]


class Unwritten(Answer):
    """The answer to requests for no tokens: each plot as its prompt began it."""

    def __init__(self, requests: Sequence[PlotRequest]) -> None:
        self._requests = requests

    async def __aenter__(self) -> Answer:
        """Nothing is submitted."""
        return self

    def close(self) -> None:
        """Nothing is held."""

    async def __aiter__(self) -> AsyncIterator[TextUpdate | None]:
        """Yield each plot."""
        for index, request in enumerate(self._requests):
            prompt = request.prompt
            plot = Plot(
                title=prompt.title,
                prompt=prompt.header + prompt.begun,
                text=prompt.begun,
                finish_reason="length",
                seed=request.seed,
                tokens=0,
                max_tokens=0,
                hints=prompt.hints,
                changes=prompt.changes,
                begun=prompt.begun,
            )
            yield TextUpdate(index, plot=plot)


def served(http: Request) -> ServedModels:
    """Those of the application that a request came to."""
    models: ServedModels = http.app.state.models
    return models


def client_of(http: Request) -> str:
    """Return the address that a request came from: of IPv6 the network, in which a client has many."""
    address = http.client.host if http.client else ""
    try:
        if (known := ip_address(address)).version == 6:
            return str(ip_network((known, 64), strict=False))
    except ValueError:  # of a test, or of a socket in the file system
        pass
    return address


def weight_of(requests: Sequence[PlotRequest]) -> int:
    """Return about how many characters are read to prepare ``requests``."""
    texts = sum(request.candidates for request in requests)
    return 500 * texts + len(requests[0].prompt.begun) * len(requests)


def weight_of_plots(plots: Sequence[Plot]) -> int:
    """Return about how many characters the answer with ``plots`` has."""
    others = sum(len(token.others) + 1 for plot in plots for token in plot.probabilities)
    return sum(len(plot.text) for plot in plots) + 50 * others


async def _gone(http: Request) -> None:
    """Returns when the client has left."""
    while (await http.receive())["type"] != "http.disconnect":
        pass

"""The models that are served: each with its scheduler, and what a client may know of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from starlette.requests import ClientDisconnect, Request

from movieplotgpt.engine.model_config import kv_cache_bytes, parameters
from movieplotgpt.errors import DataError, MoviePlotGPTError, PromptError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.guidance import knows_no_title
from movieplotgpt.generation.plots import Plot, PlotRequest, TokenProbability
from movieplotgpt.generation.sampling import Chosen, likeliest, log_softmax
from movieplotgpt.serving.answers import Model, now
from movieplotgpt.serving.scheduler import Scheduler, Told
from movieplotgpt.serving.tokens import prompt_ids, spelled
from movieplotgpt.serving.upstream import Upstream

KEEP_ALIVE_SECONDS = 15.0  # without news; many proxies hang up after 30 or 60


class UnknownModelError(MoviePlotGPTError):
    """No model of that name is served."""


class ContextLengthError(PromptError):
    """A prompt is longer than the context."""


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
        """What a client may know."""
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
            guided=knows_no_title(checkpoint) and isinstance(self.scheduler, Scheduler),
            copies=self._knows_copies(),
            bits_per_character=checkpoint.info.get("evaluation", {}).get("bits_per_character"),
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
        checkpoint = self.generator.checkpoint
        tokens, most = 1 + len(prompt_ids(checkpoint.tokenizer, request.prompt)), checkpoint.config.context_length
        if tokens > most:
            raise ContextLengthError(  # clients look for these words
                f"this model's maximum context length is {most} tokens, but the prompt has {tokens}; shorten the prompt"
            )
        return tokens

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
        *read, end = spelled(tokenizer, self.generator.probabilities(chosen), chosen)
        return PromptReading(tuple(read), end)

    def check_number(self, texts: int) -> None:
        """Whether as many can ever be taken.

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

    def __init__(self, models: Iterable[ServedModel]) -> None:
        super().__init__({model.name: model for model in models})

    @classmethod
    def scheduled(cls, generators: Mapping[str, PlotGenerator], *, readings: int, waiting: int) -> ServedModels:
        """Models that write here: ``readings`` places each, and as many texts may wait as ``waiting`` says."""
        turn = Lock()
        return cls(
            ServedModel(name, generator, Scheduler(generator, readings=readings, waiting=waiting, turn=turn), turn)
            for name, generator in generators.items()
        )

    def named(self, name: str | None) -> ServedModel:
        """The model of that name, or the first.

        Raises:
            UnknownModelError: there is none.
        """
        if name is None:
            return next(iter(self.values()))
        if name not in self:
            raise UnknownModelError(f"no model {name!r} is served; there is {', '.join(self)}")
        return self[name]

    @property
    def cache_bytes(self) -> int:
        """What keys and values take when every place is taken."""
        return sum(
            kv_cache_bytes(
                each.generator.checkpoint.config, each.generator.engine().precision, batch=each.scheduler.readings
            )
            for each in self.values()
        )

    def close(self) -> None:
        """Finish what runs."""
        for model in self.values():
            model.scheduler.close()


class Answer:
    """What the scheduler reports of one HTTP request, as it comes; a client that goes away ends it within a step.

    Raises:
        QueueFullError: too much waits already.
    """

    def __init__(self, http: Request, model: ServedModel, requests: Sequence[PlotRequest]) -> None:
        self._left = len(requests)
        self._queue: asyncio.Queue[Told | Exception | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._job = model.scheduler.submit(requests, self._hear)
        self._gone = asyncio.ensure_future(_gone(http))
        self._gone.add_done_callback(self._leave)
        self._quiet = False  # whether nothing came since the last beat
        self._timer: asyncio.TimerHandle | None = None

    def _hear(self, told: Told | Exception) -> None:
        """In the scheduler's thread."""
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, told)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self._job.cancel()

    def _leave(self, gone: asyncio.Future[None]) -> None:
        self._job.cancel()
        self._queue.put_nowait(ClientDisconnect())

    def _beat(self) -> None:
        if self._quiet:
            self._queue.put_nowait(None)
        self._quiet = True
        self._timer = self._loop.call_later(KEEP_ALIVE_SECONDS, self._beat)

    async def __aiter__(self) -> AsyncIterator[Told | None]:
        """Yield what comes, and None when nothing came for ``KEEP_ALIVE_SECONDS`` or up to twice as long."""
        self._beat()
        try:
            while self._left:
                told = await self._queue.get()
                if isinstance(told, Exception):
                    raise told
                if told is not None:
                    self._quiet = False
                    self._left -= told.plot is not None
                yield told
        finally:
            self._gone.cancel()
            self._job.cancel()
            if self._timer:
                self._timer.cancel()

    async def plots(self) -> list[Plot]:
        """Return all plots when they are whole, in the order of their requests."""
        found = {told.index: told.plot async for told in self if told and told.plot}
        return [found[index] for index in sorted(found)]


class Unwritten(Answer):
    """The answer to requests for no tokens: each plot as its prompt began it."""

    def __init__(self, requests: Sequence[PlotRequest]) -> None:
        self._requests = requests

    async def __aiter__(self) -> AsyncIterator[Told | None]:
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
            yield Told(index, plot=plot)


def served(http: Request) -> ServedModels:
    """Those of the application that a request came to."""
    models: ServedModels = http.app.state.models
    return models


async def _gone(http: Request) -> None:
    """Returns when the client has left."""
    while (await http.receive())["type"] != "http.disconnect":
        pass

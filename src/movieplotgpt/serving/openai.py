"""OpenAI's routes: models, completions, and chats as a thin adapter."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from movieplotgpt.errors import PromptError
from movieplotgpt.generation.plots import Plot, PlotRequest, TokenProbability
from movieplotgpt.generation.sampling import fresh_seed
from movieplotgpt.generation.settings import NO_PLAN
from movieplotgpt.serving.answers import (
    Chat,
    ChatChoice,
    ChatLogprobs,
    ChatMessage,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    Model,
    Models,
    Usage,
    event,
    now,
)
from movieplotgpt.serving.models import Answer, ServedModel, served
from movieplotgpt.serving.refusals import framed
from movieplotgpt.serving.requests import ChatRequest, CompletionRequest, StreamOptions

ChoiceT = TypeVar("ChoiceT", CompletionChoice, ChatChoice)

router = APIRouter(prefix="/v1", tags=["OpenAI"])
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": EVENT}}}}


@router.get("/models")
def models(http: Request) -> Models:
    """The models that are served."""
    return Models(data=[model.about() for model in served(http).values()])


@router.get("/models/{name}")
def model(http: Request, name: str) -> Model:
    """One of them."""
    return served(http).named(name).about()


@router.post("/completions", response_model=Completion, response_model_exclude_none=True, responses=STREAM)
async def completions(http: Request, body: CompletionRequest) -> Response | Completion | Chat:
    """Go on with a text."""
    model = served(http).named(body.model)
    model.check_number(body.texts(len(_prompts(body.prompt))))
    requests = completion_requests(model, body)
    told = _Completions(model, requests, body.echo, body.logprobs is not None)
    if body.echo and body.logprobs is not None:
        for number, request in enumerate(requests):
            told.echoed[number] = await asyncio.to_thread(model.prompt_probabilities, request, body.logprobs)
    return await _answer(http, model, requests, told, body.stream, body.stream_options)


@router.post("/chat/completions", response_model=Chat, response_model_exclude_none=True, responses=STREAM)
async def chat(http: Request, body: ChatRequest) -> Response | Completion | Chat:
    """A plot for the title that a user said last; where a model knows no titles, the text goes on."""
    model, title = served(http).named(body.model), body.title()
    model.check_number(body.texts())
    how: dict[str, Any] = {"titles": title} if model.generator.form.format.header else {"prompt": title}
    requests = model.generator.requests(**how, **body.sampling())
    told = _Chats(model, requests, bool(body.logprobs))
    return await _answer(http, model, requests, told, body.stream, body.stream_options)


def completion_requests(model: ServedModel, body: CompletionRequest) -> list[PlotRequest]:
    """``n`` for each prompt, one seed after the other.

    Raises:
        PromptError: a prompt is longer than the context, or an id is none of the tokenizer's.
    """
    settings = {"plan": NO_PLAN, **body.sampling()}  # continue the prompt unchanged
    seed, tokenizer = settings.pop("seed", None), model.generator.checkpoint.tokenizer
    seed = fresh_seed() if seed is None else seed
    requests: list[PlotRequest] = []
    for prompt in _prompts(body.prompt):
        if not isinstance(prompt, str):
            if wrong := [id_ for id_ in prompt if id_ >= tokenizer.vocab_size]:
                raise PromptError(f"{wrong[0]} is no id of {model.name}, which has {tokenizer.vocab_size:,}")
            ids = prompt[1:] if prompt[:1] == [tokenizer.end_id] else prompt
            prompt = tokenizer.decode(ids)
        requests += model.generator.requests(prompt=prompt, **settings, seed=seed + len(requests))
    return requests


async def _answer(
    http: Request,
    model: ServedModel,
    requests: Sequence[PlotRequest],
    told: _Told[ChoiceT],
    stream: bool,
    options: StreamOptions | None,
) -> Response | Completion | Chat:
    prompts = [model.prompt_tokens(request) for request in requests[:: requests[0].config.n]]
    answer = Answer(http, model, requests)
    if stream:
        usage = bool(options and options.include_usage)
        return StreamingResponse(framed(_events(answer, told, prompts, usage)), media_type="text/event-stream")
    plots = await answer.plots()
    choices = [_ended(told.whole(index, plot), plot) for index, plot in enumerate(plots)]
    return told.made(choices, Usage.of(sum(prompts), sum(plot.tokens for plot in plots)))


async def _events(answer: Answer, told: _Told[ChoiceT], prompts: Sequence[int], with_usage: bool) -> AsyncIterator[str]:
    tokens = 0
    for piece in told.begin():
        yield event(told.made([piece]))
    async for each in answer:
        if each.plan:
            continue
        if each.plot is None:
            yield event(told.made([told.piece(each.index, each.piece, each.tokens)]))
            continue
        tokens += each.plot.tokens
        yield event(told.made([_ended(told.end(each.index, each.plot), each.plot)]))
    if with_usage:
        yield event(told.made([], Usage.of(sum(prompts), tokens)))


def _ended(choice: ChoiceT, plot: Plot) -> ChoiceT:
    choice.finish_reason, choice.seed = plot.finish_reason, plot.seed
    return choice


class _Told(ABC, Generic[ChoiceT]):
    """How one answer is laid out, whole or in pieces."""

    def __init__(self, model: ServedModel, requests: Sequence[PlotRequest], logprobs: bool) -> None:
        self.model, self.requests, self.logprobs = model, requests, logprobs
        self.created = now()

    @abstractmethod
    def begin(self) -> list[ChoiceT]:
        """What is told before anything is written, where it is told in pieces."""

    @abstractmethod
    def piece(self, index: int, text: str, tokens: Sequence[TokenProbability]) -> ChoiceT:
        """What is told of a piece."""

    def end(self, index: int, plot: Plot) -> ChoiceT:
        """What is told when a plot has ended: all of it where it is the best of several, whose pieces were not told."""
        if self.requests[index].candidates > 1:
            return self.piece(index, plot.text[len(plot.begun) :], plot.probabilities)
        return self.piece(index, "", ())

    @abstractmethod
    def whole(self, index: int, plot: Plot) -> ChoiceT:
        """What is told of a plot at once."""

    @abstractmethod
    def made(self, choices: list[ChoiceT], usage: Usage | None = None) -> Completion | Chat:
        """The answer, or a piece of it, with these choices."""


class _Completions(_Told[CompletionChoice]):
    """As ``text_completion``."""

    def __init__(self, model: ServedModel, requests: Sequence[PlotRequest], echo: bool, logprobs: bool) -> None:
        super().__init__(model, requests, logprobs)
        self.id, self.echo = f"cmpl-{uuid.uuid4().hex}", echo
        self.echoed: dict[int, Sequence[TokenProbability]] = {}  # the prompt's, where they are told
        self.offsets = [len(self._echoed(request)) for request in requests]

    def _echoed(self, request: PlotRequest) -> str:
        return request.prompt.header + request.prompt.begun if self.echo else ""

    def begin(self) -> list[CompletionChoice]:
        return [
            CompletionChoice(
                index=index, text=self._echoed(request), logprobs=self._logprobs(self.echoed.get(index), 0)
            )
            for index, request in enumerate(self.requests if self.echo else ())
        ]

    def piece(self, index: int, text: str, tokens: Sequence[TokenProbability]) -> CompletionChoice:
        logprobs = self._logprobs(tokens, self.offsets[index])
        self.offsets[index] += sum(len(token.text) for token in tokens)
        return CompletionChoice(index=index, text=text, logprobs=logprobs)

    def whole(self, index: int, plot: Plot) -> CompletionChoice:
        text = self._echoed(self.requests[index]) + plot.text[len(plot.begun) :]
        logprobs = self._logprobs([*self.echoed.get(index, ()), *plot.probabilities], 0)
        return CompletionChoice(index=index, text=text, logprobs=logprobs)

    def _logprobs(self, tokens: Sequence[TokenProbability] | None, offset: int) -> CompletionLogprobs | None:
        return CompletionLogprobs.of(tokens, offset) if self.logprobs and tokens else None

    def made(self, choices: list[CompletionChoice], usage: Usage | None = None) -> Completion:
        return Completion(id=self.id, created=self.created, model=self.model.name, choices=choices, usage=usage)


class _Chats(_Told[ChatChoice]):
    """As ``chat.completion``."""

    def __init__(self, model: ServedModel, requests: Sequence[PlotRequest], logprobs: bool) -> None:
        super().__init__(model, requests, logprobs)
        self.id, self.whole_answer = f"chatcmpl-{uuid.uuid4().hex}", True

    def begin(self) -> list[ChatChoice]:
        self.whole_answer = False
        return [
            ChatChoice(index=index, delta=ChatMessage(role="assistant", content=request.prompt.begun))
            for index, request in enumerate(self.requests)
        ]

    def piece(self, index: int, text: str, tokens: Sequence[TokenProbability]) -> ChatChoice:
        message = ChatMessage(content=text if text or tokens else None)
        return ChatChoice(index=index, delta=message, logprobs=self._logprobs(tokens))

    def whole(self, index: int, plot: Plot) -> ChatChoice:
        message = ChatMessage(role="assistant", content=plot.text)
        return ChatChoice(index=index, message=message, logprobs=self._logprobs(plot.probabilities))

    def made(self, choices: list[ChatChoice], usage: Usage | None = None) -> Chat:
        kind = "chat.completion" if self.whole_answer else "chat.completion.chunk"
        return Chat(id=self.id, object=kind, created=self.created, model=self.model.name, choices=choices, usage=usage)

    def _logprobs(self, tokens: Sequence[TokenProbability]) -> ChatLogprobs | None:
        return ChatLogprobs.of(tokens) if self.logprobs and tokens else None


def _prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> Sequence[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    ids = [each for each in prompt if isinstance(each, int)]
    return [ids] if ids else [each for each in prompt if not isinstance(each, int)]

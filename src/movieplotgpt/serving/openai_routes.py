"""OpenAI's routes: models, completions, and chats as a thin adapter."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, Request, Response

from movieplotgpt.errors import PromptError
from movieplotgpt.generation.plots import Plot, PlotRequest, TokenProbability
from movieplotgpt.generation.sampling import fresh_seed
from movieplotgpt.generation.settings import NO_PLAN
from movieplotgpt.serving.answers import (
    KEEP_ALIVE,
    Chat,
    ChatChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    EventStream,
    JSONText,
    Model,
    Models,
    Usage,
    event,
    now,
)
from movieplotgpt.serving.models import Answer, PromptReading, ServedModel, Unwritten, served, weight_of_plots
from movieplotgpt.serving.refusals import framed
from movieplotgpt.serving.requests import ChatRequest, CompletionRequest, OpenAIRequest
from movieplotgpt.serving.routing import LenientRoute, weight_of_body
from movieplotgpt.serving.tokens import TokenPrompt, token_prompt
from movieplotgpt.serving.workers import in_worker

ChoiceT = TypeVar("ChoiceT", CompletionChoice, ChatChoice)

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=LenientRoute)
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": EVENT}}}}


@router.get("/models")
def models(http: Request) -> Models:
    """The models that are served."""
    return Models(data=[model.about() for model in served(http).values()])


@router.get("/models/{name:path}")  # names of the hub have a slash
def model(http: Request, name: str) -> Model:
    """One of them."""
    return served(http).named(name).about()


@router.post("/completions", response_model=Completion, responses=STREAM)
async def completions(http: Request, body: CompletionRequest) -> Response:
    """Continue a text."""
    model = served(http).named(body.model)
    model.check_number(body.texts(len(_prompts(body.prompt))))
    weight = await weight_of_body(http, body.texts(len(_prompts(body.prompt))))
    requests, prompts = await in_worker(weight, _prepared, model, completion_requests, body)
    readings = {}
    if body.echo and body.logprobs is not None:
        for number, request in enumerate(requests):
            readings[number] = await asyncio.to_thread(model.read_prompt, request, body.logprobs)
    layout = _Completions(model, requests, body.echo, body.logprobs is not None, readings)
    return await _answer(http, requests, layout, prompts, body)


@router.post("/chat/completions", response_model=Chat, responses=STREAM)
async def chat(http: Request, body: ChatRequest) -> Response:
    """Write a plot for the title in the last message of a user; a model without titles continues the message."""
    model = served(http).named(body.model)
    model.check_number(body.texts())
    weight = await weight_of_body(http, body.texts())
    requests, prompts = await in_worker(weight, _prepared, model, chat_requests, body)
    return await _answer(http, requests, _Chats(model, requests, bool(body.logprobs)), prompts, body)


RequestT = TypeVar("RequestT", CompletionRequest, ChatRequest)


def _prepared(
    model: ServedModel, made: Callable[[ServedModel, RequestT], list[PlotRequest]], body: RequestT
) -> tuple[list[PlotRequest], int]:
    """Return the requests, and how many tokens their prompts have, each counted once."""
    requests = made(model, body)
    return requests, sum(model.prompt_tokens(request) for request in requests[:: requests[0].config.n])


def chat_requests(model: ServedModel, body: ChatRequest) -> list[PlotRequest]:
    """Return ``n`` requests for the title of a chat, or for the text that a model without titles continues."""
    title = body.title()
    how: dict[str, Any] = {"titles": title} if model.generator.builder.form.format.header else {"prompt": title}
    return model.generator.requests(**how, hints=body.hints, **body.sampling())


def completion_requests(model: ServedModel, body: CompletionRequest) -> list[PlotRequest]:
    """Return ``n`` requests for each prompt, one seed after the other.

    Raises:
        PromptError: a token id is not in the vocabulary, or a plan is to be added to token ids.
    """
    settings = {"plan": NO_PLAN, **body.sampling()}  # continue the prompt unchanged
    seed, form = settings.pop("seed", None), model.generator.builder.form
    seed = fresh_seed() if seed is None else seed
    requests: list[PlotRequest] = []
    for prompt in _prompts(body.prompt):
        if isinstance(prompt, str):
            requests += model.generator.requests(prompt=prompt, **settings, seed=seed + len(requests))
            continue
        model.check_length(len(prompt))
        if wrong := [id_ for id_ in prompt if id_ >= form.tokenizer.vocab_size]:
            raise PromptError(f"{wrong[0]} is not a token id of {model.name}, which has {form.tokenizer.vocab_size:,}")
        if settings["plan"] != NO_PLAN:
            raise PromptError("a prompt of token ids is used as it is, and no plan can be added; leave the plan out")
        made = model.generator.requests(prompt="", **settings, seed=seed + len(requests))
        given = token_prompt(form, prompt)
        requests += [replace(request, prompt=given) for request in made]
    return requests


async def _answer(
    http: Request, requests: Sequence[PlotRequest], layout: _Layout[ChoiceT], prompts: int, body: OpenAIRequest
) -> Response:
    if body.wants_no_text:
        answer: Answer = Unwritten(requests)
    else:
        answer = Answer(http, layout.model, requests, keep=not body.stream)
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(framed(_events(await answer.__aenter__(), layout, prompts, usage)))
    async with answer:
        plots = await answer.plots()
        whole = await in_worker(weight_of_plots(plots), _whole, layout, plots, prompts)
    return JSONText(whole)


def _whole(layout: _Layout[ChoiceT], plots: Sequence[Plot], prompts: int) -> str:
    choices = [_ended(layout.whole(index, plot), plot) for index, plot in enumerate(plots)]
    return layout.made(choices, Usage.of(prompts, sum(plot.tokens for plot in plots))).model_dump_json()


async def _events(answer: Answer, layout: _Layout[ChoiceT], prompts: int, with_usage: bool) -> AsyncIterator[str]:
    tokens, without = 0, None if with_usage else {"usage"}
    try:
        for piece in layout.start():
            yield event(layout.made([piece]), without)
        async for told in answer:
            if told is None:
                yield KEEP_ALIVE
            elif told.plot:
                tokens += told.plot.tokens
                yield event(layout.made([_ended(layout.end(told.index, told.plot), told.plot)]), without)
            elif not told.plan:
                yield event(layout.made([layout.piece(told.index, told.piece, told.tokens)]), without)
        if with_usage:
            yield event(layout.made([], Usage.of(prompts, tokens)))
    finally:
        answer.close()


def _ended(choice: ChoiceT, plot: Plot) -> ChoiceT:
    """Return the choice with what is known at its end, in the words of OpenAI's schema, which knows no unmet wishes."""
    cut = plot.finish_reason == "length" or (plot.finish_reason == "unmet" and plot.tokens >= plot.max_tokens)
    choice.finish_reason, choice.seed = "length" if cut else "stop", plot.seed
    choice.unmet = [*plot.unmet] or None
    return choice


class _Layout(ABC, Generic[ChoiceT]):
    """How one answer is laid out, whole or in pieces."""

    def __init__(self, model: ServedModel, requests: Sequence[PlotRequest], logprobs: bool) -> None:
        self.model, self.requests, self.logprobs = model, requests, logprobs
        self.created = now()

    @abstractmethod
    def start(self) -> list[ChoiceT]:
        """Return what precedes the first piece."""

    @abstractmethod
    def piece(self, index: int, text: str, tokens: Sequence[TokenProbability]) -> ChoiceT:
        """Return a piece."""

    def end(self, index: int, plot: Plot) -> ChoiceT:
        """Return the last piece: all of the plot where it is the best of several, of which no pieces were sent."""
        if self.requests[index].candidates > 1:
            return self.piece(index, plot.text[len(plot.begun) :], plot.probabilities)
        return self.piece(index, "", ())

    @abstractmethod
    def whole(self, index: int, plot: Plot) -> ChoiceT:
        """Return a plot at once."""

    @abstractmethod
    def made(self, choices: list[ChoiceT], usage: Usage | None = None) -> Completion | Chat:
        """Return the answer, or a piece of it, with these choices."""


class _Completions(_Layout[CompletionChoice]):
    """As ``text_completion``; ``readings`` are those of the prompts, by the numbers of their requests."""

    def __init__(
        self,
        model: ServedModel,
        requests: Sequence[PlotRequest],
        echo: bool,
        logprobs: bool,
        readings: Mapping[int, PromptReading],
    ) -> None:
        super().__init__(model, requests, logprobs)
        self.id, self.echo, self.readings = f"cmpl-{uuid.uuid4().hex}", echo, readings
        self.offsets = [len(self._echoed(request)) for request in requests]

    def _echoed(self, request: PlotRequest) -> str:
        prompt = request.prompt
        return _marker(request) + prompt.header + prompt.begun if self.echo else ""

    def start(self) -> list[CompletionChoice]:
        return [
            CompletionChoice(index=index, text=self._echoed(request), logprobs=self._of_prompt(index))
            for index, request in enumerate(self.requests if self.echo else ())
        ]

    def _of_prompt(self, index: int, *more: TokenProbability) -> CompletionLogprobs | None:
        """Return the log-probabilities of a prompt and of ``more`` after it, if they are to be echoed."""
        if index not in self.readings:
            return self._logprobs(more, 0)
        return CompletionLogprobs.of([*self.readings[index].tokens, *more], 0, _marker(self.requests[index]))

    def _tokens(self, index: int, plot: Plot) -> Sequence[TokenProbability]:
        """Return the tokens of a plot; after a prompt that was read, the end token if that is all the model wrote."""
        if index in self.readings and plot.finish_reason == "stop" and not plot.tokens:
            return (self.readings[index].end,)  # lm-eval drops the last token, which must not be one of the prompt
        return plot.probabilities

    def piece(self, index: int, text: str, tokens: Sequence[TokenProbability]) -> CompletionChoice:
        logprobs = self._logprobs(tokens, self.offsets[index])
        self.offsets[index] += sum(len(token.text) for token in tokens)
        return CompletionChoice(index=index, text=text, logprobs=logprobs)

    def end(self, index: int, plot: Plot) -> CompletionChoice:
        choice = super().end(index, plot)
        if not plot.tokens:
            choice.logprobs = self._logprobs(self._tokens(index, plot), self.offsets[index])
        return choice

    def whole(self, index: int, plot: Plot) -> CompletionChoice:
        text = self._echoed(self.requests[index]) + plot.text[len(plot.begun) :]
        return CompletionChoice(index=index, text=text, logprobs=self._of_prompt(index, *self._tokens(index, plot)))

    def _logprobs(self, tokens: Sequence[TokenProbability], offset: int) -> CompletionLogprobs | None:
        return CompletionLogprobs.of(tokens, offset) if self.logprobs and tokens else None

    def made(self, choices: list[CompletionChoice], usage: Usage | None = None) -> Completion:
        return Completion(id=self.id, created=self.created, model=self.model.name, choices=choices, usage=usage)


class _Chats(_Layout[ChatChoice]):
    """As ``chat.completion``."""

    def __init__(self, model: ServedModel, requests: Sequence[PlotRequest], logprobs: bool) -> None:
        super().__init__(model, requests, logprobs)
        self.id, self.whole_answer = f"chatcmpl-{uuid.uuid4().hex}", True

    def start(self) -> list[ChatChoice]:
        self.whole_answer = False
        return [
            ChatChoice(index=index, delta=ChatDelta(role="assistant", content=request.prompt.begun))
            for index, request in enumerate(self.requests)
        ]

    def piece(self, index: int, text: str, tokens: Sequence[TokenProbability]) -> ChatChoice:
        delta = ChatDelta(content=text if text or tokens else None)
        return ChatChoice(index=index, delta=delta, logprobs=self._logprobs(tokens))

    def whole(self, index: int, plot: Plot) -> ChatChoice:
        message = ChatMessage(content=plot.text)
        return ChatChoice(index=index, message=message, logprobs=self._logprobs(plot.probabilities))

    def made(self, choices: list[ChatChoice], usage: Usage | None = None) -> Chat:
        kind = "chat.completion" if self.whole_answer else "chat.completion.chunk"
        return Chat(id=self.id, object=kind, created=self.created, model=self.model.name, choices=choices, usage=usage)

    def _logprobs(self, tokens: Sequence[TokenProbability]) -> ChatLogprobs | None:
        return ChatLogprobs.of(tokens) if self.logprobs and tokens else None


def _marker(request: PlotRequest) -> str:
    """Return the text of the BOS token if the client sent that token."""
    return request.prompt.marker if isinstance(request.prompt, TokenPrompt) else ""


def _prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> Sequence[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    ids = [each for each in prompt if isinstance(each, int)]
    return [ids] if ids else [each for each in prompt if not isinstance(each, int)]

"""The models of answers: OpenAI's shapes, with every key that its schema requires, and plots."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from movieplotgpt.generation.plots import Plot, TokenProbability
from movieplotgpt.serving.tokens import BYTES, shown, spellings
from movieplotgpt.text.copies import CopyReport

KEEP_ALIVE = ": keep-alive\n\n"  # a comment, which readers of events skip
LINE_ENDS = re.compile("[\x85\u2028\u2029]")  # where some readers of lines break them, besides line feeds
FinishReason = Literal["stop", "length"]


def _is_none(value: object) -> bool:
    return value is None


class Problem(BaseModel):
    """What is wrong: ``param`` is the field's path."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Refusal(BaseModel):
    """An error in OpenAI's shape."""

    error: Problem


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> Usage:
        """Return the usage of these numbers and their sum."""
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class CompletionLogprobs(BaseModel):
    """Of each token: its text, its log-probability, the likeliest tokens in its place, where it starts in the text.

    Nothing comes before a BOS token that the client sent, so its log-probability is null.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: Sequence[TokenProbability], offset: int, marker: str = "") -> CompletionLogprobs:
        """Return those of ``tokens``, the first of which starts at ``offset``, after ``marker``."""
        offsets = [*accumulate((len(token.text) for token in tokens), initial=offset + len(marker))]
        texts = [[shown(spelling, BYTES) for spelling in spellings(token)] for token in tokens]
        tops = [
            dict(zip(others, (logprob for _, logprob in token.others), strict=True))
            for token, (_, *others) in zip(tokens, texts, strict=True)
        ]
        first = [marker] if marker else []
        nothing: list[Any] = [None] * len(first)
        return cls(
            tokens=[*first, *(own for own, *_ in texts)],
            token_logprobs=[*nothing, *(token.logprob for token in tokens)],
            top_logprobs=[*nothing, *tops],
            text_offset=[*([offset] if marker else []), *offsets[:-1]],
        )


class CompletionChoice(BaseModel):
    """One text; ``seed`` writes it again, alone; ``unmet`` are the wishes that it does not meet."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None
    seed: int | None = Field(None, exclude_if=_is_none)
    unmet: list[str] | None = Field(None, exclude_if=_is_none)


class Completion(BaseModel):
    """OpenAI's ``text_completion``, whole or a piece."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ChatLogprob(BaseModel):
    """A token with its log-probability and its bytes, which may be a part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(ChatLogprob):
    """A token that was written, and the likeliest in its place."""

    top_logprobs: list[ChatLogprob]


class ChatLogprobs(BaseModel):
    """Of each token of the content."""

    content: list[ChatToken]
    refusal: None = None

    @classmethod
    def of(cls, tokens: Iterable[TokenProbability]) -> ChatLogprobs:
        """Return those of ``tokens``."""
        content = []
        for token in tokens:
            logprobs = (token.logprob, *(logprob for _, logprob in token.others))
            own, *others = map(_chat_logprob, spellings(token), logprobs)
            content.append(ChatToken(**own, top_logprobs=[ChatLogprob(**other) for other in others]))
        return cls(content=content)


class ChatMessage(BaseModel):
    """A plot, as the message of an assistant."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatDelta(BaseModel):
    """A piece of a message."""

    role: Literal["assistant"] | None = Field(None, exclude_if=_is_none)
    content: str | None = Field(None, exclude_if=_is_none)


class ChatChoice(BaseModel):
    """One answer: ``message`` when it is whole, ``delta`` of a piece."""

    index: int
    message: ChatMessage | None = Field(None, exclude_if=_is_none)
    delta: ChatDelta | None = Field(None, exclude_if=_is_none)
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None
    seed: int | None = Field(None, exclude_if=_is_none)
    unmet: list[str] | None = Field(None, exclude_if=_is_none)


class Chat(BaseModel):
    """OpenAI's ``chat.completion``, whole or a piece."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None


class PlotAnswer(BaseModel):
    """One plot: ``Plot`` and, where it was asked, what of it was copied."""

    index: int
    title: str
    hints: dict[str, str]
    begun: str
    text: str
    finish_reason: str
    unmet: list[str]
    seed: int
    tokens: int
    changes: list[str]
    title_gain: float | None = None
    probabilities: list[Any] | None = None
    copies: Any = None

    @classmethod
    def of(cls, index: int, plot: Plot, copies: CopyReport | None = None) -> PlotAnswer:
        """Return the answer for the ``index``-th plot."""
        told = asdict(replace(plot, probabilities=()))
        told["probabilities"] = [
            {"text": token.text, "logprob": token.logprob, "others": token.others} for token in plot.probabilities
        ] or None
        return cls(**told, index=index, copies=copies and asdict(copies))


class Plots(BaseModel):
    """What was asked for, in order."""

    object: Literal["plots"] = "plots"
    model: str
    plots: list[PlotAnswer]


class Model(BaseModel):
    """A served model, with the main facts of its card."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "movieplotgpt"
    parameters: int
    context_length: int
    vocab_size: int
    tokenizer: str
    titles: bool
    hints: list[str]
    hint_values: dict[str, list[str]] = Field(description="Usual values of each hint but the plan.")
    cast: bool = Field(description="Whether parentheses, in which film plots name actors, are written by default.")
    guided: bool
    copies: bool
    bits_per_character: float | None = None


class Models(BaseModel):
    """All that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


class Tokens(BaseModel):
    """The ids of a text, or their texts as well."""

    tokens: list[int] | list[dict[str, Any]]


class Content(BaseModel):
    """The text of ids."""

    content: str


class Health(BaseModel):
    """That the server is well, and what it does."""

    status: Literal["ok"] = "ok"
    models: list[str]
    running: int
    waiting: int


class Title(BaseModel):
    """A title that a model has invented."""

    title: str
    seed: int


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


class JSONText(Response):
    """A whole answer that is JSON already, made where it holds up no other."""

    media_type = "application/json"


class EventStream(StreamingResponse):
    """Server-sent events, which no proxy on the way holds back or keeps."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


def event(data: BaseModel | dict[str, Any] | str, without: set[str] | None = None) -> str:
    """Return a server-sent event; ``without`` are keys of a model that are left out."""
    if isinstance(data, BaseModel):
        data = data.model_dump_json(exclude=without)
    elif isinstance(data, dict):
        data = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return f"data: {data if data.isascii() else LINE_ENDS.sub(_escaped, data)}\n\n"


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _chat_logprob(spelling: bytes, logprob: float) -> dict[str, Any]:
    return {"token": shown(spelling), "logprob": logprob, "bytes": [*spelling]}

"""What a client gets: OpenAI's shapes, and plots."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any, Literal

from pydantic import BaseModel

from movieplotgpt.generation.plots import Plot, TokenProbability
from movieplotgpt.text.copies import CopyReport


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
        """Of these and their sum."""
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class CompletionLogprobs(BaseModel):
    """Of each token: its text, its natural logarithm, the likeliest in its place, where it begins in the text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: Sequence[TokenProbability], offset: int) -> CompletionLogprobs:
        """``offset`` is where the first begins."""
        offsets = accumulate((len(token.text) for token in tokens), initial=offset)
        return cls(
            tokens=[token.text for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[dict(token.others) for token in tokens],
            text_offset=[*offsets][:-1],
        )


class CompletionChoice(BaseModel):
    """One text; ``seed`` writes it again, alone."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    seed: int | None = None


class Completion(BaseModel):
    """OpenAI's ``text_completion``, whole or a piece."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ChatLogprob(BaseModel):
    """A token with its natural logarithm."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class ChatToken(ChatLogprob):
    """A token that was written, and the likeliest in its place."""

    top_logprobs: list[ChatLogprob]


class ChatLogprobs(BaseModel):
    """Of each token of the content."""

    content: list[ChatToken]

    @classmethod
    def of(cls, tokens: Iterable[TokenProbability]) -> ChatLogprobs:
        """Of these."""
        content = []
        for token in tokens:
            others = [ChatLogprob(**_chat_logprob(*other)) for other in token.others]
            content.append(ChatToken(**_chat_logprob(token.text, token.logprob), top_logprobs=others))
        return cls(content=content)


class ChatMessage(BaseModel):
    """A plot, said; of a piece either part may be missing."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer: ``message`` when it is whole, ``delta`` of a piece."""

    index: int
    message: ChatMessage | None = None
    delta: ChatMessage | None = None
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    seed: int | None = None


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
        """Of the ``index``-th."""
        told = asdict(plot)
        told["probabilities"] = told["probabilities"] or None
        return cls(**told, index=index, copies=copies and asdict(copies))


class Plots(BaseModel):
    """What was asked for, in order."""

    object: Literal["plots"] = "plots"
    model: str
    plots: list[PlotAnswer]


class Model(BaseModel):
    """A model that is served, with what its card says first."""

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


def event(data: BaseModel | dict[str, Any] | str) -> str:
    """One server-sent event."""
    if isinstance(data, BaseModel):
        data = data.model_dump_json(exclude_none=True)
    elif isinstance(data, dict):
        data = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return f"data: {data}\n\n"


def _chat_logprob(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

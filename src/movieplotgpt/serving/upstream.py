"""Another server writes: any that speaks OpenAI's completions, so that the page and /v1/plots can serve a cluster.

The local model lays out the prompts and finds copies; its weights are not used.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx

from movieplotgpt.errors import MoviePlotGPTError, PromptError, QueueFullError, UpstreamError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.plots import Plot, PlotRequest, TokenProbability
from movieplotgpt.generation.settings import NO_PLAN, SamplingConfig
from movieplotgpt.generation.writing import MAX_TOKENS, TOKENS_A_CHARACTER
from movieplotgpt.serving.jobs import Tell, TextUpdate
from movieplotgpt.serving.tokens import SpelledToken, TokenPrompt, prompt_ids, read_shown

SENT = (  # what llama.cpp and vLLM know by these names
    *("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("min_tokens", "max_tokens", "stop", "logprobs", "logit_bias"),
)
OURS = {
    "guidance": 1.0,
    "end_bias": 0.0,
    "distinct_names": False,
    "plan": NO_PLAN,
    "cast": True,
}  # what only our own servers know, and its neutral value
OPENAI_STOPS = 4  # at most; without its text the end token still ends a completion
SECONDS = httpx.Timeout(10.0, read=300.0, pool=None)


@dataclass(eq=False)
class _Job:
    upstream: Upstream
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    def pause(self) -> None:
        """Read no more of it for a while."""
        self.reading.clear()

    def resume(self) -> None:
        """Read it on."""
        self.reading.set()

    def cancel(self) -> None:
        """Hang up: the other server notices that nobody listens."""
        self.upstream.cancelled += any(not task.done() for task in self.tasks)
        for task in self.tasks:
            task.cancel()


class Upstream:
    """Takes the place of a ``Scheduler``: forwards requests and reports their pieces."""

    def __init__(
        self, generator: PlotGenerator, url: str, *, model: str | None = None, key: str | None = None, waiting: int
    ) -> None:
        self.generator, self.readings, self.most_waiting = generator, 0, waiting
        self.running = self.waiting = self.texts = self.tokens = self.cancelled = 0
        self._model = model
        generator.builder.defaults = OURS
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/", headers=headers, timeout=SECONDS, limits=httpx.Limits(max_connections=None)
        )

    def submit(self, requests: Sequence[PlotRequest], tell: Tell, *, client: str = "", keep: bool = True) -> _Job:
        """Request these texts; ``tell`` is called with every piece, every finished plot, or the error that ended the job.

        Raises:
            PromptError: a setting is asked for that other servers do not know.
            QueueFullError: too many texts are under way.
        """
        bodies = [self._body(request) for request in requests]
        if self.running + len(requests) > self.most_waiting:
            raise QueueFullError(f"{self.running} texts are under way, and at most {self.most_waiting} may be")
        job = _Job(self)
        job.resume()
        for index, (request, body) in enumerate(zip(requests, bodies, strict=True)):
            task = asyncio.get_running_loop().create_task(self._write(index, request, body, tell, job))
            task.add_done_callback(self._one_less)
            job.tasks.append(task)
        self.running += len(requests)
        return job

    def _one_less(self, task: asyncio.Task[None]) -> None:
        self.running -= 1

    def close(self) -> None:
        """Nothing is kept."""

    def _body(self, request: PlotRequest) -> dict[str, Any]:
        config, plain = request.config, SamplingConfig()
        unknown = [
            name
            for name in SamplingConfig.model_fields
            if name not in (*SENT, *OURS, "seed", "n", "target_characters")
            and getattr(config, name) != getattr(plain, name)
        ]
        unknown += [name for name, value in OURS.items() if getattr(config, name) not in (None, value)]
        if unknown:
            raise PromptError(f"{', '.join(unknown)}: the server that writes here does not know it; leave it out")
        kind = self.generator.checkpoint.tokenizer.kind
        length = int(TOKENS_A_CHARACTER[kind] * (config.target_characters or 0) / 2)
        sent = {name: value for name in SENT if (value := getattr(config, name)) not in (None, (), {})}
        tokenizer, prompt = self.generator.checkpoint.tokenizer, request.prompt
        by_ids = isinstance(prompt, TokenPrompt)
        return {
            "prompt": [tokenizer.end_id, *prompt_ids(tokenizer, prompt)] if by_ids else prompt.header + prompt.begun,
            "stream": True,
            "stream_options": {"include_usage": True},
            **sent,
            **({"model": self._model} if self._model else {}),
            "seed": request.seed,
            "stop": [*config.stop, tokenizer.end] if len(config.stop) < OPENAI_STOPS else config.stop,
            "max_tokens": config.max_tokens or length or MAX_TOKENS[kind],
        }

    async def _write(self, index: int, request: PlotRequest, body: dict[str, Any], tell: Tell, job: _Job) -> None:
        written, tokens, reason = "", 0, None
        probabilities: list[TokenProbability] = []
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            async for event in self._events(body):
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
                choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
                piece, told = choice.get("text") or "", _probabilities(choice.get("logprobs"), decoder)
                written, probabilities = written + piece, probabilities + told
                reason = choice.get("finish_reason") or reason
                if piece or told:
                    tell(TextUpdate(index, piece, told))
                await job.reading.wait()
            if reason is None:
                raise UpstreamError(f"the server at {self._client.base_url} has broken off")
        except Exception as error:  # whatever another server sends, the client hears of it
            known = isinstance(error, MoviePlotGPTError)
            tell(error if known else UpstreamError(f"the server at {self._client.base_url} does not send completions"))
            return
        self.texts, self.tokens = self.texts + 1, self.tokens + tokens
        prompt = request.prompt
        plot = Plot(
            title=prompt.title,
            prompt=prompt.header + prompt.begun,
            text=prompt.begun + written,
            finish_reason="stop" if reason == "stop" else "length",
            seed=request.seed,
            tokens=tokens,
            max_tokens=body["max_tokens"],
            hints=prompt.hints,
            changes=prompt.changes,
            begun=prompt.begun,
            probabilities=tuple(probabilities),
        )
        tell(TextUpdate(index, plot=plot))

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Those of a stream."""
        try:
            async with self._client.stream("POST", "completions", json=body) as answer:
                if answer.status_code != 200:
                    raise UpstreamError(f"{answer.url} answers {answer.status_code}: {_message(await answer.aread())}")
                async for data in _data(answer.aiter_bytes()):
                    if data == b"[DONE]":
                        return
                    event = json.loads(data)
                    if "error" in event:
                        raise UpstreamError(f"{answer.url} has failed: {_message(data)}")
                    yield event
        except (httpx.HTTPError, ValueError) as error:
            where = self._client.base_url
            raise UpstreamError(
                f"the server at {where} cannot be asked ({str(error) or type(error).__name__})"
            ) from None


async def _data(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events; lines end in a line feed and nothing else that Unicode knows for an end."""
    held = b""
    async for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").strip()


def _message(body: bytes) -> str:
    """Return the message of an error response, in OpenAI's form or not."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:500]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _probabilities(logprobs: dict[str, Any] | None, decoder: codecs.IncrementalDecoder) -> list[TokenProbability]:
    """Return the tokens of a completion as OpenAI and vLLM lay it out, or as llama.cpp does; ``decoder`` decoded those before."""
    if not logprobs:
        return []
    if "content" in logprobs:
        each = [
            (token, [(other["token"], other["logprob"]) for other in token.get("top_logprobs", ())])
            for token in logprobs["content"]
        ]
        return [_token(token["token"], token["logprob"], others, decoder) for token, others in each]
    others = logprobs.get("top_logprobs") or [{}] * len(logprobs["tokens"])
    return [
        _token(token, logprob, list((other or {}).items()), decoder)
        for token, logprob, other in zip(logprobs["tokens"], logprobs["token_logprobs"], others, strict=True)
    ]


def _token(
    text: str, logprob: float, others: Sequence[tuple[str, float]], decoder: codecs.IncrementalDecoder
) -> SpelledToken:
    spelling, spellings = read_shown(text), [read_shown(other) for other, _ in others]
    shown = (each.decode("utf-8", "replace") for each in spellings)
    told = tuple(zip(shown, (logprob for _, logprob in others), strict=True))
    return SpelledToken(decoder.decode(spelling), logprob, told, spelling, tuple(spellings))

"""Errors in OpenAI's shape, with the path of the field that is wrong; nobody sees a stack trace."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from movieplotgpt.errors import (
    ConfigError,
    ContextLengthError,
    DataError,
    MoviePlotGPTError,
    PromptError,
    QueueFullError,
    UnknownModelError,
    UpstreamError,
)
from movieplotgpt.serving.answers import Problem, Refusal, event
from movieplotgpt.serving.routing import InvalidBody

RETRY_AFTER = 2  # seconds
FIELD = re.compile(r"(?!constrained)\w+")  # not list[int] or constrained-str
TYPES = {  # status: type and usual code of the error, and its documentation
    400: ("invalid_request_error", None, "A field is wrong, or the request cannot be met."),
    401: ("authentication_error", "invalid_api_key", "The key is missing or wrong."),
    403: ("permission_error", "foreign_page", "A page of another site asks."),
    404: ("invalid_request_error", "not_found", "No such model."),
    413: ("invalid_request_error", "body_too_long", "The body is too long."),
    429: ("rate_limit_error", "queue_full", "Too much waits already."),
    500: ("server_error", "server_error", "The server has failed."),
    503: ("server_error", "too_many_bodies", "Too many long bodies come at once."),
    502: ("server_error", "upstream_failed", "The server that writes cannot be reached, or refuses."),
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": said} for status, (*_, said) in TYPES.items()
}


def refusal(error: Exception) -> tuple[int, Refusal]:
    """Return the status and the body of an error."""
    match error:
        case UnknownModelError():
            return 404, _said(404, str(error), param="model", code="model_not_found")
        case QueueFullError():
            return 429, _said(429, str(error))
        case UpstreamError():
            return 502, _said(502, str(error))
        case ContextLengthError():
            return 400, _said(400, str(error), code="context_length_exceeded")
        case PromptError() | ConfigError() | DataError():
            return 400, _said(400, str(error))
        case RequestValidationError():
            return 400, _invalid(error.errors())
        case InvalidBody():
            return 400, _invalid(error.errors)
        case HTTPException():
            return error.status_code, _said(error.status_code, str(error.detail))
    return 500, _said(500, "the server failed; see its log")


async def framed(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Server-sent events with what goes wrong on the way, and their end; nothing more for a client that has left."""
    try:
        async for each in events:
            yield each
    except ClientDisconnect:
        return
    except Exception as error:
        yield event(refusal(error)[1])
    yield event("[DONE]")


def install(app: FastAPI) -> None:
    """Answer every error so."""

    def answer(request: Request, error: Exception) -> Response:
        status, said = refusal(error)
        headers: Mapping[str, str] = getattr(error, "headers", None) or {}
        if status == 429:
            headers = {**headers, "Retry-After": str(RETRY_AFTER)}
        return JSONResponse(said.model_dump(), status, headers)

    def nobody(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # the client has left

    for kind in (MoviePlotGPTError, RequestValidationError, HTTPException, RecursionError, Exception):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(ClientDisconnect, nobody)


def unknown_host(host: str) -> Response:
    """Return the answer to a request that was sent to a name which is not the server's."""
    message = (
        f"this server does not answer to the host {host[:100]!r}; name it with --allow-host when the server is started"
    )
    return JSONResponse(_said(400, message, code="unknown_host").model_dump(), 400)


def foreign_page() -> Response:
    """Return the answer to a page of another site that would make the server write."""
    message = "pages of other sites may not ask this server; allow one with --allow-origin when the server is started"
    return JSONResponse(_said(403, message).model_dump(), 403)


def _invalid(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """Return the refusal for the first field that is wrong, with what each kind of value that it may have says."""
    path = _path(errors[0])
    messages = dict.fromkeys(error["msg"].removeprefix("Value error, ") for error in errors if _path(error) == path)
    said = ", or ".join(messages)
    return _said(400, f"{path}: {said}" if path else said, param=path)


def _path(error: Mapping[str, Any]) -> str | None:
    """Return the path of a field, without what pydantic adds to it for the kinds of values in a union."""
    parts = itertools.takewhile(lambda part: isinstance(part, int) or FIELD.fullmatch(part), error["loc"])
    return ".".join(str(part) for part in parts if part != "body") or None


def _said(status: int, message: str, *, param: str | None = None, code: str | None = None) -> Refusal:
    kind, usual, _ = TYPES.get(status, TYPES[400])
    return Refusal(error=Problem(message=message, type=kind, param=param, code=code or usual))

"""Routes whose JSON bodies are adapted before they are validated, and whose answers report what was adapted."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ValidationError

from movieplotgpt.serving.leniency import Adapted, adapt
from movieplotgpt.serving.workers import in_worker

JSON = re.compile(r"application/([\w.-]+\+)?json")
BEARER = HTTPBearer(auto_error=False, description="Asked for where the server was started with a key.")
NOT_JSON = "the body is not sent as JSON; send it with the header Content-Type: application/json"


def check_key(http: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
    """Let only those pass who have the key, if there is one."""
    key = http.app.state.api_key
    if key is not None and not secrets.compare_digest((given.credentials if given else "").encode(), key.encode()):
        raise HTTPException(
            401, "the key is missing or wrong; send it as a bearer token", {"WWW-Authenticate": "Bearer"}
        )


class LenientRoute(APIRoute):
    """A route that accepts what ``adapt`` makes acceptable."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override] # narrower there
        """Return the handler, with the adapting around it where the route has a body."""
        handle = super().get_route_handler()
        model = self.body_field.field_info.annotation if self.body_field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return handle

        async def lenient(http: Request) -> Response:
            check_key(http, await BEARER(http))  # before the body is read, as FastAPI does it afterwards
            if not JSON.fullmatch(http.headers.get("content-type", "").partition(";")[0].strip().lower()):
                raise HTTPException(400, NOT_JSON)  # a page of another site may send a form or plain text unasked
            request = _LenientRequest(http, model)
            answer = await handle(request)
            answer.headers.update(request.adapted.headers())
            return answer

        return lenient


async def weight_of_body(http: Request, texts: int) -> int:
    """Return about how many characters are read to prepare the ``texts`` that a request asks for."""
    return len(await http.body()) + 500 * texts


class InvalidBody(HTTPException):
    """The body is JSON, and not what the route takes; ``errors`` are pydantic's."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__(400)
        self.errors = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]


class _LenientRequest(Request):
    """A request whose JSON is adapted to ``model`` and validated."""

    def __init__(self, http: Request, model: type[BaseModel]) -> None:
        super().__init__(http.scope, http.receive)
        self._model, self.adapted = model, Adapted(None)

    async def json(self) -> Any:
        """Return the body as an instance of the model."""
        body = await self.body()
        self.adapted, validated = await in_worker(len(body), self._read, body)
        return validated

    def _read(self, body: bytes) -> tuple[Adapted, BaseModel]:
        adapted = adapt(json.loads(body), self._model)
        try:
            return adapted, self._model.model_validate(adapted.body)
        except ValidationError as error:
            raise InvalidBody(error) from None

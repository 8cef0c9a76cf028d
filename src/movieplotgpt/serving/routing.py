"""Routes whose JSON bodies are adapted before they are validated, and whose answers report what was adapted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from movieplotgpt.serving.leniency import Adapted, adapt


class LenientRoute(APIRoute):
    """A route that accepts what ``adapt`` makes acceptable."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override] # narrower there
        """Return the handler, with the adapting around it where the route has a body."""
        handle = super().get_route_handler()
        model = self.body_field.field_info.annotation if self.body_field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return handle

        async def lenient(http: Request) -> Response:
            request = _LenientRequest(http, model)
            answer = await handle(request)
            answer.headers.update(request.adapted.headers())
            return answer

        return lenient


class _LenientRequest(Request):
    """A request whose JSON is adapted to ``model``."""

    def __init__(self, http: Request, model: type[BaseModel]) -> None:
        super().__init__(http.scope, http.receive)
        self._model, self.adapted = model, Adapted(None)

    async def json(self) -> Any:
        """Return the adapted body."""
        self.adapted = adapt(await super().json(), self._model)
        return self.adapted.body

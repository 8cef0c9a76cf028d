"""The HTTP application: what is served where, who may ask, and how what goes wrong is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from movieplotgpt.serving import health_routes, leniency, openai_routes, plot_routes, refusals
from movieplotgpt.serving.models import MOST_OF_BODIES, ServedModels
from movieplotgpt.serving.routing import check_key

PAGE = Path(__file__).with_name("page")
MOST_BYTES = 1_000_000  # of a request's body
SMALL_BODY = 32_000  # bytes, for which there is always room
SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(
    models: ServedModels,
    *,
    api_key: str | None = None,
    page: bool = True,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> FastAPI:
    """Return the application, which closes ``models`` when it ends.

    ``api_key`` is required as a bearer token by every route that reads or writes text. ``hosts`` are the names the
    application answers to (all, if there are none): a page of another site that points its own name here is refused.
    ``origins`` are the sites whose pages may call the API from a browser; ``*`` is every site. Others are refused whatever
    would make the server write.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(models.close)

    app = FastAPI(
        title="MoviePlotGPT",
        version=version("movieplotgpt"),
        summary="Small language models behind OpenAI's API, and plots by their titles.",
        lifespan=lifespan,
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
    )
    app.state.models, app.state.api_key = models, api_key
    guarded = [] if api_key is None else [Depends(check_key)]
    for router in (
        plot_routes.router,
        openai_routes.router,
    ):  # in this order: /models/{name:path} would take the cards' paths
        app.include_router(router, dependencies=guarded, responses=refusals.DOCUMENTED)
    app.include_router(health_routes.router)
    refusals.install(app)
    if page:
        app.mount("/page", StaticFiles(directory=PAGE), name="page")
        app.add_api_route("/", lambda: FileResponse(PAGE / "index.html"), include_in_schema=False)
    app.add_middleware(_OwnPages, origins=origins)
    if hosts:
        app.add_middleware(_KnownHosts, hosts=hosts)
    app.add_middleware(_Guarded)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=(*leniency.REPORTED, "Retry-After"),
        )
    return app


class _KnownHosts:
    """Starlette's check of the host header, with its refusal in OpenAI's shape."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app = app
        self._check = TrustedHostMiddleware(_accept, hosts, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._check(scope, receive, _drop)
        known = scope["type"] == "lifespan" or scope.get("known_host")
        await (self.app if known else refusals.unknown_host(Headers(scope=scope).get("host", "")))(scope, receive, send)


async def _accept(scope: Scope, receive: Receive, send: Send) -> None:
    scope["known_host"] = True


async def _drop(message: Message) -> None:
    pass


class _OwnPages:
    """Only the server's own pages, those of ``origins``, and programs that are no browsers may make the server write."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self.app, self.origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = scope["type"] != "http" or scope["method"] in SAFE or self._is_allowed(Headers(scope=scope))
        await (self.app if allowed else refusals.foreign_page())(scope, receive, send)

    def _is_allowed(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if "*" in self.origins or (origin and origin.lower() in self.origins):
            return True
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        return origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()


class _Guarded:
    """Bounds on what is read: no body is longer than `MOST_BYTES`, and all together are not beyond memory.

    Every answer has the `HEADERS` that protect a browser.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._unread = 0  # bytes of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            size = len(message.get("body", b""))
            read += size
            self._unread += size
            if read > MOST_BYTES:
                raise HTTPException(413, f"the body is longer than {MOST_BYTES:,} bytes")
            if self._unread > MOST_OF_BODIES and read > SMALL_BODY:
                raise HTTPException(503, "too many long bodies come at once; try again in a while")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self.app(scope, limited, with_headers)
        finally:
            self._unread -= read

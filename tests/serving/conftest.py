"""A server with a tiny model: the application alone, and a real one at a port of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import uvicorn

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.model.checkpoints import Checkpoint
from movieplotgpt.serving.app import create_app
from movieplotgpt.serving.connections import server_config
from movieplotgpt.serving.models import ServedModel, ServedModels
from movieplotgpt.serving.upstream import Upstream

Make = Callable[..., Checkpoint]
Serve = Callable[..., str]
HINTS = ("Decade", "Origin", "Genre")


def long_winded(checkpoint: Checkpoint) -> Checkpoint:
    """Trained with the empty title, or so it claims; it hardly ever ends by itself."""
    checkpoint.model.model.embed_tokens.weight.data[0] *= 0.2
    return replace(checkpoint, info={"settings": {"windows": {"no_title": 0.1}}})


@pytest.fixture
def generators(tiny_checkpoint: Make) -> dict[str, PlotGenerator]:
    """One that knows titles and hints, and one that knows neither."""
    films = long_winded(tiny_checkpoint("bpe", hints=HINTS))
    letters = tiny_checkpoint("char", header="", seed=1, context_length=128)
    return {"films": PlotGenerator(films), "letters": PlotGenerator(letters)}


@pytest.fixture
def models(generators: dict[str, PlotGenerator]) -> Iterator[ServedModels]:
    """Both of them, with few places."""
    served = ServedModels.scheduled(generators, readings=6, waiting=40)
    yield served
    served.close()


@pytest.fixture
def serve(generators: dict[str, PlotGenerator]) -> Iterator[Serve]:
    """``serve(readings=, waiting=, upstream=, **of create_app)`` starts a server and returns its address."""
    with ExitStack() as stack:

        def started(
            *, readings: int = 8, waiting: int = 200, upstream: str | None = None, connections: int = 1_000, **how: Any
        ) -> str:
            served = ServedModels.scheduled(generators, readings=readings, waiting=waiting)
            if upstream:
                there = Upstream(PlotGenerator(generators["films"].checkpoint), upstream, waiting=waiting)
                served = ServedModels([ServedModel("films", there.generator, there)])
            server = uvicorn.Server(
                server_config(create_app(served, **how), connections=connections, port=0, log_level="error")
            )
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            deadline = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive() and time.monotonic() < deadline
                time.sleep(0.01)
            return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        yield started

"""Slow clients, and those with many connections, shut nobody out."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.requests import Request

from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.serving import connections
from movieplotgpt.serving.app import create_app
from movieplotgpt.serving.memory import UNREAD
from movieplotgpt.serving.models import Answer, ServedModels

Serve = Callable[..., str]
Connect = Callable[..., socket.socket]
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
HALF_BODY = HEAD.format(500) + '{"prompt":'
HALF_HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Slow: "
UNREAD_STREAM = {"prompt": "x", "stream": True, "min_tokens": 15_000, "max_tokens": 15_000, "logprobs": 20, "seed": 0}


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(address, sent, source=)`` opens a connection and sends something."""
    with ExitStack() as stack:

        def connected(address: str, sent: str, source: str = "127.0.0.1", small: bool = False) -> socket.socket:
            host, _, port = address.removeprefix("http://").partition(":")
            client = stack.enter_context(socket.socket())
            if small:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.settimeout(60)
            client.bind((source, 0))
            client.connect((host, int(port)))
            client.sendall(sent.encode())
            return client

        yield connected


def asks(body: dict[str, Any]) -> str:
    text = json.dumps(body)
    return HEAD.format(len(text)) + text


def is_closed(client: socket.socket) -> bool:
    """Return whether the server closes the connection, whatever it has sent before."""
    try:
        while client.recv(1_000_000):
            pass
    except ConnectionResetError:
        pass
    return True  # else the test's own deadline is an error


def health(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


@pytest.mark.parametrize("sent", ["", HALF_HEAD, HALF_BODY, asks({"prompt": "x", "max_tokens": 1}) + HALF_HEAD])
def test_a_request_has_a_deadline(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, sent: str) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    assert is_closed(connect(serve(), sent))


def test_a_whole_request_has_none(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(connections, "READING_SECONDS", 0.1)
    client = connect(serve(), asks({"prompt": "x", "min_tokens": 300, "max_tokens": 300, "seed": 0, "stream": True}))
    received = b""
    while b"[DONE]" not in received:
        piece = client.recv(100_000)
        assert piece, received[-300:]
        received += piece


def test_the_slowest_connections_give_way(serve: Serve, connect: Connect) -> None:
    address = serve(connections=8)
    slow = [connect(address, HALF_BODY, f"127.0.0.{2 + number}") for number in range(8)]
    assert health(address)["status"] == "ok"
    assert is_closed(slow[0])


def test_one_address_has_a_share_of_the_connections(serve: Serve, connect: Connect) -> None:
    address = serve(connections=8)
    others = connect(address, HALF_BODY, "127.0.0.9")
    first, second, third = (connect(address, HALF_BODY, "127.0.0.2") for _ in range(3))
    assert is_closed(first)
    for client in (others, second, third):
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1_000)


def test_where_all_are_answered_a_new_one_is_refused(serve: Serve, connect: Connect) -> None:
    address = serve(connections=8)
    streams = [connect(address, asks({**UNREAD_STREAM, "seed": seed}), "127.0.0.2") for seed in range(2)]
    assert all(stream.recv(15) == b"HTTP/1.1 200 OK" for stream in streams)
    refused = connect(address, HALF_BODY, "127.0.0.2")
    assert refused.recv(1_000).startswith(b"HTTP/1.1 503")
    told = health(address)
    assert told["running"] + told["waiting"] == 2, streams[0].recv(100000)


def request(models: ServedModels) -> Request:
    """A request of a client that stays."""

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(1_000)
        return {"type": "http.disconnect"}

    scope = {"type": "http", "app": create_app(models), "client": ("127.0.0.1", 1), "headers": []}
    return Request(scope, receive)


def test_nothing_is_written_for_a_client_that_does_not_read(
    models: ServedModels, generators: dict[str, PlotGenerator]
) -> None:
    settings: dict[str, Any] = {"seed": 1, "min_tokens": 400, "max_tokens": 400, "logprobs": 2, "guidance": 1.0}

    async def read() -> str:
        model = models["films"]
        requests = model.generator.requests("Ada", **settings)
        async with Answer(request(models), model, requests, keep=False) as answer:
            while not answer._job.paused:
                await asyncio.sleep(0.01)
            sizes = []
            for seed in (2, 3):
                async with Answer(
                    request(models), model, model.generator.requests("Ada", seed=seed, max_tokens=5)
                ) as other:
                    await other.plots()  # many steps later
                sizes.append(answer._queue.qsize())
            assert sizes[0] == sizes[1] < 2 * UNREAD, "no more than was under way when it was paused"
            pieces = [told async for told in answer if told]
            assert sum(len(told.tokens) for told in pieces) == 400 and pieces[-1].plot
            assert pieces[-1].plot.probabilities == (), "a stream keeps none"
            return "".join(told.piece for told in pieces)

    assert asyncio.run(read()) == generators["films"].plot("Ada", **settings).text
    assert not models.memory.held


def test_a_client_that_never_reads_is_dropped(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)  # after which it is looked at first
    monkeypatch.setattr(connections, "READING_SECONDS", 0.5)
    address = serve()
    stream = connect(address, asks({**UNREAD_STREAM, "n": 4}), small=True)
    assert stream.recv(15) == b"HTTP/1.1 200 OK"
    deadline = time.monotonic() + 240
    while health(address)["running"] or health(address)["waiting"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert is_closed(stream)

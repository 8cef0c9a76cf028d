"""A server of ours on the loopback device, and clients with addresses of their own there, for the benchmarks of serving."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADERS = {"Content-Type": "application/json"}


@dataclass
class Address:
    """A server's port on the loopback device."""

    port: int

    def ask(self, path: str, body: dict[str, Any] | bytes, *, address: str = "127.0.0.1") -> http.client.HTTPResponse:
        """Return the answer to ``body``, of which nothing is read yet, sent from ``address``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300, source_address=(address, 0))
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), HEADERS)
        return connection.getresponse()


@dataclass
class Server(Address):
    """A server's process and port."""

    process: subprocess.Popen[bytes]

    def megabytes(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) / 1000

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def served(model: str, *flags: str) -> Iterator[Server]:
    """Run ``movieplotgpt serve`` with its defaults and ``flags`` until the end."""
    port = free_port()
    command = [sys.executable, "-m", "movieplotgpt", "serve", "--model", model, "--port", str(port), *flags]
    with running(command, port) as server:
        yield server


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[Server]:
    """Run ``command``, which serves at ``port``, until the end."""
    server = Server(port, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        wait(server)
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def wait(server: Server) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + 300
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        assert server.process.poll() is None and time.monotonic() < deadline, "the server did not start"
        time.sleep(0.2)


def times(answer: http.client.HTTPResponse) -> Iterator[float]:
    """Yield when each event of a stream comes, in seconds."""
    assert answer.status == 200, answer.read()
    while line := answer.readline():
        if line.startswith(b"data: "):
            yield time.perf_counter()

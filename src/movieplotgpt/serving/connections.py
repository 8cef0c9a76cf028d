"""HTTP connections with deadlines and bounds: a slow client, or one with many connections, shuts nobody out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MOST_CONNECTIONS = 1_000
AT_ONCE = 100  # connections that asyncio accepts before any of them is looked at
SHARE = 4  # of them one address has a fourth
REQUEST_SECONDS = 20.0  # for headers and body, from the first byte on, or from the connection on
READING_SECONDS = 60.0  # in which a client takes some of what was sent to it
UNSENT = (
    1 << 16
)  # bytes that the system keeps of an answer; left alone it takes megabytes before a client counts as slow
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 2\r\n\r\n"


def server_config(app: Any, *, connections: int = MOST_CONNECTIONS, **more: Any) -> Config:
    """Return uvicorn's settings for ``app`` with at most ``connections``, a fourth of them from one address."""

    class Bounded(BoundedProtocol):
        most = connections

    return Config(app, http=Bounded, ws="none", backlog=AT_ONCE, **more)


class BoundedProtocol(H11Protocol):
    """uvicorn's connection, which is closed when its client is too slow.

    Beyond ``most`` connections, or a share of them from one address, the one that waits longest for its client gives way; if
    all of them are being answered, the new one is refused.
    """

    most = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take a connection, if there is room for it."""
        self._timer: asyncio.TimerHandle | None = None
        self._unsent, self._has_read, self._since = 0, False, self.loop.time()
        self._expects = True  # whether a request is to come to its end
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)
        self._address = (transport.get_extra_info("peername") or ("",))[0]
        own = [each for each in self._others() if each._address == self._address]
        if len(own) >= max(1, self.most // SHARE):
            self._make_room(own)
        elif len(self.connections) > self.most:
            self._make_room(list(self._others()))
        if not transport.is_closing():
            self._watch(REQUEST_SECONDS)

    def _others(self) -> Iterator[BoundedProtocol]:
        each: Any
        for each in self.connections:
            if each is not self and isinstance(each, BoundedProtocol) and not each.transport.is_closing():
                yield each

    def _make_room(self, others: list[BoundedProtocol]) -> None:
        waiting = [each for each in others if each.waits_for_client]
        if waiting:
            min(waiting, key=lambda each: each._since).drop()
            return
        self.transport.write(BUSY)
        self.transport.close()

    @property
    def waits_for_client(self) -> bool:
        """Whether no request is whole, so that nothing is lost but the client's time."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def data_received(self, data: bytes) -> None:
        """Take bytes, of a new request perhaps."""
        if not self._expects and self.cycle.response_complete:
            self._expects = True
            self._watch(REQUEST_SECONDS)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for what was sent to be read, and for the next request."""
        self._expects = False
        super().on_response_complete()
        self._watch(READING_SECONDS)

    def resume_writing(self) -> None:
        """Send more: the client has taken what was sent."""
        self._has_read = True
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close at once, whatever is unsent."""
        self.connections.discard(self)
        self.transport.abort()

    def _watch(self, seconds: float) -> None:
        """Look in ``seconds`` at what the client has done."""
        if self._timer:
            self._timer.cancel()
        self._since = self.loop.time()
        self._unsent, self._has_read = self.transport.get_write_buffer_size(), False
        self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        is_stuck = 0 < self._unsent <= self.transport.get_write_buffer_size() and not self._has_read
        if is_stuck or (self._expects and self.waits_for_client):
            self.drop()
        else:
            self._watch(READING_SECONDS)

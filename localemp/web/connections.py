"""Connections with limits: the time for a request's head and body, the size of the head, the number of idle clients.

uvicorn alone waits forever for the rest of a request, and accepts heads of any size.
"""

import asyncio
import resource
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_UPGRADE_WITH_BODY = b"a request with a body cannot ask for another protocol (Upgrade)"
_NO_UPGRADE = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s"
    % (len(_UPGRADE_WITH_BODY), _UPGRADE_WITH_BODY)
)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one connection.

    Attributes:
        head_seconds: Seconds for all headers, from the connection or from a later request's first byte.
        body_seconds: Seconds for a body, and one more for each `body_rate` bytes of it.
        body_rate: Bytes a second that a body must come at after `body_seconds`.
        head_bytes: Bytes of all headers, not counting the first piece of a request.
        idle: Connections on which the server waits for the client; above it the longest idle one is closed.
    """

    head_seconds: float = 30.0
    body_seconds: float = 60.0
    body_rate: float = 16 * 2**10
    head_bytes: int = 64 * 2**10
    idle: int = 4096


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection, with `ConnectionLimits`."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    _all_idle: ClassVar[WeakKeyDictionary[ServerState, dict["Connection", None]]] = WeakKeyDictionary()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._idle = self._all_idle.setdefault(self.server_state, {})
        self._receiving: Literal["", "head", "body"] = ""
        self._trailer_bytes = 0
        self._received = 0  # bytes of the head or body, without the first piece
        self._started = 0.0  # the loop's time
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._mark_idle()
        self._start_timer(self.limits.head_seconds)
        most, files = self.limits.idle, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files != resource.RLIM_INFINITY:
            most = min(most, files // 2)  # a proxied request needs two
        if len(self._idle) > most:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._idle.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a piece, and set the timer for what is missing."""
        previous = self._receiving
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._receiving == previous:
            self._received += len(data)
        if self._receiving == "head" and self._received > self.limits.head_bytes:
            self._close(_TOO_LARGE)
        elif self._receiving or not self._is_responding:  # any byte, such as an empty line, ends uvicorn's own timer
            self._start_timer(self.limits.body_seconds if self._receiving == "body" else self.limits.head_seconds)

    def on_message_begin(self) -> None:
        """Start to receive a head."""
        super().on_message_begin()
        self._receiving, self._received, self._trailer_bytes = "head", 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, which follow a body, are counted and dropped."""
        if self._receiving != "body":
            super().on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value)
        if self._trailer_bytes > self.limits.head_bytes and not self.transport.is_closing():
            self._close(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Start to receive a body."""
        # The parser takes what follows for another protocol: a body would be lost, or be taken for the next request.
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self._close(_NO_UPGRADE)
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if upgrade and self.cycle is not None:
            self.cycle.keep_alive = False
        self._receiving, self._received = "body", 0
        self._stop_timer()

    def on_message_complete(self) -> None:
        """Stop the timer: the request is complete."""
        if self.transport.is_closing():
            return
        super().on_message_complete()
        self._receiving = ""
        self._stop_timer()
        if self._is_responding:
            self._idle.pop(self, None)

    def on_response_complete(self) -> None:
        """Wait for the next request or the rest of it, unless it is complete and being answered."""
        super().on_response_complete()
        if not self._is_responding or (self._receiving == "body" and not self.pipeline):
            self._mark_idle()

    @property
    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _mark_idle(self) -> None:
        self._idle.pop(self, None)
        self._idle[self] = None

    def _start_timer(self, seconds: float) -> None:
        if self._timer is None:
            self._started = self.loop.time()
            self._timer = self.loop.call_later(seconds, self._check_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_time(self) -> None:
        """Close the connection, unless the body comes fast enough or the server itself holds the client up."""
        left = 0.0
        if self._receiving == "body":
            left = self._started + self.limits.body_seconds + self._received / self.limits.body_rate - self.loop.time()
            if self.flow.read_paused or self.pipeline:
                left = max(left, 1.0)
        elif self._is_responding:  # the client has begun its next request
            left = self.limits.head_seconds
        if left > 0:
            self._timer = self.loop.call_later(left, self._check_time)
        else:
            self._timer = None
            self._close(_TIMEOUT if self._receiving else b"")

    def _close(self, response: bytes) -> None:
        """Send a response to the request being received, unless an earlier one is being answered, and close."""
        if self._receiving == "head":
            responding = self._is_responding
        else:
            responding = bool(self.pipeline) or (self.cycle is not None and self.cycle.response_started)
        if not responding:
            self.transport.write(response)
        self.transport.close()

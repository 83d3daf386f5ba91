"""Connections that are not waited for without end: each request's head and body have their time, and few may idle.

uvicorn itself waits for ever for the rest of a request, and takes heads of any size.
"""

import asyncio
import resource
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_SAID = b"a request with a body cannot ask for another protocol (Upgrade)"
_NO_UPGRADE = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s"
    % (len(_SAID), _SAID)
)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long clients are waited for.

    Attributes:
        head: Seconds for all headers, from the connection or from a later request's first byte.
        body: Seconds for a body...
        pace: ...and so many bytes for each second more.
        head_bytes: Of all headers, beside what comes in one piece.
        waiting: Connections on which we wait for the client; of more, the one that has waited longest is closed.
    """

    head: float = 30.0
    body: float = 60.0
    pace: float = 16 * 2**10
    head_bytes: int = 64 * 2**10
    waiting: int = 4096


class Connection(HttpToolsProtocol):
    """uvicorn's connection, and a timer while a request comes in."""

    patience: ClassVar[Patience] = Patience()
    _all_waiting: ClassVar[WeakKeyDictionary[ServerState, dict["Connection", None]]] = WeakKeyDictionary()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waiting = self._all_waiting.setdefault(self.server_state, {})
        self._coming: Literal["", "head", "body"] = ""
        self._trailers = 0  # their bytes
        self._received, self._began = 0, 0.0  # bytes of it in later pieces than the first; since when
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._wait()
        self._start_timer(self.patience.head)
        # Half of the files that may be open: a request that is passed on needs two.
        if len(self._waiting) > min(self.patience.waiting, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._waiting.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece, and see what is still to come."""
        before = self._coming
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._coming == before:
            self._received += len(data)
        if self._coming == "head" and self._received > self.patience.head_bytes:
            self._end(_TOO_LARGE)
        elif self._coming or not self._is_answering:  # uvicorn's own timer ends with any byte, such as an empty line
            self._start_timer(self.patience.body if self._coming == "body" else self.patience.head)

    def on_message_begin(self) -> None:
        """A head comes in."""
        super().on_message_begin()
        self._coming, self._received, self._trailers = "head", 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header comes in; what comes behind a body (trailers) is none of the request's, and is counted."""
        if self._coming != "body":
            super().on_header(name, value)
            return
        self._trailers += len(name) + len(value)
        if self._trailers > self.patience.head_bytes and not self.transport.is_closing():
            self._end(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """A body comes in."""
        # The parser takes all that follows for another protocol, so that a body would be lost, or be the next request.
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self._end(_NO_UPGRADE)
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if upgrade and self.cycle is not None:
            self.cycle.keep_alive = False
        self._coming, self._received = "body", 0
        self._stop_timer()

    def on_message_complete(self) -> None:
        """Nothing more comes in, for now."""
        if self.transport.is_closing():
            return
        super().on_message_complete()
        self._coming = ""
        self._stop_timer()
        if self._is_answering:
            self._waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Wait for a next request, or for the rest of one, unless the next is whole and its answer has begun."""
        super().on_response_complete()
        if not self._is_answering or (self._coming == "body" and not self.pipeline):
            self._wait()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._waiting.pop(self, None)
        self._waiting[self] = None

    def _start_timer(self, seconds: float) -> None:
        if self._timer is None:
            self._began = self.loop.time()
            self._timer = self.loop.call_later(seconds, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Time is up, unless the body comes at a good pace, or it is we who hold the client up."""
        left = 0.0
        if self._coming == "body":
            left = self._began + self.patience.body + self._received / self.patience.pace - self.loop.time()
            if self.flow.read_paused or self.pipeline:
                left = max(left, 1.0)
        elif self._is_answering:  # the client has begun with its next request meanwhile
            left = self.patience.head
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        else:
            self._timer = None
            self._end(_LATE if self._coming else b"")

    def _end(self, answer: bytes) -> None:
        """Close; the answer is for the request that comes in, and none goes into that to an earlier one."""
        if self._coming == "head":
            begun = self._is_answering
        else:
            begun = bool(self.pipeline) or (self.cycle is not None and self.cycle.response_started)
        if not begun:
            self.transport.write(answer)
        self.transport.close()

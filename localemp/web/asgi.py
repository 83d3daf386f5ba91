"""The few things that an ASGI middleware has to do by hand: read a body, answer, and call the app that it wraps."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from localemp.utils.text import well_formed

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class BodyTooLargeError(Exception):
    """The request's body is larger than it may be."""


class ClientGoneError(Exception):
    """The client closed the connection."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body of a request.

    Raises:
        BodyTooLargeError: It has more than `limit` bytes.
        ClientGoneError: It ended before it was whole.
    """
    parts, size = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise BodyTooLargeError
        if not event.get("more_body"):
            return b"".join(parts)


def once(body: bytes, then: Receive) -> Receive:
    """A `receive` that gives a body and after it whatever `then` gives."""
    given = False

    async def receive() -> Event:
        nonlocal given
        if given:
            return await then()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(receive: Receive, work: Awaitable[None]) -> None:
    """Carry out work; it is cancelled when the client goes.

    It is done in the current task: one more would cost a tenth of the processor time of a request.
    """
    task, left = asyncio.current_task(), False
    assert task is not None

    def leave(_: object) -> None:
        nonlocal left
        left = True
        task.cancel()

    watch = asyncio.create_task(disconnected(receive))
    watch.add_done_callback(leave)
    try:
        await work
    except asyncio.CancelledError:
        if not left or task.uncancel():
            raise
    finally:
        watch.remove_done_callback(leave)
        watch.cancel()


def header(scope: Scope, name: bytes) -> str:
    """A header of the request, "" where it has none; `name` is lower-case."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


def with_body(scope: Scope, length: int) -> Scope:
    """The scope of another request like this one, with a JSON body of so many bytes and an answer that can be read."""
    own = {b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"accept-encoding", b"expect"}
    kept = [(name, value) for name, value in scope["headers"] if name not in own]
    fresh = [
        (b"content-type", b"application/json"),
        (b"content-length", str(length).encode()),
        (b"accept-encoding", b"identity"),
    ]
    # Routers write into the scope that they are given.
    return {**scope, "headers": [*kept, *fresh], "state": dict(scope.get("state") or {})}


def json_bytes(content: Any) -> bytes:
    """Content as JSON in UTF-8; unpaired surrogates, which that cannot hold, are replaced."""
    return well_formed(json.dumps(content, ensure_ascii=False)).encode()


async def send_json(send: Send, status: int, content: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer with JSON."""
    await send_bytes(send, status, json_bytes(content), b"application/json", headers)


async def send_bytes(
    send: Send, status: int, body: bytes, content_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with a body that is there as a whole."""
    own = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


def error_event(before: bytes, content: Any) -> bytes:
    """The last event of a stream that ends too early; an empty line ends what may be half an event `before` it."""
    gap = b"" if not before or before.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
    return b"%sdata: %s\n\n" % (gap, json_bytes(content))


def is_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an answer is an event stream, into which an event can be written; names are lower-case."""
    found = dict(headers)
    events = found.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    return events and not {b"content-length", b"content-encoding"} & found.keys()


class Whole:
    """A `send` that keeps an answer until it is whole.

    Args:
        largest: Bytes of it that are kept.

    Attributes:
        status, headers: Of the answer.
        cut: Whether it has not ended, or was larger.
    """

    def __init__(self, largest: int) -> None:
        self.status = 500  # of an app that never answers
        self.headers: Headers = []
        self.cut = True
        self._parts: list[bytes] = []
        self._left = largest

    async def __call__(self, event: Event) -> None:
        """Take a part of the answer."""
        if event["type"] == "http.response.start":
            self.status, self.headers = event["status"], list(event.get("headers", ()))
            return
        part = event.get("body", b"")
        self._left -= len(part)
        if self._left >= 0:
            self._parts.append(part)
        self.cut = bool(event.get("more_body")) or self._left < 0

    @property
    def body(self) -> bytes:
        """What has come so far."""
        return b"".join(self._parts)


async def call(app: App, scope: Scope, body: bytes, gone: asyncio.Event, send: Send) -> None:
    """One request to the wrapped app, which is told when `gone` is set that nobody waits for the answer any more."""

    async def never() -> Event:
        await gone.wait()
        return {"type": "http.disconnect"}

    await app(with_body(scope, len(body)), once(body, never), send)

"""ASGI helpers that Starlette lacks: limited bodies, disconnects, buffered responses, event streams."""

import asyncio
import json
from collections.abc import Awaitable, Iterable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope

from localemp.utils.text import well_formed

RawHeaders = list[tuple[bytes, bytes]]


class BodyTooLargeError(Exception):
    """The request's body is larger than it may be."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the whole body of a request.

    Starlette's `Request.stream` would add a twelfth to the processor time of a proxied request.

    Args:
        receive: Gives the body, none of which has been read.
        limit: The most bytes to accept.

    Raises:
        BodyTooLargeError: The body has more than `limit` bytes.
        ClientDisconnect: The client left before the body was complete.
    """
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise BodyTooLargeError
        if not message.get("more_body"):
            return b"".join(parts)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first gives a body that has been read, then the events of `receive`."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def run_while_connected(receive: Receive, work: Awaitable[None]) -> None:
    """Await `work`; cancel it when the client disconnects.

    The work runs in the current task: another task would cost a tenth of a request's processor time.
    """
    task, disconnected = asyncio.current_task(), False
    assert task is not None

    def cancel(_: object) -> None:
        nonlocal disconnected
        disconnected = True
        task.cancel()

    watch = asyncio.create_task(wait_for_disconnect(receive))
    watch.add_done_callback(cancel)
    try:
        await work
    except asyncio.CancelledError:
        if not disconnected or task.uncancel():
            raise
    finally:
        watch.remove_done_callback(cancel)
        watch.cancel()


def header(scope: Scope, name: str) -> str:
    """Return the first value of a request's header, "" without one; `name` is lower-case."""
    # Without a Headers object: every request asks for about ten headers.
    wanted = name.encode("latin-1")
    for key, value in scope["headers"]:
        if key == wanted:
            return str(value, "latin-1")
    return ""


def json_bytes(content: Any) -> bytes:
    """Encode content as JSON in UTF-8; unpaired surrogates, which UTF-8 cannot hold, are replaced."""
    return well_formed(json.dumps(content, ensure_ascii=False)).encode()


class SafeJSONResponse(JSONResponse):
    """A JSON response of any content, unpaired surrogates included."""

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return json_bytes(content)


def error_event(before: bytes, content: Any) -> bytes:
    """Return the event that ends a stream early.

    Args:
        before: What was sent last; where that may be half an event, an empty line ends it.
        content: The event's data.
    """
    gap = b"" if not before or before.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
    return b"%sdata: %s\n\n" % (gap, json_bytes(content))


def is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response is an event stream to which an event can be added; names are lower-case."""
    found = dict(headers)
    events = found.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    return events and not {b"content-length", b"content-encoding"} & found.keys()


class BufferedSend:
    """A `send` that buffers a response.

    Args:
        limit: The most bytes of its body to keep.

    Attributes:
        status: The response's status; 500 for an app that never responds.
        headers: The response's headers.
        truncated: Whether the body has not ended, or was larger than `limit`.
    """

    def __init__(self, limit: int) -> None:
        self.status = 500
        self.headers: RawHeaders = []
        self.truncated = True
        self._parts: list[bytes] = []
        self._left = limit

    async def __call__(self, message: Message) -> None:
        """Buffer one ASGI message."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
            return
        part = message.get("body", b"")
        self._left -= len(part)
        if self._left >= 0:
            self._parts.append(part)
        self.truncated = bool(message.get("more_body")) or self._left < 0

    @property
    def body(self) -> bytes:
        """The bytes buffered so far."""
        return b"".join(self._parts)

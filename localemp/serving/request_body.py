"""Reads request bodies: complete, within limits, and without blocking the event loop.

Python reads and writes JSON in one call, during which nothing else runs, in other threads neither. So a large body is
scanned first: a text of 32 MiB is read in 40 ms, as many bytes of empty lists in 2 s.
"""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.types import Message, Receive, Scope

from localemp.serving.errors import RequestError
from localemp.serving.routes import LARGEST_DIALOGUE, LARGEST_JSON
from localemp.utils.json_reader import JSONError, count_values, parse_json
from localemp.web.asgi import BodyTooLargeError, header, read_body, replay_body

T = TypeVar("T")
_encoder = json.JSONEncoder(allow_nan=False)

LARGE = 64 * 2**10
"""Bytes from which on a body is scanned, and read in a thread; a smaller one takes 5 ms at most, whatever is in it."""
MOST_VALUES = 200_000
"""Values in a large body. Commas in texts count, too: these are as many as in 10 MB of prose."""
MOST_DIALOGUE_VALUES = 50_000
"""Values in a request for a strategy, which does more with each of them."""
MOST_DIGITS = 200
"""Digits in a row in a large body: the time to read a number grows with the square of its length."""

_ALL_ZEROS = bytes.maketrans(b"123456789", b"000000000")


class ReplayedBody:
    """A `receive` for the next app that replays a body, so that the next app need not decode it again.

    Attributes:
        body: The body as it was sent.
        content: The decoded body.
    """

    def __init__(self, body: bytes, content: Any, receive: Receive) -> None:
        self.body, self.content, self._replay = body, content, replay_body(body, receive)

    def __call__(self) -> Awaitable[Message]:
        """Return the next event."""
        return self._replay()


class BodyReader:
    """Reads JSON bodies. Large ones are read in threads, one at a time, which bounds the memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def read(self, scope: Scope, receive: Receive, limit: int) -> tuple[bytes, Any]:
        """Read a JSON body.

        Args:
            scope: The request's scope.
            receive: Gives the body.
            limit: The most bytes to accept.

        Returns:
            The body as it was sent, and decoded; None for an empty body.

        Raises:
            RequestError: It is too large (413), compressed or a form (415), or not valid JSON (400).
            ClientDisconnect: The client left before the body was complete.
        """
        if isinstance(receive, ReplayedBody):
            if len(receive.body) > limit:
                raise too_large(limit)
            return receive.body, receive.content
        if header(scope, "content-encoding").strip().lower() not in ("", "identity"):
            raise RequestError("send the body uncompressed: this server reads it", None, "unsupported_encoding", 415)
        if _is_form(scope):
            message = "the body must be JSON: content-type: application/json"
            raise RequestError(message, None, "unsupported_media_type", 415)
        body = await read_limited(scope, receive, limit)
        return body, await self.run_off_loop(body, parse) if body else None

    async def run_off_loop(self, body: bytes, work: Callable[[bytes], T]) -> T:
        """Call `work` with a body: directly if it is small, else in a thread, one at a time."""
        if len(body) < LARGE:
            return work(body)
        async with self._turn:
            return await asyncio.to_thread(_without_gc, work, body)


async def read_limited(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the whole body; one that declares itself too large is not waited for.

    Raises:
        RequestError: It is too large (413).
        ClientDisconnect: The client left before the body was complete.
    """
    declared = header(scope, "content-length")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise too_large(limit)
    try:
        return await read_body(receive, limit)
    except BodyTooLargeError as error:
        raise too_large(limit) from error


def limited(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that raises `BodyTooLargeError` once a body exceeds a limit."""
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise BodyTooLargeError
        return message

    return receive_limited


def parse(body: bytes) -> Any:
    """Decode a body.

    Raises:
        RequestError: It is not valid JSON, is nested deeply, or would take long to read.
    """
    if len(body) > LARGEST_JSON:
        raise too_large(LARGEST_JSON)
    if len(body) >= LARGE:
        if count_values(body) > MOST_VALUES:
            raise RequestError(f"a large body may hold at most {MOST_VALUES:,} values", code="invalid_json")
        if b"0" * MOST_DIGITS in body.translate(_ALL_ZEROS):
            raise RequestError("a large body may not hold numbers with hundreds of digits", code="invalid_json")
    try:
        return parse_json(body)
    except JSONError as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from error


def check_dialogue_size(body: bytes) -> None:
    """Check that a strategy can work on a body without delaying other clients' streams.

    Raises:
        RequestError: It is too large (413), or holds too many values (400).
    """
    if len(body) > LARGEST_DIALOGUE:
        raise too_large(LARGEST_DIALOGUE)
    if count_values(body) > MOST_DIALOGUE_VALUES:
        raise RequestError(f"a dialogue may hold at most {MOST_DIALOGUE_VALUES:,} values", code="invalid_json")


def as_object(content: Any) -> dict[str, Any]:
    """Return decoded JSON that is an object.

    Raises:
        RequestError: It is something else.
    """
    if not isinstance(content, dict):
        raise RequestError("the body must be a JSON object", code="invalid_type")
    return content


def encode(content: Any) -> bytes:
    """Encode a body that means the same to every reader: no key twice, no number that JSON does not have.

    Raises:
        RequestError: It holds NaN or an infinity.
    """
    try:
        return _encoder.encode(content).encode()
    except ValueError as error:
        raise RequestError(
            "the body holds a number that JSON does not have, such as NaN", code="invalid_json"
        ) from error


def too_large(limit: int) -> RequestError:
    """Return the error for a body above a limit."""
    size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit} bytes"
    return RequestError(f"the body is larger than {size}", None, "body_too_large", 413)


def _without_gc(work: Callable[[bytes], T], body: bytes) -> T:
    """Call `work` with garbage collection off, which would take longer than reading many small values."""
    if not gc.isenabled():
        return work(body)
    gc.disable()
    try:
        return work(body)
    finally:
        gc.enable()


def _is_form(scope: Scope) -> bool:
    """Whether the body has a type that web pages can send to other sites without a preflight request.

    curl's default is one of them, so that type is rejected only if a browser sends it.
    """
    kind = header(scope, "content-type").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return any(header(scope, name) for name in ("origin", "sec-fetch-site"))
    return kind == "text/plain" or kind.startswith("multipart/")

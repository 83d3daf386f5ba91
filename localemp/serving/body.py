"""Bodies of requests: read whole and bounded, and what is in them, without holding up the event loop.

Python reads and writes JSON in one go, during which nothing else runs, in other threads neither. So what is large is
looked over first: a text of 32 MiB is read in 40 ms, as many bytes of empty lists in 2 s.
"""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from localemp.serving.routes import LARGEST_JSON, LARGEST_TALK
from localemp.serving.schema import RequestError
from localemp.utils.json_reader import JSONError, count_values, parse_json
from localemp.web.asgi import BodyTooLargeError, Event, Receive, Scope, header, once, read_body

T = TypeVar("T")
_writer = json.JSONEncoder(allow_nan=False)

LARGE = 64 * 2**10
"""Bytes from which on a body is looked over, and read in a thread; one with less takes 5 ms whatever is in it."""
MOST_VALUES = 200_000
"""Of a large body. Commas in texts count, too: these are as many as in 10 MB of prose."""
MOST_TALK_VALUES = 50_000
"""Of a request for a strategy, which does more with each of them."""
MOST_DIGITS = 200
"""In a row in a large body: the time that a number takes grows with the square of its digits."""

_ALL_ZEROS = bytes.maketrans(b"123456789", b"000000000")


class Given:
    """A `receive` for the next app: a body that has been read, which need not be decoded again, and what comes after.

    Attributes:
        body: As it was sent.
        content: What is in it.
    """

    def __init__(self, body: bytes, content: Any, then: Receive) -> None:
        self.body, self.content, self._receive = body, content, once(body, then)

    def __call__(self) -> Awaitable[Event]:
        """The next event."""
        return self._receive()


class Bodies:
    """Reads the bodies of a server's requests, large ones in threads, one at a time: that bounds the memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def read(self, scope: Scope, receive: Receive, largest: int) -> tuple[bytes, Any]:
        """The JSON that is sent, as it is and decoded; no body at all is None.

        Args:
            scope: Of the request.
            receive: Gives the body.
            largest: Bytes that it may have.

        Raises:
            RequestError: It is too large (413), packed or a form (415), or cannot be read (400).
            ClientGoneError: It ended before it was whole.
        """
        if isinstance(receive, Given):
            if len(receive.body) > largest:
                raise too_large(largest)
            return receive.body, receive.content
        if header(scope, b"content-encoding").strip().lower() not in ("", "identity"):
            raise RequestError("a body is to be sent unpacked: this server reads it", None, "unsupported_encoding", 415)
        if _is_form(scope):
            said = "a body is to be JSON: content-type: application/json"
            raise RequestError(said, None, "unsupported_media_type", 415)
        body = await read_bounded(scope, receive, largest)
        return body, await self.off_loop(body, parse) if body else None

    async def off_loop(self, body: bytes, work: Callable[[bytes], T]) -> T:
        """Do something with a body, in a thread and in turn where it is large."""
        if len(body) < LARGE:
            return work(body)
        async with self._turn:
            return await asyncio.to_thread(_undisturbed, work, body)


async def read_bounded(scope: Scope, receive: Receive, largest: int) -> bytes:
    """The whole body; one that says that it is too large is not waited for.

    Raises:
        RequestError: It is too large (413).
        ClientGoneError: It ended before it was whole.
    """
    said = header(scope, b"content-length")
    if said.isdecimal() and (len(said) > 18 or int(said) > largest):
        raise too_large(largest)
    try:
        return await read_body(receive, largest)
    except BodyTooLargeError as error:
        raise too_large(largest) from error


def bounded(receive: Receive, largest: int) -> Receive:
    """A `receive` that raises `BodyTooLargeError` where a body becomes larger than it may be."""
    size = 0

    async def counted() -> Event:
        nonlocal size
        event = await receive()
        size += len(event.get("body", b""))
        if size > largest:
            raise BodyTooLargeError
        return event

    return counted


def parse(body: bytes) -> Any:
    """What is in a body.

    Raises:
        RequestError: It is no JSON, nested deeply, or would take long to read.
    """
    if len(body) > LARGEST_JSON:
        raise too_large(LARGEST_JSON)
    if len(body) >= LARGE:
        if count_values(body) > MOST_VALUES:
            raise RequestError(f"a large body is to hold less than {MOST_VALUES:,} values", code="invalid_json")
        if b"0" * MOST_DIGITS in body.translate(_ALL_ZEROS):
            raise RequestError("a large body is to hold no numbers of hundreds of digits", code="invalid_json")
    try:
        return parse_json(body)
    except JSONError as error:
        raise RequestError(f"the body is no JSON that can be read: {error}", code="invalid_json") from error


def check_talk(body: bytes) -> None:
    """See that a strategy can work on a body without holding up the others' streams.

    Raises:
        RequestError: It is too large (413), or holds too many values (400).
    """
    if len(body) > LARGEST_TALK:
        raise too_large(LARGEST_TALK)
    if count_values(body) > MOST_TALK_VALUES:
        raise RequestError(f"a dialogue is to hold less than {MOST_TALK_VALUES:,} values", code="invalid_json")


def as_object(content: Any) -> dict[str, Any]:
    """What a body holds, if it is an object.

    Raises:
        RequestError: It is something else.
    """
    if not isinstance(content, dict):
        raise RequestError("the body is to be a JSON object", code="invalid_type")
    return content


def written(content: Any) -> bytes:
    """A body that means the same to every reader: no key twice, no number that JSON has not.

    Raises:
        RequestError: It holds NaN or an infinity.
    """
    try:
        return _writer.encode(content).encode()
    except ValueError as error:
        raise RequestError("the body holds a number that JSON has not, such as NaN", code="invalid_json") from error


def too_large(largest: int) -> RequestError:
    """The error for a body above a limit."""
    size = f"{largest // 2**20} MiB" if largest >= 2**20 else f"{largest} bytes"
    return RequestError(f"the body is larger than {size}", None, "body_too_large", 413)


def _undisturbed(work: Callable[[bytes], T], body: bytes) -> T:
    """Do something without looking for garbage meanwhile, which takes longer than the reading of many small values."""
    if not gc.isenabled():
        return work(body)
    gc.disable()
    try:
        return work(body)
    finally:
        gc.enable()


def _is_form(scope: Scope) -> bool:
    """Whether it is of a type that pages can send to other sites without asking.

    curl's default is one of them; browsers say who they are.
    """
    kind = header(scope, b"content-type").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return any(header(scope, name) for name in (b"origin", b"sec-fetch-site"))
    return kind == "text/plain" or kind.startswith("multipart/")

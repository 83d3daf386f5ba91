"""What of an upstream's answer reaches the caller: its status, its headers but for those of its own host, no key."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import aiohttp

from localemp.serving.proxy.request import HOP_BY_HOP, named_by_connection
from localemp.serving.proxy.stream_end import StreamEnd
from localemp.serving.schema import RequestError
from localemp.web.asgi import Headers, Send, error_event, is_stream, json_bytes

LARGEST_SHOWN_ERROR = 64 * 2**10
"""Bytes of an error that is passed on."""
SECRET = 16
"""Characters from which on a key is no word that a reply could hold by chance, as "none" and "EMPTY" are."""

# What an upstream says of its own host; allowing other sites' pages is not its to do: they would use our key.
_NOT_RETURNED = HOP_BY_HOP | frozenset(b"set-cookie alt-svc strict-transport-security clear-site-data".split())
_ACCOUNT = frozenset((b"openai-organization", b"openai-project"))
# Which sites may use it, and what a server before this one does with an answer (X-Accel-Redirect, X-Sendfile).
_NEVER_RETURNED = (b"access-control-", b"x-accel-", b"x-sendfile")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # in names, aiohttp takes none
_UNPACKED = ("gzip", "deflate", "br", "zstd")  # by aiohttp, where it is told to


class BrokenAnswerError(Exception):
    """An answer that does not come, not as a whole, or in a form that could not be sent on; says why by its cause."""


class Stars:
    """Stars in place of our key in an answer, as many as it has characters, so that no length changes.

    Args:
        key: None or empty: everything stays as it is.
        error: Whether the answer is an error. In another one a short key is looked for only after the word "error".
    """

    def __init__(self, key: str | None, error: bool) -> None:
        self._key = (key or "").encode()
        self._always = bool(key) and (error or len(self._key) >= SECRET)
        self._held = b""

    def feed(self, part: bytes, last: bool) -> bytes:
        """The next piece; the end of one that may be the beginning of the key waits for the next."""
        if not self._key:
            return part
        if not self._always:
            before, error, after = part.partition(b'"error"')
            return before + error + after.replace(self._key, self._stars) if error else part
        part = (self._held + part).replace(self._key, self._stars)
        held = 0 if last else self._begun(part)
        self._held = part[len(part) - held :]
        return part[: len(part) - held]

    @property
    def _stars(self) -> bytes:
        return b"*" * len(self._key)

    def _begun(self, part: bytes) -> int:
        """How many bytes at the end are the beginning of the key."""
        start = max(0, len(part) - len(self._key) + 1)
        while (start := part.find(self._key[:1], start)) >= 0:
            if self._key.startswith(part[start:]):
                return len(part) - start
            start += 1
        return 0


class Back:
    """An answer on its way back to the caller.

    Args:
        answer: The upstream's, with all its headers there.
        key: Ours, where it was asked with one; the answer has then been unpacked.
        send: To the caller.

    Attributes:
        begun: Whether something was sent to the caller.
    """

    def __init__(self, answer: aiohttp.ClientResponse, key: str | None, send: Send) -> None:
        self._answer, self._key, self._send = answer, key, send
        self._headers: Headers = []
        self._last = b""
        self.begun = False

    async def pass_on(self, deadline: float, between: float) -> None:
        """Send it on, a stream from its headers on, anything else when there is something that can be read.

        Args:
            deadline: When the first byte must be there, and an error as a whole, in the loop's time.
            between: Seconds for each further chunk.

        Raises:
            BrokenAnswerError: It ended early, or cannot be sent on.
        """
        self._headers = returned(self._answer, self._key)
        if self._answer.status >= 400 and self._answer.method != "HEAD":
            await self._pass_on_error(deadline)
            return
        if is_stream(self._headers):
            await self._begin()
        stars, waiting, more = Stars(self._key, error=False), asyncio.timeout_at(deadline), True
        end = StreamEnd() if self._is_completion else None
        while more:
            part = await self._next(waiting)
            more = not self._answer.content.at_eof()
            if not self.begun:
                await self._begin()
            if end is not None:
                end.feed(part)
            cut = not more and end is not None and not end.whole
            self._last = stars.feed(part, last=not more)
            await self._send({"type": "http.response.body", "body": self._last, "more_body": more or cut})
            if cut:
                raise BrokenAnswerError from ConnectionError("neither a finish reason nor [DONE] came")
            waiting = asyncio.timeout(between)

    @property
    def _is_completion(self) -> bool:
        """Whether it is a stream of which is known how it ends."""
        return is_stream(self._headers) and self._answer.url.path.endswith("/completions")

    async def end_early(self, content: Any) -> None:
        """Tell the caller that there will be no more: by an error event, or else by breaking off, too."""
        if is_stream(self._headers):
            event = error_event(self._last, content)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        # Otherwise uvicorn closes the connection of an answer that was not ended.

    async def _pass_on_error(self, deadline: float) -> None:
        """Read as a whole, so that it is sent on as a whole or not at all."""
        body, untrue, kind = b"", {b"content-length"}, list[tuple[bytes, bytes]]()
        while not self._answer.content.at_eof() and len(body) <= LARGEST_SHOWN_ERROR:
            body += await self._next(asyncio.timeout_at(deadline))
        if len(body) > LARGEST_SHOWN_ERROR:  # ours in its place
            said = f"the upstream answered with status {self._answer.status} and more than can be shown"
            error = RequestError(said, code="upstream_error", kind="server_error")
            body, kind = json_bytes(error.content), [(b"content-type", b"application/json")]
            untrue |= {b"content-type", b"content-encoding"}
        kept = [(name, value) for name, value in self._headers if name not in untrue]
        self._headers = [*kept, *kind, (b"content-length", str(len(body)).encode())]
        await self._begin()
        await self._send({"type": "http.response.body", "body": Stars(self._key, error=True).feed(body, last=True)})

    async def _next(self, waiting: asyncio.Timeout) -> bytes:
        """The next piece of the answer."""
        content = self._answer.content
        try:
            if content.is_eof():  # all of it is here: a timer would cost more than the reading
                return await content.readany()
            async with waiting:
                return await content.readany()
        except Exception as error:  # of aiohttp's, some are no ClientError
            raise BrokenAnswerError from error

    async def _begin(self) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": self._answer.status, "headers": self._headers})


def returned(answer: aiohttp.ClientResponse, key: str | None) -> Headers:
    """The headers for the caller.

    Args:
        answer: The upstream's, with all its headers there.
        key: Ours, where it was asked with one; the answer has then been unpacked.

    Raises:
        BrokenAnswerError: No server may send such a status or header.
    """
    if not 200 <= answer.status < 600:
        raise BrokenAnswerError from ValueError(f"status {answer.status}")
    lower = [(name.lower(), value) for name, value in answer.raw_headers]
    if _CONTROL.search(b"".join(value for _, value in lower)):
        raise BrokenAnswerError from ValueError("a header with control characters")
    dropped = _NOT_RETURNED | named_by_connection(lower)
    if answer.status in (204, 304):
        dropped |= {b"content-length"}  # of a body that is not sent
    if key is not None:
        dropped |= _ACCOUNT | _packing(lower)
    kept = [(name, value) for name, value in lower if name not in dropped and not name.startswith(_NEVER_RETURNED)]
    if key is None:
        return kept
    stars, secret = Stars(key, error=True), key.lower().encode("latin-1", "replace")
    return [(name, stars.feed(value, last=True)) for name, value in kept if not secret or secret not in name]


def _packing(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The headers that were true of an answer before it was unpacked."""
    packed = [value.decode("latin-1").strip().lower() for name, value in headers if name == b"content-encoding"]
    if not packed or packed == ["identity"]:
        return set()
    if packed[0] not in _UNPACKED or len(packed) > 1:
        raise BrokenAnswerError from ValueError("packed in a way that nobody asked for")
    return {b"content-encoding", b"content-length"}

"""Relays an upstream's response to the client, without the headers of its own host and without the operator's key."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import aiohttp
from starlette.types import Send

from localemp.serving.errors import RequestError
from localemp.serving.proxy.request import HOP_BY_HOP, connection_headers
from localemp.serving.proxy.stream_end import StreamEnd
from localemp.web.asgi import RawHeaders, error_event, is_event_stream, json_bytes

LARGEST_SHOWN_ERROR = 64 * 2**10
"""Bytes of an error that is passed on."""
SECRET = 16
"""Characters from which on a key is not a word that a reply could contain by chance, as "none" and "EMPTY" are."""
AFTER_DONE = 0.5
"""Seconds for a stream to end after it said "[DONE]"; then it is ended here."""

# What an upstream says of its own host, and which sites may use it: their pages would use the operator's key.
_DROPPED = HOP_BY_HOP | frozenset(b"set-cookie alt-svc strict-transport-security clear-site-data".split())
_ACCOUNT = frozenset((b"openai-organization", b"openai-project"))
# CORS, and what a reverse proxy in front of this server does with a response (X-Accel-Redirect, X-Sendfile).
_DROPPED_PREFIXES = (b"access-control-", b"x-accel-", b"x-sendfile")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # in names, aiohttp rejects them
_DECOMPRESSED = ("gzip", "deflate", "br", "zstd")  # by aiohttp, if asked to


class BrokenResponseError(Exception):
    """A response that is missing, incomplete or cannot be sent on; its cause says why."""


class KeyRedactor:
    """Replaces the operator's key in a response by as many stars, so that no length changes.

    Args:
        key: The key; None or empty changes nothing.
        error: Whether the response is an error. Otherwise a short key is redacted only after the word "error".
    """

    def __init__(self, key: str | None, *, error: bool) -> None:
        self._key = (key or "").encode()
        self._stars = b"*" * len(self._key)
        self._always = bool(key) and (error or len(self._key) >= SECRET)
        self._held = b""

    def feed(self, part: bytes, *, last: bool) -> bytes:
        """Return the next piece; an end that may be the beginning of the key is held back for the next one."""
        if not self._key:
            return part
        if not self._always:
            before, error, after = part.partition(b'"error"')
            return before + error + after.replace(self._key, self._stars) if error else part
        part = (self._held + part).replace(self._key, self._stars)
        held = 0 if last else self._partial_key(part)
        self._held = part[len(part) - held :]
        return part[: len(part) - held]

    def _partial_key(self, part: bytes) -> int:
        """Return how many bytes at the end are the beginning of the key."""
        start = max(0, len(part) - len(self._key) + 1)
        while (start := part.find(self._key[:1], start)) >= 0:
            if self._key.startswith(part[start:]):
                return len(part) - start
            start += 1
        return 0


class ResponseRelay:
    """Relays one response.

    Args:
        response: The upstream's response, its headers complete.
        key: The operator's key, if the request was sent with it; the response has then been decompressed.
        send: Sends to the client.

    Attributes:
        started: Whether anything was sent to the client.
    """

    def __init__(self, response: aiohttp.ClientResponse, key: str | None, send: Send) -> None:
        self._response, self._key, self._send = response, key, send
        self._headers: RawHeaders = []
        self._last = b""
        self.started = False

    async def run(self, deadline: float, between: float) -> None:
        """Send the response on: a stream as soon as its headers are there, any other with its first bytes.

        Args:
            deadline: When the first byte, or all of an error, must be there, in the loop's time.
            between: Seconds for each further chunk.

        Raises:
            BrokenResponseError: It ended early, or cannot be sent on.
        """
        self._headers = relayed_headers(self._response, self._key)
        if self._response.status >= 400 and self._response.method != "HEAD":
            await self._relay_error(deadline)
            return
        if is_event_stream(self._headers):
            await self._start()
        redactor, timer, more = KeyRedactor(self._key, error=False), asyncio.timeout_at(deadline), True
        end = StreamEnd() if self._is_completion else None
        while more:
            try:
                part = await self._read(timer)
                more = not self._response.content.at_eof()
            except BrokenResponseError:
                if end is None or not end.done:
                    raise
                part, more = b"", False  # after "[DONE]", whatever happens is the end
            if not self.started:
                await self._start()
            if end is not None:
                end.feed(part)
            cut = not more and end is not None and not end.complete
            self._last = redactor.feed(part, last=not more)
            await self._send({"type": "http.response.body", "body": self._last, "more_body": more or cut})
            if cut:
                raise BrokenResponseError from ConnectionError("neither a finish reason nor [DONE] came")
            timer = asyncio.timeout(AFTER_DONE if end is not None and end.done else between)

    async def end_early(self, content: Any) -> None:
        """End the response early: with an error event in a stream, else by closing the connection."""
        if is_event_stream(self._headers):
            event = error_event(self._last, content)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        # Otherwise uvicorn closes the connection of a response that was not ended.

    @property
    def _is_completion(self) -> bool:
        """Whether the response is a stream whose end can be recognized."""
        return is_event_stream(self._headers) and self._response.url.path.endswith("/completions")

    async def _relay_error(self, deadline: float) -> None:
        """Read an error completely, so that it is sent on completely or not at all."""
        body, dropped, own = b"", {b"content-length"}, list[tuple[bytes, bytes]]()
        while not self._response.content.at_eof() and len(body) <= LARGEST_SHOWN_ERROR:
            body += await self._read(asyncio.timeout_at(deadline))
        if len(body) > LARGEST_SHOWN_ERROR:  # replace it
            message = f"the upstream responded with status {self._response.status} and an error too large to show"
            error = RequestError(message, code="upstream_error", kind="server_error")
            body, own = json_bytes(error.content), [(b"content-type", b"application/json")]
            dropped |= {b"content-type", b"content-encoding"}
        kept = [(name, value) for name, value in self._headers if name not in dropped]
        self._headers = [*kept, *own, (b"content-length", str(len(body)).encode())]
        await self._start()
        body = KeyRedactor(self._key, error=True).feed(body, last=True)
        await self._send({"type": "http.response.body", "body": body})

    async def _read(self, timer: asyncio.Timeout) -> bytes:
        content = self._response.content
        try:
            if content.is_eof():  # all of it is here: a timer would cost more than the reading
                return await content.readany()
            async with timer:
                return await content.readany()
        except Exception as error:  # some of aiohttp's are not a ClientError
            raise BrokenResponseError from error

    async def _start(self) -> None:
        self.started = True
        message = {"type": "http.response.start", "status": self._response.status, "headers": self._headers}
        await self._send(message)


def relayed_headers(response: aiohttp.ClientResponse, key: str | None) -> RawHeaders:
    """Return the headers for the client.

    Args:
        response: The upstream's response, its headers complete.
        key: The operator's key, if the request was sent with it; the response has then been decompressed.

    Raises:
        BrokenResponseError: The status or a header is invalid.
    """
    if not 200 <= response.status < 600:
        raise BrokenResponseError from ValueError(f"status {response.status}")
    headers = [(name.lower(), value) for name, value in response.raw_headers]
    if _CONTROL.search(b"".join(value for _, value in headers)):
        raise BrokenResponseError from ValueError("a header with control characters")
    dropped = _DROPPED | connection_headers(headers)
    if response.status in (204, 304):
        dropped |= {b"content-length"}  # of a body that is not sent
    if key is not None:
        dropped |= _ACCOUNT | _compression_headers(headers)
    kept = [(name, value) for name, value in headers if name not in dropped and not name.startswith(_DROPPED_PREFIXES)]
    if key is None:
        return kept
    redactor, secret = KeyRedactor(key, error=True), key.lower().encode("latin-1", "replace")
    return [(name, redactor.feed(value, last=True)) for name, value in kept if not secret or secret not in name]


def _compression_headers(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the headers that are no longer true of a response that was decompressed."""
    encodings = [value.decode("latin-1").strip().lower() for name, value in headers if name == b"content-encoding"]
    if not encodings or encodings == ["identity"]:
        return set()
    if encodings[0] not in _DECOMPRESSED or len(encodings) > 1:
        raise BrokenResponseError from ValueError("compressed in a way that was not asked for")
    return {b"content-encoding", b"content-length"}

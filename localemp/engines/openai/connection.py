"""HTTP connection to one OpenAI-compatible server, through the `openai` package.

The package's retries and its parsing of responses are not used: servers differ more than it allows for. Whatever goes
wrong in an attempt is raised as a `ResponseError`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO, TypeVar

import httpx2
import openai

from localemp.engines.openai.clients import Clients
from localemp.engines.openai.failures import NoResponseError, WebPageError, seconds_asked
from localemp.engines.openai.target import Target
from localemp.protocol.completions import MAX_RESPONSE_BYTES
from localemp.protocol.compression import ACCEPTED, Decompressor
from localemp.protocol.errors import MAX_ERROR_BYTES, MalformedResponseError, ResponseError, ServerError
from localemp.utils.plain_errors import in_words
from localemp.utils.redaction import mask_key
from localemp.utils.text import one_line, well_formed

T = TypeVar("T")
TRANSFER_SECONDS = 3600.0
"""Longest time that sending or fetching a file may take, in seconds."""
MAX_FILE_BYTES = 8 * 2**30
"""Largest file that is fetched, in bytes."""

_LOOK = 5.0  # seconds between two looks at how long a response is awaited
_BEGINNING = 1000  # bytes by which a web page is recognised
# Where the body of the response goes, instead of into memory: set while a file is downloaded.
_SINK: ContextVar[BinaryIO | None] = ContextVar("sink", default=None)
# Headers that a redirect may carry to another server: none that can hold a secret.
_HARMLESS = frozenset(
    ["accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding",
     "user-agent"]
)  # fmt: skip


class Connection:
    """Sends requests to one server.

    Args:
        target: The server and the model.
        timeout: Timeout of one attempt, in seconds.
    """

    def __init__(self, target: Target, timeout: float) -> None:
        self._key, self._key_header, self._timeout = target.key, target.key_header, timeout
        certificates = httpx2.create_ssl_context()

        def client() -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(
                base_url=target.base,
                default_query=target.query,
                api_key=target.key or "not-needed",
                max_retries=0,
                timeout=openai.Timeout(timeout, connect=min(timeout, 10.0)),
                default_headers={"Accept-Encoding": ACCEPTED},
                http_client=openai.DefaultAsyncHttpxClient(
                    verify=certificates,
                    event_hooks={"request": [self._keep_secrets], "response": [self._receive]},
                ),
            )

        self._clients = Clients(client)

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[bytes], T],
        *,
        seconds: Callable[[], float] | None = None,
        on_headers: Callable[[Mapping[str, str]], None] = lambda _: None,
    ) -> T:
        """Send a request once.

        Args:
            path: Path after the base URL.
            body: The request, as JSON values.
            read: Parses the body of the response, or raises a ResponseError.
            seconds: Returns the seconds for the response, if they are fewer than those of the connection; asked again
                while it is awaited.
            on_headers: Called with the headers of a good response; those of others are in the error.

        Raises:
            ServerError: The server reports an error, by status or inside the body.
            MalformedResponseError: The response is not a completion.
            NoResponseError: No response arrived, or only a part of it.
        """
        async with self._clients.one() as client:
            asked = client.post(path, cast_to=httpx2.Response, body=body)
            return await self._once(asked, read, seconds or (lambda: self._timeout), on_headers)

    async def get(self, path: str, read: Callable[[bytes], T], query: Mapping[str, Any] | None = None) -> T:
        """Send a GET request once, with a timeout of at most 30 seconds; see `post`."""
        async with self._clients.one() as client:
            asked = client.get(path, cast_to=httpx2.Response, options={"params": query or {}})
            return await self._once(asked, read, lambda: min(self._timeout, 30.0))

    async def upload(
        self, path: str, fields: Mapping[str, str], name: str, file: BinaryIO, read: Callable[[bytes], T]
    ) -> T:
        """Send a file once, piece by piece, as a form with further fields; see `post`."""
        async with self._clients.one() as client:
            asked = client.post(
                path,
                cast_to=httpx2.Response,
                body=fields,
                files=[("file", (name, file, "application/jsonl"))],
                options={"headers": {"Content-Type": "multipart/form-data"}},
            )
            return await self._once(asked, read, lambda: TRANSFER_SECONDS)

    async def download(self, path: str, file: BinaryIO) -> None:
        """Fetch a file once, piece by piece; raises what `post` raises.

        Args:
            path: Path after the base URL.
            file: Where to write it; has a part of it if this fails.
        """
        token = _SINK.set(file)
        try:
            async with self._clients.one() as client:
                await self._once(client.get(path, cast_to=httpx2.Response), bytes, lambda: TRANSFER_SECONDS)
        finally:
            _SINK.reset(token)

    def without_key(self, text: str) -> str:
        """Mask the key in what the server says."""
        return mask_key(text, self._key)

    def hide_key(self, error: ResponseError) -> None:
        """Mask the key in an error."""
        error.message = self.without_key(error.message)
        error.args = (error.message,)

    async def close(self) -> None:
        """Close all connections."""
        await self._clients.close()

    async def _once(
        self,
        asked: Awaitable[httpx2.Response],
        read: Callable[[bytes], T],
        seconds: Callable[[], float],
        on_headers: Callable[[Mapping[str, str]], None] = lambda _: None,
    ) -> T:
        try:
            async with within(seconds):  # for the whole response: a server may trickle bytes forever
                response = await asked
        except (TimeoutError, openai.APITimeoutError) as error:
            connecting = isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise NoResponseError("no response in time", "unreachable" if connecting else "late") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            said = one_line(well_formed(in_words(cause)))
            unreachable = isinstance(cause, httpx2.ConnectError | httpx2.ProxyError)
            raise NoResponseError(said, "unreachable" if unreachable else "broken") from error
        try:
            found = _read(response.content, read)
        except ResponseError as error:
            raise self._completed(error, response) from error.__cause__
        on_headers(response.headers)
        return found

    async def _keep_secrets(self, request: httpx2.Request) -> None:
        """Strip headers from redirects to other servers: httpx2 drops only the key, and the environment may add some.

        A key with a header of its own is put there last, so that it stays behind, too.
        """
        if "authorization" not in request.headers:
            for name in request.headers.keys() - _HARMLESS:
                del request.headers[name]
        elif self._key and self._key_header[0] != "authorization":
            del request.headers["authorization"]
            request.headers.update([self._key_header])

    async def _receive(self, response: httpx2.Response) -> None:
        """Read the body, decompressed and limited in size, into memory or into the file that is downloaded.

        Raises:
            ServerError: The status is an error.
            MalformedResponseError: The body is too large, or compressed in a way that was not accepted.
        """
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        failed = not response.is_success and not response.has_redirect_location
        sink = _SINK.get() if response.is_success else None
        wanted = MAX_RESPONSE_BYTES if sink is None else MAX_FILE_BYTES
        largest = MAX_ERROR_BYTES if failed else wanted
        content = bytearray()
        try:
            decompressor = Decompressor(response.headers.get("content-encoding", ""), largest)
            async for part in response.stream:
                for piece in decompressor.feed(part):
                    if sink is not None:
                        sink.write(piece)
                    if sink is None or len(content) < _BEGINNING:  # a web page is known by its beginning
                        content += piece
            end = decompressor.end()
            content += end
            if sink is not None:
                sink.write(end)
        except MalformedResponseError:
            if not failed:
                raise  # of a failed request the status is enough
        await response.stream.aclose()
        if failed:
            raise self._completed(ServerError.parse(bytes(content), response.status_code), response)
        response.stream = httpx2.ByteStream(bytes(content))
        response.headers.pop("content-encoding", None)

    def _completed(self, error: ResponseError, response: httpx2.Response) -> ResponseError:
        """Add the headers to an error, and mask the key in its message."""
        error.headers = response.headers
        error.retry_after = seconds_asked(response.headers) or error.retry_after
        self.hide_key(error)
        return error


@asynccontextmanager
async def within(seconds: Callable[[], float]) -> AsyncIterator[None]:
    """Raise TimeoutError after some seconds, which can become more or fewer meanwhile."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds()) as limit:
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if not limit.expired():
                limit.reschedule(began + seconds())
                timer = loop.call_later(_LOOK, look)

        timer = loop.call_later(_LOOK, look)
        try:
            yield
        finally:
            timer.cancel()


def _read(content: bytes, read: Callable[[bytes], T]) -> T:
    beginning = content[:_BEGINNING].lstrip(b"\xef\xbb\xbf \t\r\n")
    if beginning[:1] == b"<":
        raise WebPageError(f"a web page: {one_line(beginning.decode('utf-8', 'replace'))}")
    return read(content)

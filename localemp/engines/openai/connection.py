"""HTTP to one OpenAI-compatible server, through the `openai` package.

The package's own retries are off, and so is its reading of answers: servers differ more than it allows for. Whatever
goes wrong in a try becomes one kind of error, an `AnswerError`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import httpx2
import openai

from localemp.engines.openai.failures import NoAnswerError, WebPageError, seconds_asked
from localemp.engines.openai.target import Target
from localemp.protocol.answers import LARGEST_ANSWER
from localemp.protocol.compression import ACCEPTED, Decompressor
from localemp.protocol.errors import LARGEST_ERROR, AnswerError, ServedError, UnreadableAnswerError
from localemp.utils.text import one_line, well_formed

T = TypeVar("T")
# What another server may be sent, where a redirect leads to one: nothing that can be a secret.
_HARMLESS = frozenset(
    ["accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding",
     "user-agent"]
)  # fmt: skip


class Connection:
    """Sends requests to one server.

    Args:
        target: Who is asked.
        timeout: Seconds for one try.
    """

    def __init__(self, target: Target, timeout: float) -> None:
        self._key, self._timeout = target.key, timeout
        self._client = openai.AsyncOpenAI(
            base_url=target.address,
            api_key=target.key or "not-needed",
            max_retries=0,
            timeout=openai.Timeout(timeout, connect=min(timeout, 10.0)),
            default_headers={"Accept-Encoding": ACCEPTED},
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"request": [_keep_secrets], "response": [self._receive]}
            ),
        )

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[bytes], T]) -> T:
        """Send a request once.

        Args:
            path: After the base URL.
            body: JSON.
            read: Makes something of the body of an answer, or raises an AnswerError.

        Raises:
            ServedError: The server says that it failed, by the status or inside an answer.
            UnreadableAnswerError: Something else came than an answer.
            NoAnswerError: Nothing came, or not all of it.
        """
        return await self._once(self._client.post(path, cast_to=httpx2.Response, body=body), read, self._timeout)

    async def get(self, path: str, read: Callable[[bytes], T]) -> T:
        """Ask once, and not for long; see `post`."""
        return await self._once(self._client.get(path, cast_to=httpx2.Response), read, min(self._timeout, 30.0))

    async def close(self) -> None:
        """Close all connections for good."""
        await self._client.close()

    async def _once(self, asked: Awaitable[httpx2.Response], read: Callable[[bytes], T], patience: float) -> T:
        try:
            async with asyncio.timeout(patience):  # for all of it: a server may send a little now and then for ever
                response = await asked
        except (TimeoutError, openai.APITimeoutError) as error:
            connecting = isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise NoAnswerError("no answer in time", "unreachable" if connecting else "late") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            said = one_line(well_formed(str(cause)) or type(cause).__name__)
            unreachable = isinstance(cause, httpx2.ConnectError | httpx2.ProxyError)
            raise NoAnswerError(said, "unreachable" if unreachable else "broken") from error
        try:
            return _read(response.content, read)
        except AnswerError as error:
            raise self._told(error, response) from error.__cause__

    async def _receive(self, response: httpx2.Response) -> None:
        """Read the body here: bounded, and without the compression that it came in.

        Raises:
            ServedError: The status is an error's.
            UnreadableAnswerError: It is too large, or compressed in a way that was not asked for.
        """
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        failed = not response.is_success and not response.has_redirect_location
        content = bytearray()
        try:
            undo = Decompressor(
                response.headers.get("content-encoding", ""), LARGEST_ERROR if failed else LARGEST_ANSWER
            )
            async for part in response.stream:
                for piece in undo.feed(part):
                    content += piece
            content += undo.end()
        except UnreadableAnswerError:
            if not failed:
                raise  # otherwise its status says enough
        await response.stream.aclose()
        if failed:
            raise self._told(ServedError.read(bytes(content), response.status_code), response)
        response.stream = httpx2.ByteStream(bytes(content))
        response.headers.pop("content-encoding", None)

    def _told(self, error: AnswerError, response: httpx2.Response) -> AnswerError:
        """An error with what the headers say; what it quotes holds no key."""
        error.retry_after = seconds_asked(response.headers)
        error.message = _masked(error.message, self._key)
        error.args = (error.message,)
        return error


def _masked(text: str, key: str) -> str:
    if not key:
        return text
    text = text.replace(key, "***")
    # A message is cut at its end, there perhaps in the middle of the key.
    part = next((key[:size] for size in range(len(key) - 1, 3, -1) if text.endswith(f"{key[:size]}…")), "")
    return f"{text[: -len(part) - 1]}***…" if part else text


def _read(content: bytes, read: Callable[[bytes], T]) -> T:
    beginning = content[:1000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if beginning[:1] == b"<":
        raise WebPageError(f"it is a web page: {one_line(beginning.decode('utf-8', 'replace'))}")
    return read(content)


async def _keep_secrets(request: httpx2.Request) -> None:
    """Where a redirect leads to another server, httpx2 takes the key away; the environment may add further secrets."""
    if "authorization" not in request.headers:
        for name in request.headers.keys() - _HARMLESS:
            del request.headers[name]

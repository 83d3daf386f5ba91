"""A client of an OpenAI-compatible server that records arrival times.

Tokens are the server's own counts; a chunk of a stream may hold several tokens, or a part of one, and is never counted
as a token.
"""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from localemp.protocol.completions import MAX_RESPONSE_BYTES
from localemp.protocol.completions import ParsedCompletion as Chunk
from localemp.protocol.compression import ACCEPTED, Decompressor
from localemp.protocol.errors import MAX_ERROR_BYTES, MalformedResponseError, ResponseError, ServerError
from localemp.protocol.streams import StreamReader
from localemp.utils.plain_errors import in_words

CHAT = "/v1/chat/completions"


@dataclass(slots=True)
class Answer:
    """The outcome of a request; times are those of `time.perf_counter`.

    Attributes:
        started, ended: The time of sending, and of the end of the answer.
        status: The HTTP status; 0 if there was none.
        chunks: The arrival times of chunks with a choice, or of a whole answer that was not streamed.
        texts: The arrival times of chunks with text of a reply, or of a model's thinking.
        tokens: The tokens of the reply as counted by the server; None if it does not count them.
        text: The reply.
        error: The server's error in place of a reply or inside it, or the failure of the connection.
    """

    started: float
    ended: float = 0.0
    status: int = 0
    chunks: list[float] = field(default_factory=list)
    texts: list[float] = field(default_factory=list)
    tokens: int | None = None
    text: str = ""
    error: str = ""

    @property
    def first(self) -> float | None:
        """The arrival time of the first text."""
        return self.texts[0] if self.texts else None

    @property
    def good(self) -> bool:
        """Whether it is a whole reply."""
        return self.status == 200 and not self.error and bool(self.chunks)

    def take(self, chunk: Chunk) -> None:
        """Record a chunk, or a whole answer."""
        now = time.perf_counter()
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self.tokens = chunk.usage.completion_tokens
        if chunk.choices:
            said = chunk.choices[0]
            self.chunks.append(now)
            self.text += said.text
            if said.text or said.thinking:
                self.texts.append(now)


class Client:
    """A client of one server.

    Args:
        url: The server's URL; without a path, "/v1" is added.
        key: The API key.
        timeout: Seconds for one request.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 600) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self.headers = {"Accept-Encoding": ACCEPTED} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._chat = chat_url(url)

    async def __aenter__(self) -> Self:
        # One connection for each request in flight; idle ones close before uvicorn does, after 5 s.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        # Answers are decompressed here, in bounded memory.
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self.headers, auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def chat(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        """Send one chat request, streamed if its body says so."""
        return await self.post(json.dumps(body).encode(), headers)

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Post any body to the chat endpoint; a broken connection gives an answer with status 0."""
        answer = Answer(time.perf_counter())
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with self._session.post(self._chat, data=body, headers=sent) as response:
                if response.status == 200:
                    await _read(response, answer)
                else:
                    answer.error = await _read_error(response)
                answer.status = response.status
        except ResponseError as error:
            answer.status, answer.error = 200, error.message
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            answer.error = f"{type(error).__name__}: {in_words(error)}"
        answer.ended = time.perf_counter()
        return answer

    async def get(self, path: str) -> str:
        """Return the text at a path."""
        async with self._session.get(self.url + path) as response:
            return b"".join([part async for part in _parts(response)]).decode("utf-8", "replace")


async def _read(response: aiohttp.ClientResponse, answer: Answer) -> None:
    """Record an answer as it arrives, streamed or whole.

    Raises:
        ResponseError: It contains an error, is not an answer, or its stream was cut.
    """
    reader = StreamReader()
    async for part in _parts(response):
        for chunk in reader.feed(part):
            answer.take(chunk)
    for chunk in reader.end():
        answer.take(chunk)


async def _read_error(response: aiohttp.ClientResponse) -> str:
    """The message of an error response, in one line."""
    body = bytearray()
    with suppress(MalformedResponseError):  # its status says enough
        async for part in _parts(response, MAX_ERROR_BYTES):
            body += part
    return ServerError.parse(bytes(body), response.status).message


async def _parts(response: aiohttp.ClientResponse, largest: int = MAX_RESPONSE_BYTES) -> AsyncIterator[bytes]:
    undo = Decompressor(response.headers.get("Content-Encoding", ""), largest)
    async for part in response.content.iter_any():
        for piece in undo.feed(part):
            yield piece
    yield undo.end()


def api_url(url: str) -> str:
    """Return the base URL of a server's API; "/v1" is added if the URL has no path."""
    return url.rstrip("/") if urlsplit(url).path.strip("/") else url.rstrip("/") + "/v1"


def chat_url(url: str) -> str:
    """Return the URL of a server's chat endpoint."""
    return api_url(url) + "/chat/completions"


def chat_messages(turns: Sequence[str]) -> list[dict[str, str]]:
    """Return the turns of a dialogue as chat messages; the speaker is the user."""
    return [{"role": "assistant" if number % 2 else "user", "content": turn} for number, turn in enumerate(turns)]


def percentile(values: Sequence[float], part: float) -> float:
    """Return a percentile, interpolated linearly; 0 for no values."""
    return float(np.percentile(values, 100 * part)) if len(values) else 0.0

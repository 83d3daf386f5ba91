"""A client of an OpenAI-compatible server that notes what came when.

Tokens are those that the server counts itself; a chunk of a stream may hold several, or a part of one, and is never
taken for a token.
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

CHAT = "/v1/chat/completions"


@dataclass(slots=True)
class Answer:
    """What came of a request; times are those of `time.perf_counter`.

    Attributes:
        started, ended: When it was sent, and when all of the answer was there.
        status: Of HTTP; 0 where there was none.
        chunks: When each chunk of a stream came that holds a choice, or the whole answer that was not streamed.
        texts: When each of them came that holds text of a reply, or of what a model thinks before.
        tokens: Of the reply, as the server counts them; None where it does not.
        text: The reply.
        error: What the server said in place of a reply, or in the middle of one; what broke the connection.
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
        """When the first text came."""
        return self.texts[0] if self.texts else None

    @property
    def good(self) -> bool:
        """Whether it is a whole reply."""
        return self.status == 200 and not self.error and bool(self.chunks)

    def take(self, chunk: Chunk) -> None:
        """Note a chunk, or a whole answer."""
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
    """Asks one server.

    Args:
        url: Of the server: without a path it answers below "/v1", else below that path.
        key: For the server.
        timeout: Seconds for one request.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 600) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self.headers = {"Accept-Encoding": ACCEPTED} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._chat = chat_url(url)

    async def __aenter__(self) -> Self:
        # As many connections as there are requests at once; idle ones go before uvicorn closes them, after 5 s.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        # What is compressed is undone here, in bounded memory.
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self.headers, auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def chat(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        """One chat request, streamed if its body says so."""
        return await self.post(json.dumps(body).encode(), headers)

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """A body of any kind to where chats are answered; a broken connection is an answer with status 0."""
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
            answer.error = f"{type(error).__name__}: {error}"
        answer.ended = time.perf_counter()
        return answer

    async def get(self, path: str) -> str:
        """The text of a page."""
        async with self._session.get(self.url + path) as response:
            return b"".join([part async for part in _parts(response)]).decode("utf-8", "replace")


async def _read(response: aiohttp.ClientResponse, answer: Answer) -> None:
    """Note an answer as it comes, a stream or a whole one.

    Raises:
        ResponseError: There is an error inside, it is none, or a stream that was cut.
    """
    reader = StreamReader()
    async for part in _parts(response):
        for chunk in reader.feed(part):
            answer.take(chunk)
    for chunk in reader.end():
        answer.take(chunk)


async def _read_error(response: aiohttp.ClientResponse) -> str:
    """What the server says in an error's answer, in one line."""
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
    """Where a server's API begins: "/v1" where its URL names no path."""
    return url.rstrip("/") if urlsplit(url).path.strip("/") else url.rstrip("/") + "/v1"


def chat_url(url: str) -> str:
    """Where a server answers chats."""
    return api_url(url) + "/chat/completions"


def chat_messages(turns: Sequence[str]) -> list[dict[str, str]]:
    """The turns of a dialogue as a client sends them: the speaker is the user."""
    return [{"role": "assistant" if number % 2 else "user", "content": turn} for number, turn in enumerate(turns)]


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which a part of them lies, between two by their distance; 0 where there are none."""
    return float(np.percentile(values, 100 * part)) if len(values) else 0.0

"""Both ends of a measurement of `localemp serve`: a client that notes what came when, and vLLM with and without us."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import aiohttp

from localemp.assembly import Assembly
from localemp.serving.command import MIDDLEWARE, vllm_command
from localemp.serving.launch import Server
from localemp.serving.settings import ServeSettings

CHAT = "/v1/chat/completions"

T = TypeVar("T")


@dataclass(slots=True)
class Answer:
    """What came of a request; times are those of `time.perf_counter`.

    Attributes:
        started, ended: When it was sent, and when all of the answer was there.
        status: Of HTTP; 0 where there was none.
        chunks: When each chunk of a stream came that holds a choice, or the whole answer that was not streamed.
        first: When the first text came.
        tokens: Of the reply, as the server counts them.
        text: The reply.
        error: What the server said in place of a reply, or in the middle of one; what broke the connection.
    """

    started: float
    ended: float = 0.0
    status: int = 0
    chunks: list[float] = field(default_factory=list)
    first: float | None = None
    tokens: int = 0
    text: str = ""
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether it is a whole reply."""
        return self.status == 200 and not self.error and bool(self.chunks)

    def take(self, content: Mapping[str, Any]) -> None:
        """Note a chunk, or a whole answer."""
        now = time.perf_counter()
        if "error" in content:
            self.error = json.dumps(content["error"])
        if usage := content.get("usage"):
            self.tokens = usage.get("completion_tokens") or 0
        if choices := content.get("choices"):
            self.chunks.append(now)
            said = choices[0].get("delta") or choices[0].get("message") or {}
            if text := said.get("content"):
                self.first = self.first or now
                self.text += text


class Client:
    """Asks one server.

    Args:
        url: Of the server, without "/v1".
        key: For the server.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __aenter__(self) -> Self:
        # As many connections as there are requests at once; idle ones go before uvicorn closes them, after 5 s.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
        timeout = aiohttp.ClientTimeout(total=600)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self.headers)
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
            async with self._session.post(self.url + CHAT, data=body, headers=sent) as response:
                if response.status != 200:
                    answer.error = (await response.read()).decode("utf-8", "replace")
                elif response.content_type == "text/event-stream":
                    await _read_events(response, answer)
                else:
                    answer.take(json.loads(await response.read()))
                answer.status = response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            answer.error = f"{type(error).__name__}: {error}"
        answer.ended = time.perf_counter()
        return answer

    async def get(self, path: str) -> str:
        """The text of a page."""
        async with self._session.get(self.url + path) as response:
            return await response.text()


async def _read_events(response: aiohttp.ClientResponse, answer: Answer) -> None:
    done = False
    async for line in response.content:
        if line.startswith(b"data: "):
            done = line.strip() == b"data: [DONE]"
            if not done:
                answer.take(json.loads(line[6:]))
    if not done and not answer.error:
        answer.error = "the stream ended without [DONE]"


async def at_once(jobs: Iterable[T], count: int, do: Callable[[T], Awaitable[Answer]]) -> tuple[list[Answer], float]:
    """Do all jobs, so many at a time: a new one begins when one ends. Gives their answers and the seconds it took."""
    waiting, answers = iter(jobs), list[Answer]()

    async def work() -> None:
        for job in waiting:
            answers.append(await do(job))

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(count)))
    return answers, time.perf_counter() - started


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which a part of them lies; 0 where there are none."""
    return sorted(values)[round(part * (len(values) - 1))] if values else 0.0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def vllm_server(assembly: Assembly, settings: ServeSettings | None, options: Sequence[str], key: str = "") -> Server:
    """A server of vLLM that is not started yet, with localemp's middleware or, without settings, bare."""
    port = free_port()
    command, env = vllm_command(assembly, "127.0.0.1", port, options), {}
    if settings is None:
        where = command.index(MIDDLEWARE)
        del command[where - 1 : where + 1]
    else:
        env = settings.to_env()
    return Server(command, f"http://127.0.0.1:{port}", env, key or None)

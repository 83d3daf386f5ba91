"""A real server in a thread: any ASGI app, and one that stands for an upstream and does what it is told."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import uvicorn
from patience import patience
from starlette.types import ASGIApp, Receive, Scope, Send

from localemp.web.asgi import read_body, wait_for_disconnect

REPLY = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "That sounds hard."}}]}


class Running:
    """Serves an app while it is entered, on a free port if none is named."""

    def __init__(self, app: ASGIApp, lifespan: str = "on", port: int = 0, log_level: str = "error") -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = self._socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.address}/v1"
        config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan=lifespan,
            log_config=None,
            log_level=log_level,
            date_header=False,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(patience(10))


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str  # path and query, as they were encoded
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


Rule = Callable[[Seen, Send], Awaitable[None]]


class FakeUpstream(Running):
    """Answers by `rule`, and stops when the client goes, as an engine does.

    Attributes:
        requests: All requests, in the order in which they came.
        running: How many it is working on.
    """

    def __init__(self) -> None:
        super().__init__(self._app, lifespan="off", log_level="critical")  # it breaks off on purpose
        self.running = 0
        self.reset()

    def reset(self, rule: Rule | None = None) -> None:
        """Forget all requests, and do as `rule` says from now on; what is under way may still end."""
        self.requests: list[Seen] = []
        self.rule = rule or answers()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, 2**30)
        query = scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        seen = Seen(scope["method"], target, headers, body)
        self.requests.append(seen)
        self.running += 1
        work = asyncio.ensure_future(self.rule(seen, send))
        gone = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.running -= 1
            gone.cancel()
        if not work.cancel():
            work.result()


async def start(send: Send, status: int = 200, **headers: str) -> None:
    """The beginning of an answer; "_" in a header's name stands for "-"."""
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def chunk(send: Send, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def event(content: Any) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def token(text: str) -> bytes:
    """A chunk of a streamed completion."""
    return event({"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]})


def answers(body: bytes | Any = REPLY, status: int = 200, delay: float = 0.0, **headers: str) -> Rule:
    """A whole answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def rule(seen: Seen, send: Send) -> None:
        await asyncio.sleep(delay)
        kept = {"content_type": "application/json", **headers, "content_length": str(len(content))}
        await start(send, status, **kept)
        await chunk(send, content, more=False)

    return rule


def streams(
    chunks: Sequence[bytes], then: str = "end", pause: float = 0.0, kind: str = "text/event-stream; charset=utf-8"
) -> Rule:
    """An event stream that in the end is ended, broken off ("break") or never continued ("wait")."""

    async def rule(seen: Seen, send: Send) -> None:
        await start(send, content_type=kind)
        for each in chunks:
            await chunk(send, each)
            await asyncio.sleep(pause)
        if then == "wait":
            await asyncio.sleep(60)
        if then == "break":
            raise RuntimeError("the server breaks off")
        await chunk(send, b"", more=False)

    return rule


async def silent(seen: Seen, send: Send) -> None:
    """No answer at all."""
    await asyncio.sleep(60)

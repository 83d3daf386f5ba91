"""Asks an ASGI app without a socket, with exactly the path, the headers and the pieces of a body that a test names."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Scope, Send

HOST = "127.0.0.1:8000"


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """Of OpenAI's form of errors."""
        code: str | None = self.json()["error"]["code"]
        return code


def scope_of(method: str, target: str, headers: dict[str, str] | None = None, root: str = "") -> Scope:
    """The scope that uvicorn makes of a request; None as a header's value leaves it out."""
    given = {"host": HOST, "content-type": "application/json"} | (headers or {})
    raw, _, query = target.partition("?")
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "root_path": root,
        "path": root + unquote(raw),
        "raw_path": (root + raw).encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items() if value is not None],
        "state": {},
    }


async def ask(
    app: ASGIApp,
    method: str,
    target: str,
    body: bytes | Sequence[bytes] | Any = b"",
    headers: dict[str, Any] | None = None,
    root: str = "",
) -> Answered:
    """One request; a body that is no bytes is sent as JSON, a list of bytes piece by piece."""
    if isinstance(body, list) and all(isinstance(piece, bytes) for piece in body):
        pieces = body
    else:
        pieces = [body if isinstance(body, bytes) else json.dumps(body).encode()]
    left = list(pieces)
    sent: list[Message] = []

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(event: Message) -> None:
        sent.append(event)

    await app(scope_of(method, target, headers, root), receive, send)
    start, *parts = sent
    decoded = {name.decode(): value.decode("latin-1") for name, value in start.get("headers", ())}
    return Answered(start["status"], decoded, b"".join(part.get("body", b"") for part in parts))


async def send_json(send: Send, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
    """Answer with JSON."""
    await _respond(send, JSONResponse(content, status, headers))


async def send_bytes(
    send: Send, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
) -> None:
    """Answer with a whole body."""
    await _respond(send, Response(body, status, headers, content_type))


async def _respond(send: Send, response: Response) -> None:
    async def receive() -> Message:
        raise AssertionError("a whole response asks for nothing")

    await response({"type": "http"}, receive, send)

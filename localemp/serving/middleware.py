"""The ASGI middleware that makes strategies models: it wraps vLLM's server, or a proxy before a hosted model.

A request for the model "llama:two-stage" is answered by the strategy, whose stages are requests to the wrapped app for
the model "llama". All other requests pass through untouched. The key is checked before anything else, since this stands
outside vLLM's own check.
"""

import asyncio
import hmac
import json
import re
from typing import Any

from localemp.serving import metrics
from localemp.serving.answering import answer, send_error
from localemp.serving.asgi import (
    App,
    BodyTooLargeError,
    ClientGoneError,
    Event,
    Receive,
    Scope,
    Send,
    Whole,
    header,
    once,
    read_body,
    send_bytes,
)
from localemp.serving.inner import unframed
from localemp.serving.menu import Menu
from localemp.serving.requests import RequestError, read_json, read_request
from localemp.serving.settings import ServeSettings
from localemp.serving.web import page_file

CHAT = "/v1/chat/completions"
OTHER_APIS = ("/v1/completions", "/v1/responses", "/v1/messages")
MAX_BODY = 64 * 2**20  # bytes: pictures for a model that sees them
MAX_TALK = 2**20  # bytes for a strategy: reading more would hold up the others' streams

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


class Strategies:
    """The middleware.

    Args:
        app: What it wraps.
        settings: By default those in the environment, which is how they reach vLLM's server.
    """

    def __init__(self, app: App, settings: ServeSettings | None = None) -> None:
        self.app, self.settings = app, settings or ServeSettings.from_env()
        self.menu = Menu(self.settings.model, self.settings.to_recipe(), self.settings.strategies)
        self._prefix = f"{self.settings.model}:"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or one websocket, or the server's start."""
        if scope["type"] == "lifespan":
            await self.app(scope, self._when_ready(receive), send)
            return
        path, method = str(scope["path"]).removeprefix(str(scope.get("root_path", ""))), scope.get("method", "")
        if self.settings.ui and method in ("GET", "HEAD") and (found := page_file(path)):
            await send_bytes(send, 200, *found)
        elif not self._may_pass(scope, path):
            await _refuse(scope, send)
        elif path == "/v1/models" and method == "GET":
            await self._models(scope, receive, send)
        elif path in (CHAT, *OTHER_APIS) and method == "POST":
            await self._post(path, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _when_ready(self, receive: Receive) -> Receive:
        """Have the server start only when the strategies are there."""

        async def receive_when_ready() -> Event:
            event = await receive()
            if event["type"] == "lifespan.startup":
                await asyncio.to_thread(self.menu.prepare)
            return event

        return receive_when_ready

    def _may_pass(self, scope: Scope, path: str) -> bool:
        """Whether the request has a key, or needs none."""
        keys = self.settings.api_keys
        if not keys or path == "/health" or scope.get("method") == "OPTIONS":
            return True
        kind, _, given = header(scope, b"authorization").partition(" ")
        # All are compared, so that the time tells nothing.
        same = [hmac.compare_digest(given.strip().encode("latin-1"), key.encode()) for key in keys]
        return kind.lower() == "bearer" and any(same)

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The wrapped app's list with one entry more for each strategy."""
        listed = Whole(2**20)
        await self.app(scope, receive, listed)
        body = listed.body
        if listed.status == 200:
            body = json.dumps(self._with_strategies(json.loads(body))).encode()
        await send_bytes(send, listed.status, body, b"application/json", unframed(listed.headers))

    def _with_strategies(self, listed: dict[str, Any]) -> dict[str, Any]:
        name = self.settings.model
        bare = next((model for model in listed["data"] if model["id"] == name), {"object": "model", "created": 0})
        own = {"owned_by": "localemp", "root": name, "parent": name}
        models = [bare | own | {"id": self._prefix + strategy} for strategy in self.settings.strategies]
        return listed | {"data": [*listed["data"], *models]}

    async def _post(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """A request that may be for a strategy."""
        try:
            body = await read_body(receive, MAX_BODY)
            content = self._for_a_strategy(body)
            if content is None:
                await self.app(scope, once(body, receive), send)
                return
            if path != CHAT:
                raise RequestError(f"a strategy answers at {CHAT}, not at {path}", "model", "unsupported_endpoint")
            request = read_request(content, str(content["model"]).removeprefix(self._prefix))
        except ClientGoneError:
            return
        except BodyTooLargeError:
            await send_error(send, _too_large(MAX_BODY))
        except RequestError as error:
            metrics.ERRORS.labels("none", error.status).inc()
            await send_error(send, error)
        else:
            await answer(self.app, self.menu, request, scope, receive, send)

    def _for_a_strategy(self, body: bytes) -> dict[str, Any] | None:
        """The decoded body if it is for a strategy. Most others need not be decoded to know that they are not."""
        if not any(self._prefix in _unescaped(found[1]) for found in _MODEL.finditer(body)):
            return None
        if len(body) > MAX_TALK:
            raise _too_large(MAX_TALK)
        content = read_json(body)
        return content if str(content.get("model")).startswith(self._prefix) else None


def _unescaped(text: bytes) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return ""


def _too_large(limit: int) -> RequestError:
    return RequestError(f"the body is larger than {limit // 2**20} MiB", None, "request_too_large", 413)


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    said = "this server wants a key of its own: Authorization: Bearer KEY"
    await send_error(send, RequestError(said, None, "invalid_api_key", 401, "authentication_error"))

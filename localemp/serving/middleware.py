"""The ASGI middleware that makes strategies models: it wraps vLLM's server, or a proxy before a hosted model.

A request for the model "llama:two-stage" is answered by the strategy, whose stages are requests to the wrapped app for
the model "llama". All others pass through untouched, after the door and the key, since this stands outside vLLM's own
check.
"""

import asyncio

from localemp.serving import metrics
from localemp.serving.answering import answer, send_error
from localemp.serving.body import Bodies, Given, as_object, bounded, check_talk, too_large
from localemp.serving.catalog import Menu
from localemp.serving.door import Door
from localemp.serving.inner import unframed
from localemp.serving.keys import Keys
from localemp.serving.listing import entry_of, with_strategies
from localemp.serving.routes import CHAT, LARGEST_BODY, LARGEST_JSON, not_found, route_of
from localemp.serving.schema import RequestError, read_request
from localemp.serving.settings import ServeSettings
from localemp.serving.static import is_page, page_file
from localemp.utils.text import one_line
from localemp.web.asgi import (
    App,
    BodyTooLargeError,
    ClientGoneError,
    Event,
    Receive,
    Scope,
    Send,
    Whole,
    header,
    send_bytes,
    send_json,
)
from localemp.web.paths import MODELS, at, below_root

LONGEST_NAME = 200
"""Characters of a model's name."""

LARGEST_LIST = 4 * 2**20
"""Bytes of the wrapped app's list of models."""


class Strategies:
    """The middleware.

    Args:
        app: What it wraps.
        settings: By default those in the environment, which is how they reach vLLM's server.
    """

    def __init__(self, app: App, settings: ServeSettings | None = None) -> None:
        self.app, self.settings = app, settings or ServeSettings.from_env()
        self.menu = Menu(self.settings.model, self.settings.to_recipe(), self.settings.strategies)
        self._bodies, self._prefix = Bodies(), f"{self.settings.model}:"
        self._entrance = Door(Keys(self._answer, self.settings.api_keys), self.settings.host, self.settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's start."""
        if scope["type"] == "lifespan":
            await self.app(scope, self._when_ready(receive), send)
        else:
            await self._entrance(scope, receive, send)

    def _when_ready(self, receive: Receive) -> Receive:
        """Have the server start only when the strategies are there."""

        async def receive_when_ready() -> Event:
            event = await receive()
            if event["type"] == "lifespan.startup":
                await asyncio.to_thread(self.menu.prepare)
            return event

        return receive_when_ready

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request that has come in."""
        path = below_root(scope)
        route = route_of(scope["method"], path)
        try:
            if route and is_page(path):
                await self._page(path, send)
            elif route and (path + "/").startswith(MODELS):
                await self._models(path[len(MODELS) :], scope, receive, send)
            elif route and route.largest:
                await self._read(path, route.largest, scope, receive, send)
            elif route is None and _is_json(scope):
                await self._read(path, LARGEST_JSON, scope, receive, send)
            else:
                await self._pass(scope, receive, send)
        except ClientGoneError:
            return
        except RequestError as error:
            metrics.ERRORS.labels("none", error.status).inc()
            await send_error(send, error)

    async def _page(self, path: str, send: Send) -> None:
        found = page_file(path) if self.settings.ui else None
        if found is None:
            raise not_found(path)
        await send_bytes(send, 200, *found)

    async def _models(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """The list of all models, or what it says of one."""
        listed = Whole(LARGEST_LIST)
        await self.app({**at(scope, MODELS.rstrip("/")), "method": "GET"}, receive, listed)
        if listed.status != 200:
            await send_bytes(send, listed.status, listed.body, b"application/json", unframed(listed.headers))
            return
        listing = with_strategies(listed.body, self.settings.model, self.settings.strategies)
        found = entry_of(listing, name) if name else listing
        if found is None:
            raise RequestError(f"there is no model {one_line(name)!r}", "model", "model_not_found", 404)
        await send_json(send, 200, found, unframed(listed.headers))

    async def _read(self, path: str, largest: int, scope: Scope, receive: Receive, send: Send) -> None:
        """A request with JSON, which may be for a strategy."""
        body, content = await self._bodies.read(scope, receive, largest)
        if route_of("POST", path):
            content = as_object(content)
        name = content.get("model") if isinstance(content, dict) else None
        if isinstance(name, str) and len(name) > LONGEST_NAME:
            raise RequestError(f"there is no model {one_line(name)!r}", "model", "model_not_found", 404)
        if not (isinstance(name, str) and name.startswith(self._prefix) and path.startswith("/v1/")):
            await self.app(scope, Given(body, content, receive), send)
            return
        if path != CHAT:
            raise RequestError(
                f"a strategy answers at {CHAT}, not at {one_line(path)}", "model", "unsupported_endpoint"
            )
        check_talk(body)
        request = read_request(content, name.removeprefix(self._prefix))
        await answer(self.app, self.menu, request, scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Anything else, as it is; what it sends is bounded."""
        begun = False

        async def watched(event: Event) -> None:
            nonlocal begun
            begun = True
            await send(event)

        try:
            await self.app(scope, bounded(receive, LARGEST_BODY), watched)
        except BodyTooLargeError:
            if begun:
                raise
            raise too_large(LARGEST_BODY) from None


def _is_json(scope: Scope) -> bool:
    """Whether a request says that it sends JSON, and not packed."""
    if scope["method"] not in ("POST", "PUT", "PATCH") or header(scope, b"content-encoding"):
        return False
    return "json" in header(scope, b"content-type").lower()

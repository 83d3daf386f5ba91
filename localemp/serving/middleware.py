"""The ASGI middleware that makes strategies models: it wraps vLLM's server, or a proxy for a hosted model.

A request for the model "llama:two-stage" is answered by the strategy, whose stages are requests to the wrapped app for
the model "llama"; those of "llama@mine:two-stage" are for "llama@mine", the model with an adapter. All other requests
pass through unchanged, after the request guard and the API key, since this runs outside vLLM's own check.
"""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localemp.errors import UnknownNameError
from localemp.serving import metrics
from localemp.serving.authentication import ApiKeyAuthentication
from localemp.serving.catalog import Catalog
from localemp.serving.errors import RequestError, model_not_found, not_found
from localemp.serving.flows import register_flows
from localemp.serving.handler.app_engine import without_body_headers
from localemp.serving.handler.handler import Handler
from localemp.serving.model_list import find_model, with_strategies
from localemp.serving.paths import MODELS, path_below_root, with_path
from localemp.serving.request_body import (
    BodyReader,
    ReplayedBody,
    as_object,
    check_dialogue_size,
    limited,
    too_large,
)
from localemp.serving.request_guard import RequestGuard
from localemp.serving.routes import LARGEST_BODY, LARGEST_JSON, find_route
from localemp.serving.schema import read_request
from localemp.serving.settings import CHAT, ServeSettings
from localemp.serving.static import is_page, page_file
from localemp.utils.text import one_line
from localemp.web.asgi import BodyTooLargeError, BufferedSend, SafeJSONResponse, header

LONGEST_NAME = 200
"""Characters of a model's name."""

LARGEST_LIST = 4 * 2**20
"""Bytes of the wrapped app's list of models."""


class StrategyMiddleware:
    """The middleware.

    Args:
        app: The wrapped app.
        settings: By default those in the environment, which is how they reach vLLM's server.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings | None = None) -> None:
        self.app, self.settings = app, settings or ServeSettings.from_env()
        register_flows(self.settings.flows)
        self.catalog = Catalog(self.settings.names, self.settings.to_config())
        self._handle = Handler(app, self.catalog)
        self._bodies, self._names = BodyReader(), self.settings.names
        authenticated = ApiKeyAuthentication(self._dispatch, self.settings.api_keys)
        self._guarded = RequestGuard(authenticated, self.settings.host, self.settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self.app(scope, self._when_ready(receive), send)
        else:
            await self._guarded(scope, receive, send)

    def _when_ready(self, receive: Receive) -> Receive:
        """Return a `receive` that delays the server's startup until the strategies are ready."""

        async def receive_when_ready() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await asyncio.to_thread(self.catalog.prepare)
            return message

        return receive_when_ready

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that was let in."""
        path = path_below_root(scope)
        route = find_route(scope["method"], path)
        try:
            if route and is_page(path):
                await self._page(path, scope, receive, send)
            elif route and (path + "/").startswith(MODELS):
                await self._models(path[len(MODELS) :], scope, receive, send)
            elif route and route.largest:
                await self._json_request(path, route.largest, scope, receive, send)
            elif route is None and _is_json(scope):
                await self._json_request(path, LARGEST_JSON, scope, receive, send)
            else:
                await self._pass_through(scope, receive, send)
        except ClientDisconnect:
            return
        except RequestError as error:
            metrics.ERRORS.labels("none", "", error.status).inc()
            await error.response()(scope, receive, send)

    async def _page(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        response = page_file(path) if self.settings.ui else None
        if response is None:
            raise not_found(path)
        await response(scope, receive, send)

    async def _models(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the list of all models, or one of its entries."""
        listed = BufferedSend(LARGEST_LIST)
        await self.app({**with_path(scope, MODELS.rstrip("/")), "method": "GET"}, receive, listed)
        if listed.status != 200:
            response = Response(listed.body, listed.status, media_type="application/json")
        else:
            sampling = self.catalog.sampling.told()
            listing = with_strategies(listed.body, self._names, self.settings.adapters, self.catalog.about, sampling)
            found = find_model(listing["data"], name) if name else listing
            if found is None:
                raise model_not_found(name, self._names.nearest(name[:LONGEST_NAME]))
            response = SafeJSONResponse(found)
        response.raw_headers += without_body_headers(listed.headers)
        await response(scope, receive, send)

    async def _json_request(self, path: str, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with a JSON body, which may be for a strategy."""
        body, content = await self._bodies.read(scope, receive, limit)
        if find_route("POST", path):
            content = as_object(content)
        name = content.get("model") if isinstance(content, dict) else None
        if isinstance(name, str) and len(name) > LONGEST_NAME:
            raise model_not_found(name)
        try:
            asked = self._names.parse(name) if isinstance(name, str) and path.startswith("/v1/") else None
            if asked is None and path == CHAT and isinstance(content.get("localemp"), dict):
                asked = self._names.bare(name)
        except UnknownNameError as error:
            raise RequestError(error.with_hint, "model", "model_not_found", 404) from error
        if asked is None:
            await self.app(scope, ReplayedBody(body, content, receive), send)
            return
        if path != CHAT:
            raise RequestError(
                f"a strategy answers at {CHAT}, not at {one_line(path)}", "model", "unsupported_endpoint"
            )
        check_dialogue_size(body)
        adapter, strategy = asked
        request = read_request(content, strategy, adapter, self.catalog.thinking)
        await self._handle(request, scope, receive, send)

    async def _pass_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass any other request through unchanged, with a limit on its body."""
        started = False

        async def observe(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, limited(receive, LARGEST_BODY), observe)
        except BodyTooLargeError:
            if started:
                raise
            raise too_large(LARGEST_BODY) from None


Strategies = StrategyMiddleware
"""The name of 0.1, for commands that start vLLM with it."""


def _is_json(scope: Scope) -> bool:
    """Whether a request declares a JSON body that is not compressed."""
    if scope["method"] not in ("POST", "PUT", "PATCH") or header(scope, "content-encoding"):
        return False
    return "json" in header(scope, "content-type").lower()

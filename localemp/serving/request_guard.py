"""The outermost middleware: normalizes a request's path, and checks its Host, its Origin and its method."""

import re
from collections.abc import Awaitable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localemp.serving.errors import RequestError, not_found
from localemp.serving.paths import normal_path, path_below_root, with_path
from localemp.serving.routes import METHODS, find_route, methods_of, unroutable
from localemp.utils.text import one_line
from localemp.web.addresses import ANY_ORIGIN, LOOPBACK_NAMES, is_loopback
from localemp.web.asgi import RawHeaders, header
from localemp.web.origins import is_cross_origin, requested_host

_HEADER_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~, -]{1,2000}")
_PREFLIGHT_SECONDS = b"600"


class RequestGuard:
    """Passes on allowed requests with a normalized path, rejects others, and answers browsers' preflight requests.

    Args:
        app: The app to guard.
        host: Where the server listens. On a loopback address it answers only to this machine's own names.
        origins: Other sites whose pages may use it, as `normalize_origin` gives them. It answers to their hosts as
            well, since a server that passes their requests on may keep the name.
    """

    def __init__(self, app: ASGIApp, host: str, origins: tuple[str, ...] = ()) -> None:
        self.app, self._origins = app, frozenset(origins)
        sites = {name for origin in origins if (name := urlsplit(origin).hostname)}
        self._names = {*LOOPBACK_NAMES, host.lower(), *sites} if is_loopback(host) else None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass one request on, or answer it."""
        if scope["type"] != "http":
            # No page and no strategy uses a websocket, and any site's page could open one.
            return send({"type": "websocket.close", "code": 1008})
        origin = header(scope, "origin")
        allowed = origin != "" and not self._origins.isdisjoint((origin, ANY_ORIGIN))
        if allowed:
            send = _with_cors_headers(origin if origin in self._origins else ANY_ORIGIN, send)
        path = normal_path(scope)
        if path is None:
            return not_found(path_below_root(scope)).response()(scope, receive, send)
        if error := self._rejection(scope, path, allowed):
            return error.response()(scope, receive, send)
        if scope["method"] == "OPTIONS":
            return _answer_options(scope, path, allowed, send)
        return self.app(with_path(scope, path), receive, send)

    def _rejection(self, scope: Scope, path: str, allowed: bool) -> RequestError | None:
        if self._names is not None and requested_host(scope) not in self._names:
            name = one_line(header(scope, "host"))
            message = f"this server does not answer to the name {name!r}; allow it with --allow-origin https://NAME"
            return RequestError(message, None, "unknown_host", 403)
        if scope["method"] not in (*METHODS, "OPTIONS"):
            return unroutable(scope["method"], path)
        route = find_route(scope["method"], path)
        if scope["method"] == "OPTIONS" or (route and route.open) or allowed or not is_cross_origin(scope):
            return None
        page = one_line(header(scope, "origin")) or "another site"
        message = f"a page of {page} may not use this server; allow a site's pages with --allow-origin"
        return RequestError(message, None, "foreign_origin", 403)


async def _answer_options(scope: Scope, path: str, allowed: bool, send: Send) -> None:
    """Answer OPTIONS: the methods of a path and, to a preflight request of an allowed page, what it may send."""
    methods = methods_of(path).encode()
    headers: RawHeaders = [(b"allow", methods)]
    if allowed and header(scope, "access-control-request-method"):
        wanted = header(scope, "access-control-request-headers").encode("latin-1")
        names = wanted if _HEADER_NAMES.fullmatch(wanted) else b"authorization, content-type"
        headers += [
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", names),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]
        if header(scope, "access-control-request-private-network") == "true":
            headers.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body"})


def _with_cors_headers(origin: str, send: Send) -> Send:
    """Return a `send` whose responses the pages of a site may read."""
    cors = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"retry-after, x-request-id"),
        (b"vary", b"Origin"),
    ]

    async def send_with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *cors]}
        await send(message)

    return send_with_cors

"""The outermost layer: a request gets one path, must call this server by its name, and come from no foreign page."""

import re
from collections.abc import Awaitable
from urllib.parse import urlsplit

from localemp.serving.answering import send_error
from localemp.serving.routes import METHODS, methods_of, not_found, refused, route_of
from localemp.serving.schema import RequestError
from localemp.utils.text import one_line
from localemp.web.asgi import App, Event, Headers, Receive, Scope, Send, header
from localemp.web.origins import ANY, LOOPBACK, called_by, is_loopback, of_another_page
from localemp.web.paths import at, below_root, normal_path

_TOKENS = re.compile(rb"[\w!#$%&'*+.^`|~, -]{1,2000}")
_PREFLIGHT_SECONDS = b"600"


class Door:
    """Lets in what may come in, with its path in one form, and answers what browsers ask before they send something.

    Args:
        app: What it stands before.
        host: Where the server listens. On this machine alone it answers only to the names that mean this machine.
        origins: Other sites whose pages may use it, as `origin_of` gives them; it answers to their hosts, too, since a
            server that passes their requests on may keep the name.
    """

    def __init__(self, app: App, host: str, origins: tuple[str, ...] = ()) -> None:
        self.app, self._origins = app, frozenset(origins)
        sites = {name for origin in origins if (name := urlsplit(origin).hostname)}
        self._names = {*LOOPBACK, host.lower(), *sites} if is_loopback(host) else None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let one request in, or answer it."""
        if scope["type"] != "http":
            # No page and no strategy uses a websocket, and any site's page could open one.
            return send({"type": "websocket.close", "code": 1008})
        origin = header(scope, b"origin")
        shared = origin != "" and not self._origins.isdisjoint((origin, ANY))
        if shared:
            send = _shared_with(origin if origin in self._origins else ANY, send)
        path = normal_path(scope)
        if path is None:
            return send_error(send, not_found(below_root(scope)))
        if why := self._why_not(scope, path, shared):
            return send_error(send, why)
        if scope["method"] == "OPTIONS":
            return _send_permission(scope, path, shared, send)
        return self.app(at(scope, path), receive, send)

    def _why_not(self, scope: Scope, path: str, shared: bool) -> RequestError | None:
        if self._names is not None and called_by(scope) not in self._names:
            name = one_line(header(scope, b"host"))
            said = f"this server does not answer as {name!r}; --allow-origin https://NAME makes a name known to it"
            return RequestError(said, None, "unknown_host", 403)
        if scope["method"] not in (*METHODS, "OPTIONS"):
            return refused(scope["method"], path)
        route = route_of(scope["method"], path)
        if scope["method"] == "OPTIONS" or (route and route.open) or shared or not of_another_page(scope):
            return None
        page = one_line(header(scope, b"origin")) or "another site"
        said = f"a page of {page} may not use this server; --allow-origin lets the pages of a site do it"
        return RequestError(said, None, "foreign_origin", 403)


async def _send_permission(scope: Scope, path: str, shared: bool, send: Send) -> None:
    """Tell a browser that asks whether a page may send something."""
    methods = methods_of(path).encode()
    allowed: Headers = [(b"allow", methods)]
    if shared and header(scope, b"access-control-request-method"):
        wanted = header(scope, b"access-control-request-headers").encode("latin-1")
        allowed += [
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", wanted if _TOKENS.fullmatch(wanted) else b"authorization, content-type"),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]
        if header(scope, b"access-control-request-private-network") == "true":
            allowed.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body"})


def _shared_with(origin: str, send: Send) -> Send:
    """A `send` whose answers the pages of a site may read."""
    own = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"retry-after, x-request-id"),
        (b"vary", b"Origin"),
    ]

    async def sent(event: Event) -> None:
        if event["type"] == "http.response.start":
            event = {**event, "headers": [*event.get("headers", ()), *own]}
        await send(event)

    return sent

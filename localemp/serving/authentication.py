"""The middleware that checks API keys: the wrapped app checks none, or another server's."""

import hmac
from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from localemp.serving.errors import RequestError
from localemp.serving.paths import path_below_root
from localemp.serving.routes import find_route
from localemp.web.asgi import header


class ApiKeyAuthentication:
    """Passes on requests with a valid key, and requests for open routes.

    Args:
        app: The app to protect.
        keys: The valid keys; without any, every request is passed on.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self.app, self._keys = app, [key.encode() for key in keys]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass one request on, or reject it before its body is read."""
        if not self._keys or self._is_open(scope) or self._is_authenticated(scope):
            return self.app(scope, receive, send)
        message = "this server needs an API key: send the header Authorization: Bearer KEY"
        if header(scope, "authorization"):
            message = "the key in the header Authorization is not valid for this server"
        error = RequestError(message, None, "invalid_api_key", 401, kind="authentication_error")
        return error.response()(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        route = find_route(scope["method"], path_below_root(scope))
        return route is not None and route.open

    def _is_authenticated(self, scope: Scope) -> bool:
        scheme, _, given = header(scope, "authorization").partition(" ")
        # Compare with every key, so that the time taken reveals nothing.
        matches = [hmac.compare_digest(given.strip().encode("latin-1"), key) for key in self._keys]
        return scheme.lower() == "bearer" and any(matches)

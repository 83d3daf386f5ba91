"""The layer that asks for a key: the wrapped app asks for none, or for another's."""

import hmac
from collections.abc import Awaitable

from localemp.serving.answering import send_error
from localemp.serving.routes import route_of
from localemp.serving.schema import RequestError
from localemp.web.asgi import App, Receive, Scope, Send, header
from localemp.web.paths import below_root


class Keys:
    """Lets in whoever has a key, or asks for what needs none.

    Args:
        app: What it stands before.
        keys: Of which a client must know one; empty: everyone is let in.
    """

    def __init__(self, app: App, keys: tuple[str, ...]) -> None:
        self.app, self._keys = app, [key.encode() for key in keys]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let one request in, or refuse it before its body is read."""
        if not self._keys or self._is_open(scope) or self._is_known(scope):
            return self.app(scope, receive, send)
        said = "this server wants a key of its own: Authorization: Bearer KEY"
        if header(scope, b"authorization"):
            said = "the key in the header Authorization is none of this server's"
        return send_error(send, RequestError(said, None, "invalid_api_key", 401, "authentication_error"))

    def _is_open(self, scope: Scope) -> bool:
        route = route_of(scope["method"], below_root(scope))
        return route is not None and route.open

    def _is_known(self, scope: Scope) -> bool:
        kind, _, given = header(scope, b"authorization").partition(" ")
        # All are compared, so that the time tells nothing.
        same = [hmac.compare_digest(given.strip().encode("latin-1"), key) for key in self._keys]
        return kind.lower() == "bearer" and any(same)

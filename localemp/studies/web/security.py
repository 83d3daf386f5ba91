"""The middleware in front of a study's pages: admission of requests, and security headers."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localemp.web.asgi import header
from localemp.web.origins import is_same_origin, requested_host

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class StudyGuard:
    """Rejects what another site's page could have sent, and adds security headers to every response.

    A request that changes something needs the page's own origin and a header that no form can send; besides, the
    cookie is SameSite=Strict.

    Args:
        app: The app to guard.
        hosts: The names that the server answers to; None is any.
        url: The page's public address, if another server passes requests on to this one; as `normalize_address`
            writes it.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None, url: str = "") -> None:
        self.app, self.hosts, self.public_host = app, hosts, urlsplit(url).netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app: ASGIApp = self.app
        if why := self._rejection(scope):
            app = PlainTextResponse(why, 403)
        await app(scope, receive, send_with_headers)

    def _rejection(self, scope: Scope) -> str:
        """Return why a request is rejected, "" if it is not."""
        if self.hosts is not None and requested_host(scope) not in self.hosts:
            return f"This server answers only to the name {' or '.join(self.hosts)}."
        if scope["method"] in ("GET", "HEAD"):
            return ""
        if not is_same_origin(scope, self.public_host) or header(scope, "x-study") != "1":
            return "Only this study's own page may do this."
        return ""

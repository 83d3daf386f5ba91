"""What stands before every request to a study's pages: whose it may be, and what a browser may do with the answer."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from localemp.web.asgi import App, Event, Receive, Scope, Send, header, send_bytes
from localemp.web.origins import address_of, called_by, of_own_page

__all__ = ["Guard", "address_of"]

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Refuses what another site's page could have sent, and puts its headers on every answer.

    A request that changes something needs the page's own origin and a header that no form can send; the cookie is
    SameSite=Strict besides.

    Args:
        app: What it stands before.
        hosts: The names under which it may be called; None is any.
        url: Where the page is for those who use it, if another server stands before this one; as `address_of`
            writes it.
    """

    def __init__(self, app: App, hosts: Sequence[str] | None, url: str = "") -> None:
        self.app, self.hosts, self.place = app, hosts, urlsplit(url).netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sealed(event: Event) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event.get("headers", ()), *_HEADERS]}
            await send(event)

        if why := self._why_not(scope):
            await send_bytes(sealed, 403, why.encode(), b"text/plain; charset=utf-8")
            return
        await self.app(scope, receive, sealed)

    def _why_not(self, scope: Scope) -> str:
        if self.hosts is not None and called_by(scope) not in self.hosts:
            return f"This server answers as {' or '.join(self.hosts)} only."
        if scope["method"] in ("GET", "HEAD"):
            return ""
        if not of_own_page(scope, self.place) or header(scope, b"x-study") != "1":
            return "Only this study's own page may do this."
        return ""

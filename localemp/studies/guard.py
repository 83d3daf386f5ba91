"""What stands before every request to a study's pages: whose it may be, and what a browser may do with the answer."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from localemp.serving.asgi import App, Event, Receive, Scope, Send, header, send_bytes

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
_PORTS = {"http": 80, "https": 443}


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
        host = header(scope, b"host")
        if self.hosts is not None and _name(f"//{host}") not in self.hosts:
            return f"This server answers as {' or '.join(self.hosts)} only."
        if scope["method"] in ("GET", "HEAD"):
            return ""
        if _place(header(scope, b"origin")) != (self.place or host) or header(scope, b"x-study") != "1":
            return "Only this study's own page may do this."
        return ""


def address_of(url: str) -> str:
    """A server's address as browsers send it: in small letters, in ASCII, without the port that its scheme has anyway.

    Raises:
        ValueError: It is none, or has more in it than a scheme, a host and a port.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("an address is https://HOST or https://HOST:PORT")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the pages are at the root of a host")
    name = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{port}"


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _place(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None

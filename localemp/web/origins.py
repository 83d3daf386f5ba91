"""Which web pages may use a server: told by the name a browser called it by, and by where the page is from.

A browser lets every page send requests to every address, this machine's own included. It says in `Origin` whose page it
was, but not when the page reads what it takes for its own site: a name that its owner has made to point to this machine
(DNS rebinding). That one shows in `Host`.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from localemp.web.asgi import Scope, header

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names of this machine to itself."""

ANY = "*"
"""In place of an origin: all of them."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
_APP = re.compile(r"[a-z][a-z0-9+.-]* [!-.0-~]+")  # chrome-extension, tauri, ...
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def called_by(scope: Scope) -> str | None:
    """The name by which a request calls the server; None where it says none, several, or no name."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return found[1].strip("[]").lower() if found else None


def of_own_page(scope: Scope, place: str = "") -> bool:
    """Whether a request says that it comes from a page of this server.

    Args:
        scope: Of the request.
        place: HOST or HOST:PORT at which browsers find the server, if not as they called it.
    """
    try:
        page = urlsplit(header(scope, b"origin")).netloc
    except ValueError:
        return False
    return page != "" and page == (place or header(scope, b"host"))


def of_another_page(scope: Scope) -> bool:
    """Whether a request says that it comes from a page of another server, at another port of this one's name also."""
    if header(scope, b"origin"):
        return not of_own_page(scope)
    return header(scope, b"sec-fetch-site") in ("cross-site", "same-site")


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


def origin_of(text: str) -> str:
    """A site as browsers name it in `Origin`: its address, a name of an app's own scheme, "null", or "*" for all.

    Raises:
        ValueError: It is none of these.
    """
    text = text.strip()
    scheme, there, name = text.partition("://")
    if text in (ANY, "null") or (there and scheme not in _PORTS and _APP.fullmatch(f"{scheme} {name}")):
        return text
    return address_of(text)

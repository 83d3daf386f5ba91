"""Names and addresses of servers, as people write them and as browsers send them."""

import ipaddress
import re
from urllib.parse import urlsplit

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""The names by which a machine calls itself."""

ANY_ORIGIN = "*"
"""Stands for every origin."""

_APP_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]* [!-.0-~]+")  # chrome-extension, tauri, ...
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether a server that listens on a host can be reached from its own machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def normalize_address(url: str) -> str:
    """Return a server's address as browsers send it: lower-case, ASCII, without its scheme's default port.

    Raises:
        ValueError: It is not a scheme, a host and an optional port.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("an address is https://HOST or https://HOST:PORT")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the pages are at the root of a host")
    name = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{port}"


def normalize_origin(text: str) -> str:
    """Return a site as browsers name it in `Origin`: an address, an app's own scheme and name, "null", or "*" for all.

    Raises:
        ValueError: It is none of these.
    """
    text = text.strip()
    scheme, separator, name = text.partition("://")
    if text in (ANY_ORIGIN, "null") or (
        separator and scheme not in _PORTS and _APP_ORIGIN.fullmatch(f"{scheme} {name}")
    ):
        return text
    return normalize_address(text)

"""Decides which web pages may use a server, by the `Host` that a browser asked for and the page's `Origin`.

A browser lets every page send requests to every address, this machine's own included. `Origin` says whose page it was,
but not when the page reads what it takes for its own site: a name that its owner has pointed to this machine (DNS
rebinding). That shows in `Host`.
"""

import re
from urllib.parse import urlsplit

from starlette.types import Scope

from localemp.web.asgi import header

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.IGNORECASE)


def requested_host(scope: Scope) -> str | None:
    """Return the host that a request asks for, without its port; None if it is missing, repeated or invalid."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return found[1].strip("[]").lower() if found else None


def is_same_origin(scope: Scope, public_host: str = "") -> bool:
    """Whether a request says that it comes from a page of this server.

    Args:
        scope: The request's scope.
        public_host: HOST or HOST:PORT at which browsers find the server, if another one passes requests on to it.
    """
    try:
        page = urlsplit(header(scope, "origin")).netloc
    except ValueError:
        return False
    return page != "" and page == (public_host or header(scope, "host"))


def is_cross_origin(scope: Scope) -> bool:
    """Whether a request says that it comes from another server's page, including another port of the same host."""
    if header(scope, "origin"):
        return not is_same_origin(scope)
    return header(scope, "sec-fetch-site") in ("cross-site", "same-site")

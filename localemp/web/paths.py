"""One path for each thing: what a client asks for is brought into one form, or refused, before anybody looks at it.

Otherwise `/v1//chat/completions` would be nobody's route here and the model's behind us, past its strategy.
"""

import re
from urllib.parse import quote

from localemp.web.asgi import Scope

MODELS = "/v1/models/"
"""A model's name follows, and names may have slashes, which clients encode."""

# Nearly all requests have such a path: no segment is empty or begins with a dot, nothing is encoded.
_COMMON = re.compile(r"(?:/[a-zA-Z0-9_:@+~-][a-zA-Z0-9_.:@+~-]*)+")
# ";" begins parameters for some servers and is part of a name for others; "\ufffd" stands for what was no UTF-8.
_REFUSED = re.compile("[\x00-\x1f\x7f\\\\;%?#\ufffd\ud800-\udfff]")
_HIDDEN_SLASH = re.compile(rb"%2f|%5c", re.IGNORECASE)
_PLAIN = re.compile(r"[a-zA-Z0-9/_.:@+-]*")
_QUERY = re.compile(rb"[!-~]*")


def below_root(scope: Scope) -> str:
    """The decoded path as routers see it: without the path under which the server itself is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    below = path.removeprefix(root)
    return below if below.startswith("/") else path


def normal_path(scope: Scope) -> str | None:
    """The path without empty segments and a final slash; None where it could mean something else to another server."""
    path = below_root(scope)
    raw = scope.get("raw_path") or b""
    if _COMMON.fullmatch(path) and not scope.get("query_string") and raw == path.encode():
        return path
    if not path.startswith("/") or _REFUSED.search(path) or not _QUERY.fullmatch(scope.get("query_string") or b""):
        return None
    segments = [segment for segment in path.split("/") if segment]
    if "." in segments or ".." in segments:
        return None
    normal = f"/{'/'.join(segments)}"
    if _HIDDEN_SLASH.search(raw) and not normal.startswith(MODELS):
        return None
    return normal


def at(scope: Scope, path: str) -> Scope:
    """The scope of the same request for a path, in both of the forms in which a scope has it."""
    whole = f"{scope.get('root_path', '')}{path}"
    raw = quoted(whole)
    if scope["path"] == whole and scope.get("raw_path") == raw:
        return scope
    return {**scope, "path": whole, "raw_path": raw}


def quoted(path: str) -> bytes:
    """A decoded path as it is sent."""
    if _PLAIN.fullmatch(path):
        return path.encode()
    return quote(path, safe="/:@!$&'()*+,=~").encode()

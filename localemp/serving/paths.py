"""Normalizes a request's path before anything looks at it, or rejects it.

Otherwise `/v1//chat/completions` would match no route here and the model's route at the upstream, past its strategy.
"""

import re
from urllib.parse import quote

from starlette.types import Scope

MODELS = "/v1/models/"
"""The prefix of a model's path. Names may contain slashes, which clients encode."""

# Nearly every path: no segment is empty or begins with a dot, nothing is encoded.
_COMMON = re.compile(r"(?:/[a-zA-Z0-9_:@+~-][a-zA-Z0-9_.:@+~-]*)+")
# ";" begins parameters for some servers and is part of a name for others; "\ufffd" stands for invalid UTF-8.
_REJECTED = re.compile("[\x00-\x1f\x7f\\\\;%?#\ufffd\ud800-\udfff]")
_HIDDEN_SLASH = re.compile(rb"%2f|%5c", re.IGNORECASE)
_PLAIN = re.compile(r"[a-zA-Z0-9/_.:@+-]*")
_QUERY = re.compile(rb"[!-~]*")


def path_below_root(scope: Scope) -> str:
    """Return the decoded path without the path under which the server itself is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    below = path.removeprefix(root)
    return below if below.startswith("/") else path


def normal_path(scope: Scope) -> str | None:
    """Return the path without empty segments and final slash; None if another server might read it differently."""
    path = path_below_root(scope)
    raw = scope.get("raw_path") or b""
    if _COMMON.fullmatch(path) and not scope.get("query_string") and raw == path.encode():
        return path
    if not path.startswith("/") or _REJECTED.search(path) or not _QUERY.fullmatch(scope.get("query_string") or b""):
        return None
    segments = [segment for segment in path.split("/") if segment]
    if "." in segments or ".." in segments:
        return None
    normal = f"/{'/'.join(segments)}"
    if _HIDDEN_SLASH.search(raw) and not normal.startswith(MODELS):
        return None
    return normal


def with_path(scope: Scope, path: str) -> Scope:
    """Return the scope of the same request for another path, in both forms in which a scope holds it."""
    whole = f"{scope.get('root_path', '')}{path}"
    raw = quote_path(whole)
    if scope["path"] == whole and scope.get("raw_path") == raw:
        return scope
    return {**scope, "path": whole, "raw_path": raw}


def quote_path(path: str) -> bytes:
    """Percent-encode a decoded path."""
    if _PLAIN.fullmatch(path):
        return path.encode()
    return quote(path, safe="/:@!$&'()*+,=~").encode()

"""The routes of `localemp serve`: who may use each, how large its body may be, and why.

Every middleware and the proxy use this table, and docs/security.md shows it.
"""

from dataclasses import dataclass

from localemp.serving.errors import RequestError, not_found
from localemp.serving.settings import CHAT
from localemp.utils.text import one_line

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""The methods that are answered, besides OPTIONS."""

LARGEST_DIALOGUE = 2**20
"""Bytes of a request for a strategy, whose dialogue is looked up, embedded and rewritten."""
LARGEST_JSON = 64 * 2**20
"""Bytes of JSON that is read here: a larger one could delay all other requests by more than 250 ms."""
LARGEST_REBUILT = 32 * 2**20
"""The same where the body is also rewritten, which takes longer: with the operator's key for an upstream."""
LARGEST_BODY = 256 * 2**20
"""Bytes of any other body, such as a recording to transcribe, which goes to the model's server unchanged."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path and a method.

    Attributes:
        method: The HTTP method; GET includes HEAD.
        path: The path; "{name}" stands for whatever follows.
        open: Whether it needs no key, and other sites' pages may use it.
        largest: The most bytes of its JSON body; 0 if no body is read.
        why: What it returns, and why it is open or not.
    """

    method: str
    path: str
    open: bool
    largest: int
    why: str

    def matches(self, path: str) -> bool:
        """Whether a path belongs to this route."""
        start, name, _ = self.path.partition("{")
        return path.startswith(start) and path != start if name else path == self.path


_TEXT = 4 * 2**20
ROUTES = (
    Route("GET", "/", True, 0, "the page: the same for everyone, without secrets; it asks for the key itself"),
    Route("GET", "/page/{file}", True, 0, "its files, likewise"),
    Route("GET", "/health", True, 0, "for probes, which have no key; says only whether the model can be reached"),
    Route("GET", "/metrics", False, 0, "reveals how much others use, and of what"),
    Route("GET", "/v1/models", False, 0, "the served model, its adapters and strategies; clients test a key here"),
    Route("GET", "/v1/models/{name}", False, 0, "one of them"),
    Route("POST", CHAT, False, LARGEST_JSON, "uses the model; images need the room, a strategy takes 1 MiB"),
    Route("POST", "/v1/completions", False, _TEXT, "uses the model"),
    Route("POST", "/v1/responses", False, LARGEST_JSON, "uses the model"),
    Route("POST", "/v1/messages", False, LARGEST_JSON, "uses the model (Anthropic's API, which vLLM also has)"),
    Route("POST", "/v1/embeddings", False, _TEXT, "uses the model"),
)

_BY_PATH = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}


def routes_of(path: str) -> list[Route]:
    """Return the routes of a path, one per method."""
    return [route for route in ROUTES if route.matches(path)]


def find_route(method: str, path: str) -> Route | None:
    """Return the route of a request; None without one."""
    method = "GET" if method == "HEAD" else method
    if found := _BY_PATH.get((method, path)):
        return found
    return next((route for route in ROUTES if route.method == method and route.matches(path)), None)


def methods_of(path: str) -> str:
    """Return the methods of a path, as in the header Allow."""
    found = [route.method for route in routes_of(path)]
    return ", ".join([*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"] if found else [*METHODS, "OPTIONS"])


def unroutable(method: str, path: str) -> RequestError:
    """Return the error for a request without a route: its path is unknown, or its method is not allowed there."""
    if not routes_of(path):
        return not_found(path)
    allow = ((b"allow", methods_of(path).encode()),)
    message = f"{one_line(path)} does not allow the method {one_line(method, 20)}"
    return RequestError(message, code="method_not_allowed", status=405, headers=allow)


def as_markdown() -> str:
    """Return the table of docs/security.md."""
    lines = ["| method | path | key | other sites' pages | JSON body | why |", "|---|---|---|---|---|---|"]
    for route in ROUTES:
        methods = f"{route.method}, HEAD" if route.method == "GET" else route.method
        access = "no | yes" if route.open else "yes | with `--allow-origin`"
        sizes = dict.fromkeys(f"{most // 2**20} MiB" for most in (route.largest, min(route.largest, LARGEST_REBUILT)))
        size = "up to " + ", with the operator's key ".join(sizes) if route.largest else "none"
        lines.append(f"| {methods} | `{route.path}` | {access} | {size} | {route.why} |")
    return "\n".join(lines)

"""Everything that `localemp serve` answers: who may ask for it, how large a body may be, and why it is open.

Door, keys, strategies and what stands before a hosted model all look here, and docs/security.md shows this table.
"""

from dataclasses import dataclass

from localemp.serving.schema import RequestError
from localemp.utils.text import one_line

CHAT = "/v1/chat/completions"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""All that are answered, beside OPTIONS."""

LARGEST_TALK = 2**20
"""Bytes of a request for a strategy, whose dialogue is looked up, embedded and written anew."""
LARGEST_JSON = 64 * 2**20
"""Bytes of JSON that is read here: with more, one request could hold up all others for longer than 250 ms."""
LARGEST_REBUILT = 32 * 2**20
"""The same where it is also written anew, which takes longer: before a server that is asked with our own key."""
LARGEST_BODY = 256 * 2**20
"""Bytes of anything else, such as a recording to transcribe, which goes to the model's server as it is."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what may be done there.

    Attributes:
        method: Of HTTP; what can be got can also be asked for with HEAD.
        path: "{name}" stands for whatever follows.
        open: Whether it needs no key, and pages of other sites may ask for it.
        largest: Bytes of the JSON object that is sent, 0 where nothing is read.
        why: What it gives, and why it is open or not.
    """

    method: str
    path: str
    open: bool
    largest: int
    why: str

    def leads_to(self, path: str) -> bool:
        """Whether a path is this route's."""
        start, name, _ = self.path.partition("{")
        return path.startswith(start) and path != start if name else path == self.path


_TEXT = 4 * 2**20
ROUTES = (
    Route("GET", "/", True, 0, "the page: the same for all, without anything secret; it asks for the key itself"),
    Route("GET", "/page/{file}", True, 0, "its files, alike"),
    Route("GET", "/health", True, 0, "for probes, which have no key; tells whether the model can be reached, no more"),
    Route("GET", "/metrics", False, 0, "tells how much others ask, and of what"),
    Route("GET", "/v1/models", False, 0, "the served model and its strategies; a key's owner tries the key here"),
    Route("GET", "/v1/models/{name}", False, 0, "one of them"),
    Route("POST", CHAT, False, LARGEST_JSON, "uses the model; pictures need the room, strategies have 1 MiB"),
    Route("POST", "/v1/completions", False, _TEXT, "uses the model"),
    Route("POST", "/v1/responses", False, LARGEST_JSON, "uses the model"),
    Route("POST", "/v1/messages", False, LARGEST_JSON, "uses the model (Anthropic's form, which vLLM speaks, too)"),
    Route("POST", "/v1/embeddings", False, _TEXT, "uses the model"),
)

_BY_PATH = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}


def routes_of(path: str) -> list[Route]:
    """All that may be done at a path; empty where it is none of ours."""
    return [route for route in ROUTES if route.leads_to(path)]


def route_of(method: str, path: str) -> Route | None:
    """The route of a request; None where it is none of ours."""
    method = "GET" if method == "HEAD" else method
    if found := _BY_PATH.get((method, path)):
        return found
    return next((route for route in ROUTES if route.method == method and route.leads_to(path)), None)


def methods_of(path: str) -> str:
    """The methods of a path, as the header Allow names them."""
    found = [route.method for route in routes_of(path)]
    return ", ".join([*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"] if found else [*METHODS, "OPTIONS"])


def not_found(path: str) -> RequestError:
    """The error for a path that leads nowhere."""
    return RequestError(f"there is nothing at {one_line(path)}", code="not_found", status=404)


def refused(method: str, path: str) -> RequestError:
    """The error for what is no route: there is nothing, or not by this method."""
    if not routes_of(path):
        return not_found(path)
    allow = ((b"allow", methods_of(path).encode()),)
    said = f"{one_line(method, 20)} is not what {one_line(path)} takes"
    return RequestError(said, code="method_not_allowed", status=405, headers=allow)


def as_markdown() -> str:
    """The table for docs/security.md."""
    lines = ["| method | path | key | other sites' pages | JSON body | why |", "|---|---|---|---|---|---|"]
    for route in ROUTES:
        methods = f"{route.method}, HEAD" if route.method == "GET" else route.method
        who = "no | may" if route.open else "yes | only with `--allow-origin`"
        sizes = dict.fromkeys(f"{most // 2**20} MiB" for most in (route.largest, min(route.largest, LARGEST_REBUILT)))
        size = f"up to {', with our key '.join(sizes)}" if route.largest else "none"
        lines.append(f"| {methods} | `{route.path}` | {who} | {size} | {route.why} |")
    return "\n".join(lines)

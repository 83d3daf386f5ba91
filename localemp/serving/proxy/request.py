"""What of a caller's request reaches an upstream: all of it with the caller's own key, little with ours."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from multidict import CIMultiDict

from localemp.serving.body import Bodies, as_object, parse, read_bounded, written
from localemp.serving.proxy.request_fields import passed_on
from localemp.serving.routes import LARGEST_REBUILT, METHODS, not_found, refused, route_of
from localemp.serving.schema import RequestError
from localemp.utils.text import one_line
from localemp.web.asgi import Receive, Scope, header
from localemp.web.paths import below_root, quoted

# RFC 9110, 7.6.1: meant for the next server only, as is what the header Connection names.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade".split()
)
# Written anew, or already done (Expect). A browser's cookies and origin are for our host, whatever port they come from.
_NOT_SENT = HOP_BY_HOP | frozenset(b"host content-length expect cookie origin referer".split())
_CREDENTIALS = frozenset(b"authorization api-key x-api-key".split())
# With our key; of the others some choose an organisation, a project or a beta that is not for callers to choose.
_SENT = frozenset(
    b"accept anthropic-version idempotency-key traceparent tracestate user-agent x-client-request-id "
    b"x-request-id".split()
)
_BASE = "/v1"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to an upstream.

    Attributes:
        method: Of HTTP.
        path: Below the base URL, encoded.
        query: Encoded, as it is sent.
        headers: All that are sent, but those that say how the body is framed.
        body: May be empty.
    """

    method: str
    path: str
    query: str
    headers: CIMultiDict[str]
    body: bytes


class Rule(Protocol):
    """Makes requests to an upstream of callers' requests."""

    async def outgoing(self, scope: Scope, receive: Receive) -> Outgoing:
        """What is sent.

        Raises:
            RequestError: It is not passed on.
            ClientGoneError: The caller left before it was whole.
        """
        ...


class AsItIs:
    """Everything below /v1 is passed on; the upstream knows whose key it is.

    Args:
        served: What callers call the model.
        model: What the upstream calls it.
        pass_key: Whether callers' keys are for the upstream.
        largest: Bytes of a body.
    """

    def __init__(self, served: str, model: str, pass_key: bool, largest: int) -> None:
        self._served, self._model, self._largest, self._bodies = served, model, largest, Bodies()
        self._dropped = _NOT_SENT if pass_key else _NOT_SENT | _CREDENTIALS

    async def outgoing(self, scope: Scope, receive: Receive) -> Outgoing:
        """See `Rule`."""
        method, path = scope["method"], below_root(scope)
        if not path.startswith(f"{_BASE}/"):
            raise not_found(path)
        if method not in METHODS:
            raise refused(method, path)
        body = await read_bounded(scope, receive, self._largest)
        if self._model != self._served and not header(scope, b"content-encoding"):
            body = await self._bodies.off_loop(body, self._renamed)
        dropped = self._dropped | named_by_connection(scope["headers"])
        headers = _decoded(each for each in scope["headers"] if each[0] not in dropped)
        return Outgoing(method, _below_base(path), _query(scope), headers, body)

    def _renamed(self, body: bytes) -> bytes:
        """The body with the upstream's name of the model for ours, where it is JSON that names ours."""
        try:
            content = parse(body)
            named = isinstance(content, dict) and content.get("model") == self._served
            return written(content | {"model": self._model}) if named else body
        except RequestError:
            return body  # a form with a file, or the upstream's to refuse


class UnderOurKey:
    """What has the served model read and write is passed on, as it was read here; nothing else is.

    Args:
        key: For the upstream.
        served: What callers call the model.
        model: What the upstream calls it.
        more: Fields of a body beside those that are known, from the model's profile.
    """

    def __init__(self, key: str, served: str, model: str, more: Collection[str] = ()) -> None:
        self._key, self._served, self._model, self._more, self._bodies = key, served, model, more, Bodies()

    async def outgoing(self, scope: Scope, receive: Receive) -> Outgoing:
        """See `Rule`."""
        method, path = scope["method"], below_root(scope)
        route = route_of(method, path)
        if route is None or not route.largest:
            raise refused(method, path)
        body, content = await self._bodies.read(scope, receive, min(route.largest, LARGEST_REBUILT))
        content = as_object(content)
        name = content.get("model")
        if name != self._served:
            said = f"there is no model {one_line(name)!r}" if isinstance(name, str) else "'model' names no model"
            raise RequestError(said, "model", "model_not_found", 404)
        # OpenAI keeps what is answered there unless it is told otherwise.
        kept = {"store": False} if path == "/v1/responses" else {}
        sent = passed_on(path, content, self._more) | kept | {"model": self._model}
        body = await self._bodies.off_loop(body, lambda _: written(sent))
        headers = _decoded(each for each in scope["headers"] if each[0] in _SENT)
        # What comes back is looked through for the key.
        headers["accept-encoding"], headers["content-type"] = "identity", "application/json"
        headers["authorization"] = f"Bearer {self._key}"
        return Outgoing(method, _below_base(path), "", headers, body)


def named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Further headers that are meant for the next server only; names are lower-case."""
    named = [value.lower() for name, value in headers if name == b"connection"]
    return {each.strip() for value in named for each in value.split(b",")}


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in headers)


def _below_base(path: str) -> str:
    return quoted(path).decode().removeprefix(_BASE)


def _query(scope: Scope) -> str:
    query: bytes = scope.get("query_string") or b""
    return query.decode("ascii")

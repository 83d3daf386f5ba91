"""Builds upstream requests from clients': nearly everything with the client's key, an allowlist with the operator's."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from multidict import CIMultiDict
from starlette.types import Receive, Scope

from localemp.serving.errors import RequestError, model_not_found, not_found
from localemp.serving.paths import path_below_root, quote_path
from localemp.serving.proxy.request_fields import allowed_fields
from localemp.serving.request_body import BodyReader, as_object, encode, parse, read_limited
from localemp.serving.routes import LARGEST_REBUILT, METHODS, find_route, unroutable
from localemp.web.asgi import header

# RFC 9110, 7.6.1: for the next server only, as are those that the header Connection names.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade".split()
)
# Rewritten, or already handled (Expect). A browser's cookies and origin are for our host, on whatever port.
_DROPPED = HOP_BY_HOP | frozenset(b"host content-length expect cookie origin referer".split())
_CREDENTIALS = frozenset(b"authorization api-key x-api-key".split())
# With the operator's key; some other headers choose an organization, a project or a beta, which clients may not.
_ALLOWED = frozenset(
    b"accept anthropic-version idempotency-key traceparent tracestate user-agent x-client-request-id "
    b"x-request-id".split()
)
_BASE = "/v1"


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to an upstream.

    Attributes:
        method: The HTTP method.
        path: The path below the base URL, encoded.
        query: The query, encoded.
        headers: All headers, without those that frame the body.
        body: The body; may be empty.
    """

    method: str
    path: str
    query: str
    headers: CIMultiDict[str]
    body: bytes


class RequestPolicy(Protocol):
    """Builds upstream requests from clients' requests."""

    async def build(self, scope: Scope, receive: Receive) -> UpstreamRequest:
        """Return the request to send.

        Raises:
            RequestError: The request is not passed on.
            ClientDisconnect: The client left before its body was complete.
        """
        ...


class PassThrough:
    """Passes on everything below /v1: the upstream checks the client's own key.

    Args:
        served: The clients' name for the model.
        model: The upstream's name for it.
        pass_key: Whether clients' keys are for the upstream.
        largest: The most bytes of a body.
    """

    def __init__(self, served: str, model: str, *, pass_key: bool, largest: int) -> None:
        self._served, self._model, self._largest, self._bodies = served, model, largest, BodyReader()
        self._dropped = _DROPPED if pass_key else _DROPPED | _CREDENTIALS

    async def build(self, scope: Scope, receive: Receive) -> UpstreamRequest:
        """See `RequestPolicy`."""
        method, path = scope["method"], path_below_root(scope)
        if not path.startswith(f"{_BASE}/"):
            raise not_found(path)
        if method not in METHODS:
            raise unroutable(method, path)
        body = await read_limited(scope, receive, self._largest)
        if self._model != self._served and not header(scope, "content-encoding"):
            body = await self._bodies.run_off_loop(body, self._rename_model)
        dropped = self._dropped | connection_headers(scope["headers"])
        headers = _decode(each for each in scope["headers"] if each[0] not in dropped)
        return UpstreamRequest(method, _below_base(path), _query(scope), headers, body)

    def _rename_model(self, body: bytes) -> bytes:
        """Return the body with the upstream's name for the model, if it is JSON that names the served one."""
        try:
            content = parse(body)
            named = isinstance(content, dict) and content.get("model") == self._served
            return encode(content | {"model": self._model}) if named else body
        except RequestError:
            return body  # a form with a file, or for the upstream to reject


class Allowlist:
    """Sends the operator's key, with requests for the served model alone and only the fields that are allowed.

    Args:
        key: The operator's key for the upstream.
        served: The clients' name for the model.
        model: The upstream's name for it.
        more_fields: Further fields that are allowed, from the model's profile.
    """

    def __init__(self, key: str, served: str, model: str, more_fields: Collection[str] = ()) -> None:
        self._key, self._served, self._model, self._more_fields = key, served, model, more_fields
        self._bodies = BodyReader()

    async def build(self, scope: Scope, receive: Receive) -> UpstreamRequest:
        """See `RequestPolicy`."""
        method, path = scope["method"], path_below_root(scope)
        route = find_route(method, path)
        if route is None or not route.largest:
            raise unroutable(method, path)
        body, content = await self._bodies.read(scope, receive, min(route.largest, LARGEST_REBUILT))
        content = as_object(content)
        name = content.get("model")
        if name != self._served:
            if isinstance(name, str):
                raise model_not_found(name)
            raise RequestError("'model' must be the name of a model", "model", "model_not_found", 404)
        # By default OpenAI stores these responses.
        storage = {"store": False} if path == "/v1/responses" else {}
        sent = allowed_fields(path, content, self._more_fields) | storage | {"model": self._model}
        body = await self._bodies.run_off_loop(body, lambda _: encode(sent))
        headers = _decode(each for each in scope["headers"] if each[0] in _ALLOWED)
        # The response is searched for the key.
        headers["accept-encoding"], headers["content-type"] = "identity", "application/json"
        headers["authorization"] = f"Bearer {self._key}"
        return UpstreamRequest(method, _below_base(path), "", headers, body)


def connection_headers(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the headers that Connection names, which are for the next server only; names are lower-case."""
    named = [value.lower() for name, value in headers if name == b"connection"]
    return {each.strip() for value in named for each in value.split(b",")}


def _decode(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in headers)


def _below_base(path: str) -> str:
    return quote_path(path).decode().removeprefix(_BASE)


def _query(scope: Scope) -> str:
    query: bytes = scope.get("query_string") or b""
    return query.decode("ascii")

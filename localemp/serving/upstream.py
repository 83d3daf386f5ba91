"""Stands where vLLM's app stands for a local model: passes every request on to a server elsewhere, as it is.

Answers go back as they come: no chunk is held back or unpacked. It knows nothing of strategies; the middleware around
it has rewritten their requests.
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

import aiohttp
import prometheus_client
from multidict import CIMultiDict

from localemp.profiles import served_profile
from localemp.serving.asgi import (
    BodyTooLargeError,
    ClientGoneError,
    Headers,
    Receive,
    Scope,
    Send,
    disconnected,
    header,
    read_body,
    send_json,
)
from localemp.serving.listening import serve
from localemp.serving.replicas import Replica, Replicas, Timeouts, failure
from localemp.serving.requests import RequestError
from localemp.serving.settings import ServeSettings

LARGEST_BODY = 256 * 2**20
"""Bytes; files to transcribe and batches go through here too."""

# RFC 9110, 7.6.1: meant for the next server only, as is what the header Connection names.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade".split()
)
# Written anew, or already done (Expect). A browser's cookies and origin are for our host, whatever port they come from.
_NOT_SENT = _HOP_BY_HOP | frozenset(b"host content-length expect cookie origin referer".split())
_CREDENTIALS = frozenset(b"authorization api-key x-api-key".split())
# What an upstream says of its own host; allowing other sites' pages is not its to do: they would use our key.
_NOT_RETURNED = _HOP_BY_HOP | frozenset(b"set-cookie alt-svc strict-transport-security".split())
_CORS = b"access-control-"

_metrics = prometheus_client.make_asgi_app()


class Upstream:
    """The ASGI app.

    `/v1/models` tells of the one served model, `/health` whether a server can be reached, `/metrics` what the default
    registry of prometheus_client holds; everything else below `/v1` goes to a server.

    Args:
        targets: Base URLs of servers that are equals, with "/v1"; the one with the fewest requests gets the next.
        key: For the servers; replaces the callers'.
        served: What callers call the model.
        model: What the servers call it; None is the same. Bodies are read only where it differs, or `key` is given.
        context_length: Of the model, for `/v1/models`.
        pass_key: Whether callers' own keys go to the servers where `key` is None; never where callers' keys are ours.
        timeouts: How long servers are waited for.
        largest_body: Bytes of a request; it is held in memory until a server has it.

    Raises:
        OptionError: No target, or one that is no URL.
    """

    def __init__(
        self,
        targets: Sequence[str],
        key: str | None,
        *,
        served: str,
        model: str | None = None,
        context_length: int | None = None,
        pass_key: bool = True,
        timeouts: Timeouts | None = None,
        largest_body: int = LARGEST_BODY,
    ) -> None:
        self._timeouts, self._largest_body = timeouts or Timeouts(), largest_body
        self._replicas = Replicas(targets, self._timeouts)
        self._key, self._served, self._model = key, served, model or served
        self._not_sent = _NOT_SENT if pass_key and key is None else _NOT_SENT | _CREDENTIALS
        self._via = f"localemp-{secrets.token_hex(4)}"
        self._entry = {
            "id": served,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "upstream",
            "root": self._model,
            "parent": None,
            "max_model_len": context_length,
            "permission": [],
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] == "/metrics":
            await _metrics(scope, receive, send)
        else:
            try:
                if not await self._answer_here(scope, send):
                    await self._answer_there(scope, receive, send)
            except RequestError as error:
                kept = [(name, value) for name, value in scope["headers"] if name == b"x-request-id"]
                await send_json(send, error.status, error.content, [*error.headers, *kept])
            except ClientGoneError:
                pass

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._replicas.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._replicas.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer_here(self, scope: Scope, send: Send) -> bool:
        path = scope["path"]
        if path == "/health":
            await send_json(send, 200 if await self._replicas.reachable() else 503, {})
        elif path == "/v1/models" and scope["method"] == "GET":
            await send_json(send, 200, {"object": "list", "data": [self._entry]})
        elif path.startswith("/v1/models/") and scope["method"] == "GET":
            name = path.removeprefix("/v1/models/")
            if name != self._served:
                raise RequestError(f"there is no model {name!r}", "model", "model_not_found", 404)
            await send_json(send, 200, self._entry)
        elif not path.startswith("/v1/") or {".", ".."} & set(path.split("/")):
            raise RequestError(f"there is nothing at {path}", code="not_found", status=404)
        else:
            return False
        return True

    async def _answer_there(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on until the answer is through or the client has gone, whichever is first."""
        try:
            body = await read_body(receive, self._largest_body)
        except BodyTooLargeError as error:
            raise RequestError("the body is too large", code="body_too_large", status=413) from error
        passing = asyncio.ensure_future(self._pass_on(scope, body, send))
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait((passing, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            # Cancelling closes the connection to the server, which then stops working.
            if passing.cancel():
                await asyncio.wait((passing,))
        if not passing.cancelled():
            passing.result()

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self._timeouts.first_byte
        headers, body = self._headers(scope), self._renamed(scope, body)
        async with self._replicas.ask(scope["method"], _path(scope), headers, body, deadline) as (replica, answer):
            await send(
                {"type": "http.response.start", "status": answer.status, "headers": _returned(answer.raw_headers)}
            )
            waiting, last = asyncio.timeout_at(deadline), b""
            more = True
            while more:
                try:
                    async with waiting:
                        last = await answer.content.readany()
                except (aiohttp.ClientError, TimeoutError) as error:
                    await _end_early(replica, answer, last, error, send)
                    return
                more = not answer.content.at_eof()
                await send({"type": "http.response.body", "body": last, "more_body": more})
                waiting = asyncio.timeout(self._timeouts.between)

    def _headers(self, scope: Scope) -> CIMultiDict[str]:
        """What the server is sent.

        Raises:
            RequestError: The request has been here before (508).
        """
        if any(name == b"via" and self._via.encode() in value for name, value in scope["headers"]):
            raise failure(508, "upstream_loop", "the upstream leads back to this server")
        dropped = self._not_sent | _named_by_connection(scope["headers"])
        kept = [
            (name.decode(), value.decode("utf-8", "replace")) for name, value in scope["headers"] if name not in dropped
        ]
        headers = CIMultiDict([*kept, ("via", f"{scope.get('http_version', '1.1')} {self._via}")])
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        return headers

    def _renamed(self, scope: Scope, body: bytes) -> bytes:
        """The body with the server's name of the model for ours, where it is JSON that names ours.

        Raises:
            RequestError: It names another, and the key is the server's own (404).
        """
        same = self._model == self._served
        if (same and self._key is None) or header(scope, b"content-encoding"):
            return body
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return body  # a form with a file, or the server's to refuse
        name = content.get("model") if isinstance(content, dict) else None
        if self._key is not None and name is not None and name != self._served:
            # The key is ours, and others of the server's models may cost more.
            raise RequestError(f"there is no model {name!r}", "model", "model_not_found", 404)
        return body if same or name != self._served else json.dumps(content | {"model": self._model}).encode()


def run(
    settings: ServeSettings, targets: Sequence[str], key: str | None, host: str, port: int, ready: Callable[[], None]
) -> None:
    """Serve the strategies before servers elsewhere, in this process and its main thread, until SIGINT or SIGTERM.

    Args:
        settings: What is served.
        targets: Base URLs of the servers.
        key: For the servers; None passes callers' keys on, unless they are ours.
        host: Where to listen.
        port: Where to listen.
        ready: Called when it listens.

    Raises:
        OptionError: Nothing can listen there, or a target is no URL.
    """
    # Only here: what imports the app alone, such as a benchmark, needs no strategies.
    from localemp.serving.middleware import Strategies

    os.environ |= settings.to_env()
    profile = served_profile(settings.to_recipe().model)
    app = Upstream(
        targets,
        key,
        served=settings.model,
        model=profile.model,
        context_length=profile.context_length,
        pass_key=not settings.api_keys,
    )
    serve(Strategies(app), host, port, ready)


async def _end_early(
    replica: Replica, answer: aiohttp.ClientResponse, last: bytes, error: BaseException, send: Send
) -> None:
    """Tell the client that there will be no more: by an error event, or else by breaking off too."""
    late = isinstance(error, TimeoutError)
    code = "upstream_timeout" if late else "upstream_broken"
    replica.failed(code.removeprefix("upstream_"), error)
    plain = (
        answer.content_type == "text/event-stream"
        and not {"Content-Length", "Content-Encoding"} & answer.headers.keys()
    )
    if plain:
        said = failure(
            504 if late else 502, code, f"the upstream {'fell silent' if late else 'broke off'} in its answer"
        )
        # An empty line ends what may be half an event.
        gap = b"" if not last or last.endswith(b"\n\n") else b"\n\n"
        event = b"%sdata: %s\n\n" % (gap, json.dumps(said.content).encode())
        await send({"type": "http.response.body", "body": event, "more_body": False})
    # Otherwise uvicorn closes the connection of an answer that was not ended.


def _path(scope: Scope) -> str:
    """What follows "/v1", with the query, as the client encoded it."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string")
    return (raw.removeprefix(b"/v1") + (b"?" + query if query else b"")).decode("latin-1")


def _returned(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    lower = [(name.lower(), value) for name, value in headers]
    dropped = _NOT_RETURNED | _named_by_connection(lower)
    return [(name, value) for name, value in lower if name not in dropped and not name.startswith(_CORS)]


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    named = [value.lower() for name, value in headers if name == b"connection"]
    return {each.strip() for value in named for each in value.split(b",")}

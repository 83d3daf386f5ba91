"""The proxy: an ASGI app in the place of vLLM's, which forwards requests to an upstream and streams the responses back.

It knows nothing of strategies; the middleware around it has rewritten their requests. It relies on no outer layer:
paths, methods and bodies are checked here as well.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Collection, Sequence

import prometheus_client
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from localemp.models.profiles import served_profile
from localemp.serving.errors import RequestError, model_not_found, not_found
from localemp.serving.paths import MODELS, normal_path, path_below_root, with_path
from localemp.serving.proxy.replicas import Replicas, Timeouts, broken, failure
from localemp.serving.proxy.request import Allowlist, PassThrough, RequestPolicy, UpstreamRequest
from localemp.serving.proxy.response import BrokenResponseError, ResponseRelay
from localemp.serving.routes import LARGEST_BODY, find_route
from localemp.serving.settings import ServeSettings
from localemp.web.asgi import SafeJSONResponse, run_while_connected
from localemp.web.server import DRAIN, serve

_metrics = prometheus_client.make_asgi_app()


class Proxy:
    """The ASGI app.

    `/v1/models` lists the one served model, `/health` says whether a server can be reached, `/metrics` shows the
    default registry of prometheus_client. Everything else below `/v1` goes to a server; with the operator's key only
    requests for the served model (`request.py`), and the key is redacted in the responses (`response.py`).

    Args:
        targets: Base URLs of equivalent servers, with "/v1"; the least busy one gets the next request.
        key: The operator's key for the servers; replaces the clients' keys.
        served: The clients' name for the model.
        model: The servers' name for it; None is the same.
        context_length: The model's context length in tokens, for `/v1/models`.
        pass_key: Whether the clients' own keys go to the servers if `key` is None; never if they are this server's.
        timeouts: How long to wait for servers.
        largest_body: The most bytes of a body; it is kept in memory until a server has it.
        more_fields: Further body fields that are allowed with the operator's key.

    Raises:
        OptionError: There is no target, or one is not a valid URL.
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
        more_fields: Collection[str] = (),
    ) -> None:
        self._timeouts, self._key = timeouts or Timeouts(), key
        self._replicas = Replicas(targets, self._timeouts, key)
        self._policy: RequestPolicy = (
            PassThrough(served, model or served, pass_key=pass_key, largest=largest_body)
            if key is None
            else Allowlist(key, served, model or served, more_fields)
        )
        self._via = f"localemp-{secrets.token_hex(4)}"
        self._model_entry = {
            "id": served,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "upstream",
            "root": model or served,
            "parent": None,
            "max_model_len": context_length,
            "permission": [],
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                path = normal_path(scope)
                if path is None:
                    raise not_found(path_below_root(scope))
                await self._dispatch(path, with_path(scope, path), receive, send)
            except RequestError as error:
                kept = [(name, value) for name, value in scope["headers"] if name == b"x-request-id"]
                await error.response(kept)(scope, receive, send)
            except ClientDisconnect:
                pass

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._replicas.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._replicas.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _dispatch(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        route = find_route(scope["method"], path)
        if route is None or route.largest:
            await self._forward(scope, receive, send)
        elif path == "/metrics":
            await _metrics(scope, receive, send)
        elif path == "/health":
            status = 200 if await self._replicas.reachable() else 503
            await SafeJSONResponse({}, status)(scope, receive, send)
        elif f"{path}/" == MODELS:
            await SafeJSONResponse({"object": "list", "data": [self._model_entry]})(scope, receive, send)
        elif path == f"{MODELS}{self._model_entry['id']}":
            await SafeJSONResponse(self._model_entry)(scope, receive, send)
        elif path.startswith(MODELS):
            raise model_not_found(path.removeprefix(MODELS))
        else:
            raise not_found(path)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request until its response is complete or the client disconnects, whichever is first."""
        if any(name == b"via" and self._via.encode() in value for name, value in scope["headers"]):
            raise failure(508, "upstream_loop", "the upstream leads back to this server")
        request = await self._policy.build(scope, receive)
        request.headers.add("via", f"{scope.get('http_version', '1.1')} {self._via}")
        # Cancelling closes the connection to the server, which then stops working.
        await run_while_connected(receive, self._relay(request, send))

    async def _relay(self, request: UpstreamRequest, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self._timeouts.first_byte
        replica, response = await self._replicas.ask(request, deadline)
        relay = ResponseRelay(response, self._key, send)
        try:
            await relay.run(deadline, self._timeouts.between)
        except BrokenResponseError as error:
            known = broken(replica, error.__cause__, relay.started)
            if not relay.started:
                raise known from error
            await relay.end_early(known.content)
        finally:
            replica.done(response)


def run(
    settings: ServeSettings,
    targets: Sequence[str],
    key: str | None,
    *,
    host: str,
    port: int,
    on_ready: Callable[[], None],
    drain: int = DRAIN,
) -> None:
    """Serve the strategies in front of an upstream, in this process's main thread, until SIGINT or SIGTERM.

    Args:
        settings: What is served.
        targets: Base URLs of the upstream's servers.
        key: The operator's key for them; None passes the clients' keys on, unless they are this server's.
        host: The host to listen on.
        port: The port to listen on.
        on_ready: Called once the server listens.
        drain: Seconds for responses under way to finish at the end.

    Raises:
        OptionError: The host and port cannot be listened on, or a target is not a valid URL.
    """
    # Imported here, so that what imports the proxy alone, such as a benchmark, loads no strategies.
    from localemp.pipeline.pipeline import Pipeline
    from localemp.serving.middleware import StrategyMiddleware

    os.environ |= settings.to_env()
    config = settings.to_config()
    profile = served_profile(config.model)
    proxy = Proxy(
        targets,
        key,
        served=settings.model,
        model=profile.model,
        context_length=profile.context_length,
        pass_key=not settings.api_keys,
        more_fields={**profile.request, **Pipeline(config).request},
    )
    serve(StrategyMiddleware(proxy), host, port, on_ready, drain)

"""Stands where vLLM's app stands for a local model: passes requests on to a server elsewhere, and its answers back.

Answers go back as they come: no chunk is held back. It knows nothing of strategies; the middleware around it has
rewritten their requests. It relies on no layer before it: paths, methods and bodies are checked here, too.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Collection, Sequence

import prometheus_client

from localemp.models.profiles import served_profile
from localemp.serving.proxy.replicas import Replicas, Timeouts, broken, failure
from localemp.serving.proxy.request import AsItIs, Outgoing, Rule, UnderOurKey
from localemp.serving.proxy.response import Back, BrokenAnswerError
from localemp.serving.routes import LARGEST_BODY, not_found, route_of
from localemp.serving.schema import RequestError
from localemp.serving.settings import ServeSettings
from localemp.utils.text import one_line
from localemp.web.asgi import ClientGoneError, Receive, Scope, Send, send_json, while_connected
from localemp.web.paths import MODELS, at, below_root, normal_path
from localemp.web.server import DRAIN, serve

_metrics = prometheus_client.make_asgi_app()


class Upstream:
    """The ASGI app.

    `/v1/models` tells of the one served model, `/health` whether a server can be reached, `/metrics` what the default
    registry of prometheus_client holds. Everything else below `/v1` goes to a server; with a key of ours only what has
    the served model read and write (`outgoing.py`), and the key is starred out in what comes back (`returning.py`).

    Args:
        targets: Base URLs of servers that are equals, with "/v1"; the one with the fewest requests gets the next.
        key: For the servers; replaces the callers'.
        served: What callers call the model.
        model: What the servers call it; None is the same.
        context_length: Of the model, for `/v1/models`.
        pass_key: Whether callers' own keys go to the servers where `key` is None; never where callers' keys are ours.
        timeouts: How long servers are waited for.
        largest_body: Bytes of a request; it is held in memory until a server has it.
        more_fields: Of a body, beside those that every model takes; for a key of ours.

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
        more_fields: Collection[str] = (),
    ) -> None:
        self._timeouts, self._key = timeouts or Timeouts(), key
        self._replicas = Replicas(targets, self._timeouts, key)
        self._rule: Rule = (
            AsItIs(served, model or served, pass_key, largest_body)
            if key is None
            else UnderOurKey(key, served, model or served, more_fields)
        )
        self._via = f"localemp-{secrets.token_hex(4)}"
        self._entry = {
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
                    raise not_found(below_root(scope))
                await self._answer(path, at(scope, path), receive, send)
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

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        route = route_of(scope["method"], path)
        if route is None or route.largest:
            await self._answer_there(scope, receive, send)
        elif path == "/metrics":
            await _metrics(scope, receive, send)
        elif path == "/health":
            await send_json(send, 200 if await self._replicas.reachable() else 503, {})
        elif f"{path}/" == MODELS:
            await send_json(send, 200, {"object": "list", "data": [self._entry]})
        elif path == f"{MODELS}{self._entry['id']}":
            await send_json(send, 200, self._entry)
        elif path.startswith(MODELS):
            name = one_line(path.removeprefix(MODELS))
            raise RequestError(f"there is no model {name!r}", "model", "model_not_found", 404)
        else:
            raise not_found(path)

    async def _answer_there(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on until the answer is through or the client has gone, whichever is first."""
        if any(name == b"via" and self._via.encode() in value for name, value in scope["headers"]):
            raise failure(508, "upstream_loop", "the upstream leads back to this server")
        request = await self._rule.outgoing(scope, receive)
        request.headers.add("via", f"{scope.get('http_version', '1.1')} {self._via}")
        # Cancelling closes the connection to the server, which then stops working.
        await while_connected(receive, self._pass_on(request, send))

    async def _pass_on(self, request: Outgoing, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self._timeouts.first_byte
        replica, answer = await self._replicas.ask(request, deadline)
        back = Back(answer, self._key, send)
        try:
            await back.pass_on(deadline, self._timeouts.between)
        except BrokenAnswerError as error:
            said = broken(replica, error.__cause__, back.begun)
            if not back.begun:
                raise said from error
            await back.end_early(said.content)
        finally:
            replica.done(answer)


def run(
    settings: ServeSettings,
    targets: Sequence[str],
    key: str | None,
    host: str,
    port: int,
    ready: Callable[[], None],
    drain: int = DRAIN,
) -> None:
    """Serve the strategies before servers elsewhere, in this process and its main thread, until SIGINT or SIGTERM.

    Args:
        settings: What is served.
        targets: Base URLs of the servers.
        key: For the servers; None passes callers' keys on, unless they are ours.
        host: Where to listen.
        port: Where to listen.
        ready: Called when it listens.
        drain: Seconds that answers under way are given in the end.

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
        more_fields=profile.request,
    )
    serve(Strategies(app), host, port, ready, drain)

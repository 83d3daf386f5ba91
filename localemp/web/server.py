"""Runs an ASGI app with uvicorn in this process; reports when it listens and returns on a signal."""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localemp.errors import OptionError
from localemp.utils.files import raise_file_limit
from localemp.web.asgi import RawHeaders, SafeJSONResponse, error_event, is_event_stream
from localemp.web.connections import Connection

DRAIN = 30
"""Seconds that `localemp serve` gives responses under way when it stops, by default."""


def serve(app: ASGIApp, host: str, port: int, on_ready: Callable[[], None] = lambda: None, drain: int = 5) -> None:
    """Run an app in the main thread until SIGINT or SIGTERM.

    Args:
        app: The app; its lifespan is run as well.
        host: The host to listen on.
        port: The port to listen on.
        on_ready: Called once the server listens.
        drain: Seconds for responses under way to finish at the end.

    Raises:
        OptionError: The host and port cannot be listened on.
    """
    with open_listener(host, port) as listener:
        serve_on(listener, app, on_ready, drain)


def serve_on(
    listener: socket.socket, app: ASGIApp, on_ready: Callable[[], None] = lambda: None, drain: int = 5
) -> None:
    """Run an app as `serve` does, on a socket of `open_listener`.

    For callers that have work to do once the port is certain, and before the server runs.
    """
    # Date, server and the like are the upstream's. Clients keep idle connections for 5 s: theirs are to end first.
    config = uvicorn.Config(
        with_shutdown_errors(app),
        http=Connection,
        interface="asgi3",
        lifespan="on",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=drain,
    )
    raise_file_limit()  # a request takes two connections
    with _signals_ignored():
        _Server(config, on_ready).run([listener])


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OptionError: The host and port cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            message = f"cannot listen on {host}, port {port}: {error.strerror}"
            raise OptionError(message, "choose another --port") from error
        why = str(error.strerror).partition(" (while")[0]
        hint = "127.0.0.1 is this machine alone, 0.0.0.0 every network that it is in"
        raise OptionError(f"--host {host}: not an address of this machine ({why})", hint) from error


def with_shutdown_errors(app: ASGIApp) -> ASGIApp:
    """Wrap an app so that a client whose response is cut off by the server's shutdown gets an error."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        headers: RawHeaders = []
        last, started, ended = b"", False, False

        async def observe(message: Message) -> None:
            nonlocal headers, last, started, ended
            if message["type"] == "http.response.start":
                headers, started = message.get("headers", []), True
            elif message["type"] == "http.response.body":
                last, ended = message.get("body") or last, not message.get("more_body")
            await send(message)

        try:
            await app(scope, receive, observe)
        except asyncio.CancelledError:  # uvicorn's graceful shutdown has timed out
            if scope["type"] != "http":
                raise
            if not started:
                await SafeJSONResponse(_SERVER_STOPPED, 503, {"retry-after": "5"})(scope, receive, send)
            elif not ended and is_event_stream(headers):
                await send({"type": "http.response.body", "body": error_event(last, _SERVER_STOPPED)})

    return wrapped


_SERVER_STOPPED = {
    "error": {
        "message": "the server is shutting down, and this response did not finish in time",
        "type": "server_error",
        "param": None,
        "code": "server_stopped",
    }
}


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Every response that is cut off from here on would log an error with a traceback.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Leave SIGINT and SIGTERM to uvicorn, which raises them again afterwards for the previous handlers."""
    handlers = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)

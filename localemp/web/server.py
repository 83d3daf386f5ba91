"""Runs an ASGI app with uvicorn in this process, so that it says when it listens and returns when it is told to end."""

import asyncio
import errno
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from localemp.errors import OptionError
from localemp.web.asgi import App, Event, Headers, Receive, Scope, Send, error_event, is_stream, send_json
from localemp.web.connections import Connection

DRAIN = 30
"""Seconds that answers under way are given when a server is told to end."""


def serve(app: App, host: str, port: int, ready: Callable[[], None] = lambda: None, patience: int = 5) -> None:
    """Run an app in the main thread until SIGINT or SIGTERM.

    Args:
        app: Its lifespan is run, too.
        host: Where to listen.
        port: Where to listen.
        ready: Called when it listens.
        patience: Seconds that answers under way are given in the end.

    Raises:
        OptionError: Nothing can listen there.
    """
    with listening(host, port) as listener:
        serve_on(listener, app, ready, patience)


def serve_on(listener: socket.socket, app: App, ready: Callable[[], None] = lambda: None, patience: int = 5) -> None:
    """The same on a socket from `listening`, where something is to be done that must not be done in vain."""
    # Date, server and the like are the upstream's. Clients keep idle connections for 5 s: theirs are to end first.
    config = uvicorn.Config(
        told_of_the_end(app),
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
        timeout_graceful_shutdown=patience,
    )
    _raise_file_limit()
    with _signals_taken():
        _Server(config, ready).run([listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OptionError: Nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            said = f"cannot listen on {host}, port {port}: {error.strerror}"
            raise OptionError(said, "name another --port") from error
        why = str(error.strerror).partition(" (while")[0]
        hint = "127.0.0.1 is this machine alone, 0.0.0.0 every network that it is in"
        raise OptionError(f"--host {host}: no address of this machine ({why})", hint) from error


def told_of_the_end(app: App) -> App:
    """An app whose clients are told when its server ends before their answer does."""

    async def until_the_end(scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = []
        last, begun, ended = b"", False, False

        async def watched(event: Event) -> None:
            nonlocal headers, last, begun, ended
            if event["type"] == "http.response.start":
                headers, begun = event.get("headers", []), True
            elif event["type"] == "http.response.body":
                last, ended = event.get("body") or last, not event.get("more_body")
            await send(event)

        try:
            await app(scope, receive, watched)
        except asyncio.CancelledError:  # uvicorn's patience is over
            if scope["type"] != "http":
                raise
            if not begun:
                await send_json(send, 503, _CUT, [(b"retry-after", b"5")])
            elif not ended and is_stream(headers):
                await send({"type": "http.response.body", "body": error_event(last, _CUT)})

    return until_the_end


_CUT = {
    "error": {
        "message": "this server is being stopped, and this answer took longer than it waits",
        "type": "server_error",
        "param": None,
        "code": "server_stopped",
    }
}


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Every answer that is cut short now would be an error with a traceback.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


@contextmanager
def _signals_taken() -> Iterator[None]:
    """Has no one end on these two but uvicorn, which afterwards raises them again for whoever had them before."""
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _raise_file_limit() -> None:
    """Two connections a request, and the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

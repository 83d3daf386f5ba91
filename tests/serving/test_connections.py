"""Clients that are slow on purpose, over real sockets; every time limit is scaled down."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import uvicorn
from asgi_client import send_json
from patience import patience, wait_until
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from localemp.web.asgi import read_body
from localemp.web.connections import Connection, ConnectionLimits

# Many times what a client here pauses for, so that a busy machine changes nothing.
LIMITS = ConnectionLimits(
    head_seconds=patience(0.5), body_seconds=patience(0.5), body_rate=5_000 / patience(1), head_bytes=4000, idle=20
)


class Quick(Connection):
    limits = LIMITS


class Slow:
    """An app that reads a body, then takes its time; `gone` counts clients that left in their body."""

    def __init__(self) -> None:
        self.gone = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/early":
            try:
                await read_body(receive, 2**20)
            except ClientDisconnect:
                self.gone += 1
                return
        if scope["path"] == "/slow":
            await asyncio.sleep(2.5 * LIMITS.head_seconds)
        if scope["path"] == "/stream":
            await stream(receive, send)
            return
        await send_json(send, 200, {})


async def stream(receive: Receive, send: Send) -> None:
    """An answer that begins at once and ends after a while, unless the client goes."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"begin", "more_body": True})
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(receive(), 2.5 * LIMITS.head_seconds)
    await send({"type": "http.response.body", "body": b"-done"})


@pytest.fixture(scope="module")
def app() -> Slow:
    return Slow()


@pytest.fixture(scope="module")
def port(app: Slow) -> Iterator[int]:
    config = uvicorn.Config(
        app, port=0, interface="asgi3", lifespan="off", log_level="error", http=Quick, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(patience(10))


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), patience(10))


def dripped(client: socket.socket, pieces: Sequence[bytes], pause: float = 0.02) -> bytes:
    """What is answered while these pieces are sent one by one, until the server closes."""

    def send() -> None:
        try:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass

    sender = threading.Thread(target=send)
    sender.start()
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    client.close()
    sender.join()
    return b"".join(parts)


HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"
SIZED = HEAD + b"content-length: 100000\r\n\r\n"
LATE = b"HTTP/1.1 408 "


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([b""], b""),
        ([b"P"], LATE),
        ([HEAD], LATE),
        ([HEAD, *[b"x: y\r\n"] * 100], LATE),
        ([SIZED], LATE),
        ([SIZED, *[b"a"] * 100], LATE),
        ([HEAD + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\na\r\n"] * 100], LATE),
    ],
    ids=["nothing", "a byte", "half a head", "a dripping head", "no body", "a dripping body", "dripping chunks"],
)
def test_a_request_that_does_not_come_is_not_waited_for(port: int, app: Slow, pieces: list[bytes], answer: bytes):
    before = app.gone
    said = dripped(connected(port), pieces)
    assert said.startswith(answer) and (answer or not said)
    assert said.count(b"HTTP/1.1") == (1 if answer else 0)
    expected = before + (SIZED in pieces or b"1\r\na\r\n" in pieces)
    wait_until(lambda: app.gone == expected)


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([b"POST / HTTP/1.1\r\nhost: a\r\nx: ", *[b"a" * 1000] * 9], b"HTTP/1.1 431 "),
        ([b"POST / HTTP/1.1\r\n", *[b"x: %s\r\n" % (b"a" * 1000)] * 9], b"HTTP/1.1 431 "),
        ([HEAD + b"connection: close\r\nx: " + b"a" * 3000 + b"\r\n\r\n"], b"HTTP/1.1 200 "),
    ],
)
def test_a_head_has_a_size(port: int, pieces: list[bytes], answer: bytes):
    assert dripped(connected(port), pieces, pause=0.01).startswith(answer)


def test_a_body_at_a_good_pace_may_take_its_time(port: int):
    head = HEAD + b"connection: close\r\ncontent-length: 20000\r\n\r\n"
    started = time.monotonic()
    assert dripped(connected(port), [head, *[b"a" * 1000] * 20], pause=0.14 * LIMITS.body_seconds).startswith(
        b"HTTP/1.1 200 "
    )
    assert time.monotonic() - started > 2 * LIMITS.body_seconds


@pytest.mark.parametrize(
    "pieces",
    [
        [b"POST /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"],
        [b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab\r\n"],
        [b"POST /slow HTTP/1.1\r\nhost: a\r\n\r\nPOST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"],
        [b"POST /slow HTTP/1.1\r\nhost: a\r\n\r\nPOST / HT", b"TP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"],
    ],
    ids=["alone", "with a line more", "with the next one", "with half of the next one"],
)
def test_an_answer_may_take_its_time(port: int, pieces: list[bytes]):
    client = connected(port)
    if pieces[0].endswith(b"ab\r\n"):
        client.sendall(pieces[0])
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.close()
    else:
        said = dripped(client, pieces, pause=1.5 * LIMITS.head_seconds)
        assert said.count(b"HTTP/1.1 200 ") == said.count(b"HTTP/1.1") == b"".join(pieces).count(b"POST")


@pytest.mark.parametrize("drips", [b"\r\n", b"a"], ids=["empty lines", "the rest of a body"])
def test_what_comes_after_an_early_answer_keeps_nothing_open(port: int, drips: bytes):
    first = b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (0 if drips == b"\r\n" else 1000)
    said = dripped(connected(port), [first, *[drips] * 100])
    assert said.startswith(b"HTTP/1.1 200 ") and said.count(b"HTTP/1.1") == 1


def test_connections_are_used_again(port: int):
    with connected(port) as client:
        for _ in range(2):
            client.sendall(HEAD + b"\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(1.5 * LIMITS.head_seconds)  # uvicorn's own patience is longer


def test_of_many_that_wait_the_oldest_make_room(port: int):
    idle = [connected(port) for _ in range(3 * LIMITS.idle)]
    with connected(port) as client:
        client.sendall(HEAD + b"\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    closed = [client for client in idle if _is_closed(client)]
    assert len(idle) - len(closed) <= LIMITS.idle
    assert closed == idle[: len(closed)]
    for client in idle:
        client.close()


def test_one_that_is_answered_is_not_the_one_that_makes_room(port: int):
    """The second of two requests that came in one piece is under way, when the first is answered."""
    second = b"POST /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with connected(port) as client:
        client.sendall(HEAD + b"\r\n" + second)
        first = client.recv(65536)
        assert first.count(b"HTTP/1.1 200 ") == 1
        idle = [connected(port) for _ in range(2 * LIMITS.idle)]
        rest = b"".join(iter(lambda: client.recv(65536), b""))
        assert (first + rest).count(b"HTTP/1.1 200 ") == 2
    for other in idle:
        other.close()


STREAM = b"POST /stream HTTP/1.1\r\nhost: a\r\n\r\n"


def test_a_head_that_is_too_large_is_no_part_of_an_earlier_answer(port: int):
    client, said = connected(port), b""
    client.sendall(STREAM)
    while not said.endswith(b"\r\n\r\nbegin"):
        said += client.recv(65536)
    assert dripped(client, [HEAD + b"x: ", *[b"a" * 1000] * 9], pause=0.01) == b""


def test_a_body_that_does_not_come_ends_no_earlier_answer(port: int):
    said = dripped(connected(port), [STREAM + SIZED])
    whole, _, rest = said.partition(b"begin-done")
    assert whole.startswith(b"HTTP/1.1 200 ") and rest.startswith(LATE)


def _is_closed(client: socket.socket) -> bool:
    client.settimeout(0)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_slow_ones_leave_room_for_others(port: int):
    """As many as may wait, all in the middle of a head: an ordinary request is answered at once."""
    slow = [connected(port) for _ in range(LIMITS.idle)]
    for client in slow:
        client.sendall(HEAD)
    with connected(port) as client:
        client.sendall(HEAD + b"\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    for client in slow:
        assert dripped(client, [b""])[: len(LATE)] in (LATE, b"")  # the first has made room


def test_vllms_server_waits_no_longer_than_ours():
    """It names no protocol of its own; every process that serves imports the module that starts it."""
    program = """
import uvicorn
import localemp.serving.vllm.main
from localemp.web.connections import Connection

config = uvicorn.Config(None)
config.load()
assert config.http_protocol_class is Connection
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_trailers_are_bounded_and_no_part_of_the_request(port: int):
    body = HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    with connected(port) as client:
        client.sendall(body + b"host: evil\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert dripped(connected(port), [body, *[b"x: " + b"y" * 1000 + b"\r\n"] * 9]).startswith(b"HTTP/1.1 431 ")


UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"


@pytest.mark.parametrize("length", [b"content-length: 26\r\n", b"transfer-encoding: chunked\r\n"])
def test_a_body_is_no_next_request_where_another_protocol_is_asked_for(port: int, length: bytes):
    said = dripped(connected(port), [HEAD + UPGRADE + length + b"\r\n", b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n"])
    assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1") == 1


def test_a_request_without_a_body_may_ask_for_another_protocol(port: int):
    said = dripped(connected(port), [b"GET / HTTP/1.1\r\nhost: a\r\n" + UPGRADE + b"\r\n"])
    assert said.startswith(b"HTTP/1.1 200 ")

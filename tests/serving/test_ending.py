"""A server that is told to end: what is under way is answered for a while, and clients that are cut off are told."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from patience import patience, wait_until
from ports import free_port
from starlette.types import Message, Receive, Scope, Send
from upstream_server import REPLY, FakeUpstream, Seen, answers, streams, token

from localemp.web.asgi import error_event
from localemp.web.server import with_shutdown_errors

CHAT = "/v1/chat/completions"
RUN = """
import sys
from localemp.serving.settings import ServeSettings
from localemp.serving.proxy.app import run

url, port, drain = sys.argv[1:]
settings = ServeSettings(model="tiny", config={"model": "tiny", "base_url": url}, strategies=("zero-shot",))
run(settings, [url], "server's", host="127.0.0.1", port=int(port),
    on_ready=lambda: print("ready", flush=True), drain=int(drain))
print("ended")
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@contextmanager
def running(upstream: FakeUpstream, drain: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    port = free_port()
    command = [sys.executable, "-c", RUN, upstream.url, str(port), str(drain)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "ready\n"
            yield process, f"http://127.0.0.1:{port}{CHAT}"
        finally:
            process.kill()


class Client(threading.Thread):
    """Asks once, and keeps what it gets."""

    def __init__(self, url: str, model: str, stream: bool) -> None:
        super().__init__(daemon=True)
        self.url, self.body = url, {"model": model, "messages": [{"role": "user", "content": "Hi."}], "stream": stream}
        self.status, self.text = 0, ""  # so far
        self.start()

    def run(self) -> None:
        with httpx.stream("POST", self.url, json=self.body, timeout=patience(60), trust_env=False) as answer:
            self.status = answer.status_code
            for piece in answer.iter_text():
                self.text += piece


async def by_what_is_asked(seen: Seen, send: Send) -> None:
    """A stream of two minutes, or a whole answer after as many."""
    if json.loads(seen.body).get("stream"):
        await streams([token("word ")] * 2400, pause=0.05)(seen, send)
    else:
        await answers(REPLY, delay=120)(seen, send)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_that_are_cut_end_with_an_error_and_the_exit_is_clean(upstream: FakeUpstream, number: int) -> None:
    upstream.reset(by_what_is_asked)
    with running(upstream, drain=1) as (process, url):
        asked = [("tiny", True), ("tiny:zero-shot", True), ("tiny", False), ("tiny:zero-shot", False)]
        clients = [Client(url, model, stream) for model, stream in asked]
        streaming = [client for client in clients if client.body["stream"]]
        wait_until(lambda: upstream.running == len(clients))
        wait_until(lambda: all(client.text.count("\n\n") >= 4 for client in streaming))
        process.send_signal(number)
        assert process.communicate(timeout=patience(30)) == ("ended\n", "")
    assert process.returncode == 0
    for client in clients:
        client.join(patience(30))
        if client.body["stream"]:
            *words, last = client.text.split("\n\n")[:-1]
            assert (client.status, len(words) > 3) == (200, True)
            assert "error" not in "".join(words) and "[DONE]" not in client.text
        else:
            assert client.status == 503
            last = client.text
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopped"
    wait_until(lambda: not upstream.running, 5)


def test_what_is_done_in_time_is_answered_and_nobody_new_comes_in(upstream: FakeUpstream) -> None:
    upstream.reset(streams([*[token("word ")] * 20, b"data: [DONE]\n\n"], pause=0.05))
    with running(upstream, drain=20) as (process, url):
        client = Client(url, "tiny", True)
        idle = socket.create_connection(("127.0.0.1", int(url.split(":")[2].partition("/")[0])))
        wait_until(lambda: upstream.running)
        process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "an idle connection holds up nothing"
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)
        assert process.communicate(timeout=patience(30)) == ("ended\n", "")
    client.join(patience(30))
    assert (process.returncode, client.status) == (0, 200)
    assert client.text.count("word ") == 20 and client.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("headers", "sent", "told"),
    [
        ([(b"content-type", b"text/event-stream")], [b"data: 1\n\n"], error_event(b"", {})[:6]),
        ([(b"content-type", b"Text/Event-Stream; charset=utf-8")], [b"data: 1"], b"\n\ndata:"),
        ([(b"content-type", b"text/event-stream")], [], b"data: "),
        ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], [b"\x1f"], b""),
        ([(b"content-type", b"text/event-stream"), (b"content-length", b"9")], [b"data:"], b""),
        ([(b"content-type", b"application/json")], [b"{"], b""),
    ],
)
async def test_only_a_plain_event_stream_gets_an_event_more(headers, sent, told) -> None:
    events: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in sent:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        raise asyncio.CancelledError

    async def send(event: Message) -> None:
        events.append(event)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await with_shutdown_errors(app)({"type": "http"}, receive, send)
    more = events[1 + len(sent) :]
    assert len(more) == bool(told)
    if told:
        assert more[0]["body"].startswith(told) and not more[0].get("more_body")
        assert b"server_stopped" in more[0]["body"]

import asyncio
import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import openai
import pytest
from patience import patience, wait_until
from ports import free_port
from starlette.types import Send
from upstream_server import REPLY, FakeUpstream, Running, Seen, answers, chunk, silent, start, streams, token

from localemp.errors import OptionError
from localemp.serving.proxy.app import Proxy
from localemp.serving.proxy.replicas import Timeouts
from localemp.web.server import serve

pytestmark = pytest.mark.usefixtures("fresh")

CHAT = "/v1/chat/completions"
BODY = b'{"model": "tiny",  "messages": [{"role": "user", "content": "I failed."}]}'
http = httpx.Client(trust_env=False)  # one, since each new one reads all certificates
QUICK = Timeouts(connect=patience(0.3), first_byte=patience(0.3), between=patience(0.3))


@pytest.fixture(scope="module")
def proxy(one: FakeUpstream) -> Iterator[Running]:
    """One that passes callers' keys on and gives up soon."""
    with Running(Proxy([one.url], None, served="tiny", timeouts=QUICK)) as server:
        yield server


@contextmanager
def before(*targets: str, key: str | None = None, **settings: Any) -> Iterator[Running]:
    with Running(Proxy(targets, key, **{"served": "tiny", "timeouts": QUICK, **settings})) as server:
        yield server


def post(server: Running, path: str = CHAT, body: bytes = BODY, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.post(server.address + path, content=body, headers={"content-type": "application/json"} | named)


def raw_request(server: Running, *headers: str, body: bytes = BODY, path: str = CHAT) -> socket.socket:
    """A connection on which a request was sent with exactly these headers."""
    client = socket.create_connection(("127.0.0.1", server.port), 5)
    lines = [f"POST {path} HTTP/1.1", "host: here", f"content-length: {len(body)}", *headers, "", ""]
    client.sendall("\r\n".join(lines).encode() + body)
    return client


def read_all(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def dead_url() -> str:
    return f"http://127.0.0.1:{free_port()}/v1"


# What goes there and back


def test_a_request_arrives_as_it_was_sent(one: FakeUpstream, proxy: Running) -> None:
    read = raw_request(
        proxy,
        "x-request-id: abc",
        "accept: text/x",
        "x-two: 1",
        "x-two: 2",
        "connection: close",
        path="/v1/a%20b?q=%20&r",
    )
    assert b"That sounds hard." in read_all(read)
    (seen,) = one.requests
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/a%20b?q=%20&r", BODY)
    via = seen.header("via")
    assert via and via.startswith("1.1 localemp-")
    # Nothing is added that the caller did not say, such as a name of ours or an encoding.
    assert sorted(seen.headers) == [
        ("accept", "text/x"), ("content-length", str(len(BODY))), ("host", f"127.0.0.1:{one.port}"), ("via", via),
        ("x-request-id", "abc"), ("x-two", "1"), ("x-two", "2"),
    ]  # fmt: skip


def test_an_answer_comes_back_as_it_is_even_packed(one: FakeUpstream, proxy: Running) -> None:
    packed = gzip.compress(b'{"packed": true}')
    one.reset(answers(packed, content_encoding="gzip", x_request_id="abc", openai_processing_ms="7"))
    with http.stream("POST", proxy.address + CHAT, content=BODY) as answer:
        assert b"".join(answer.iter_raw()) == packed
    assert dict(answer.headers) == {
        "content-type": "application/json", "content-encoding": "gzip", "x-request-id": "abc",
        "openai-processing-ms": "7", "content-length": str(len(packed)),
    }  # fmt: skip


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_the_upstreams_own_errors_pass_through(one: FakeUpstream, proxy: Running, status: int) -> None:
    one.reset(answers({"error": {"message": "its own words"}}, status, retry_after="17"))
    answer = post(proxy)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "17")
    assert answer.json() == {"error": {"message": "its own words"}}


def test_headers_for_the_next_hop_only_go_no_further(one: FakeUpstream, proxy: Running) -> None:
    one.reset(answers(connection="x-hop", x_hop="1", keep_alive="timeout=9", proxy_authenticate="Basic", x_end="2"))
    read = read_all(
        raw_request(
            proxy, "connection: close, X-Mine", "x-mine: 1", "te: trailers", "proxy-authorization: x", "x-all: 2"
        )
    )
    assert b"x-end: 2" in read
    assert not any(name in read for name in (b"x-hop", b"keep-alive", b"proxy-authenticate"))
    assert {name for name, _ in one.requests[0].headers} == {"host", "via", "x-all", "content-length"}


def test_cookies_and_rights_of_other_sites_pages_stay_where_they_are(one: FakeUpstream, proxy: Running) -> None:
    one.reset(answers(set_cookie="a=1", access_control_allow_origin="*", strict_transport_security="max-age=9"))
    first = post(proxy, cookie="mine=1", origin="http://elsewhere", referer="http://elsewhere/x")
    assert set(first.headers) == {"content-type", "content-length"}
    post(proxy)
    for seen in one.requests:
        assert not {"cookie", "origin", "referer"} & {name for name, _ in seen.headers}


def test_head_and_empty_answers_have_no_body(one: FakeUpstream, proxy: Running) -> None:
    answer = http.head(proxy.url + "/files")
    assert (answer.content, int(answer.headers["content-length"])) == (b"", len(json.dumps(REPLY)))
    one.reset(answers(b"", 204))
    assert http.delete(proxy.url + "/files/1").status_code == 204
    one.reset(answers(b""))
    assert http.post(proxy.url + "/files").content == b""
    assert one.requests[0].header("content-length") == "0"


def test_a_redirect_is_not_followed(one: FakeUpstream, proxy: Running) -> None:
    one.reset(answers(b"", 307, location="http://elsewhere/v1"))
    assert (post(proxy).status_code, len(one.requests)) == (307, 1)


# Keys and names


def test_the_callers_key_is_passed_on_where_the_server_has_none(one: FakeUpstream, proxy: Running) -> None:
    post(proxy, authorization="Bearer theirs", api_key="k")
    assert (one.requests[0].header("authorization"), one.requests[0].header("api-key")) == ("Bearer theirs", "k")


@pytest.mark.parametrize("pass_key", [True, False])
def test_the_servers_key_replaces_the_callers(one: FakeUpstream, pass_key: bool) -> None:
    with before(one.url, key="server's", pass_key=pass_key) as server:
        post(server, authorization="Bearer theirs", api_key="k", x_api_key="k")
    kept = {name: value for name, value in one.requests[0].headers if "key" in name or name == "authorization"}
    assert kept == {"authorization": "Bearer server's"}


def test_a_callers_key_that_was_ours_never_leaves(one: FakeUpstream) -> None:
    with before(one.url, pass_key=False) as server:
        post(server, authorization="Bearer ours", x_api_key="ours")
    assert not any("ours" in value for _, value in one.requests[0].headers)


def test_the_models_name_is_rewritten_only_where_it_differs(one: FakeUpstream) -> None:
    form = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\ntiny\r\n--x--\r\n'
    with before(one.url, model="org/tiny-1b") as server:
        answer = post(server)
        post(server, body=b'{"model": "another"}')
        post(server, body=form, content_type="multipart/form-data; boundary=x")
        post(server, body=b'["tiny"]')
        post(server, body=b'{"model": "tiny"')
    renamed, *untouched = (seen.body for seen in one.requests)
    assert json.loads(renamed) == json.loads(BODY) | {"model": "org/tiny-1b"}
    assert one.requests[0].header("content-length") == str(len(renamed))
    assert untouched == [b'{"model": "another"}', form, b'["tiny"]', b'{"model": "tiny"']
    assert answer.json() == REPLY


# Streams


def test_every_chunk_arrives_before_the_next_is_sent(one: FakeUpstream, proxy: Running) -> None:
    arrived = threading.Semaphore(0)

    sent = [*(token(str(number)) for number in range(20)), b"data: [DONE]\n\n"]

    async def one_by_one(seen: Seen, send: Send) -> None:
        await start(send, content_type="text/event-stream")
        for each in sent:
            while not arrived.acquire(blocking=False):
                await _moment()
            await chunk(send, each)
        await chunk(send, b"", more=False)

    one.reset(one_by_one)
    with http.stream("POST", proxy.address + CHAT, content=BODY) as answer:
        arrived.release()  # for the headers, which come before the first chunk
        chunks = []
        for part in answer.iter_raw():
            chunks.append(part)
            arrived.release()
    assert chunks == sent


async def _moment() -> None:
    await asyncio.sleep(0.001)


def test_a_stream_that_breaks_off_ends_with_an_error_event(one: FakeUpstream, proxy: Running) -> None:
    one.reset(streams([token("That"), token(" sounds")], then="break", pause=0.01))
    answer = post(proxy)
    *tokens, last = answer.text.split("\n\n")[:-1]
    assert len(tokens) == 2
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_broken"


def test_half_an_event_is_ended_before_the_error(one: FakeUpstream, proxy: Running) -> None:
    one.reset(streams([b'data: {"id": '], then="break", pause=0.01))
    assert post(proxy).text.startswith('data: {"id": \n\ndata: {"error": ')


def test_the_openai_client_sees_the_error_in_a_stream(one: FakeUpstream, proxy: Running) -> None:
    one.reset(streams([token("That"), token(" sounds")], then="break", pause=0.01))
    client = openai.OpenAI(base_url=proxy.url, api_key="k", max_retries=0)
    texts = []
    with pytest.raises(openai.APIError, match="broke off"):
        for part in client.chat.completions.create(model="tiny", messages=[], stream=True):
            texts.append(part.choices[0].delta.content)
    assert texts == ["That", " sounds"]


@pytest.mark.parametrize("headers", [{"content_length": "1000"}, {}], ids=["with a length", "chunked"])
def test_another_body_that_breaks_off_breaks_the_connection(
    one: FakeUpstream, proxy: Running, headers: dict[str, str]
) -> None:
    async def breaks(seen: Seen, send: Send) -> None:
        await start(send, content_type="application/json", **headers)
        await chunk(send, b'{"half": ')
        await _moment()
        raise RuntimeError("the server breaks off")

    one.reset(breaks)
    with pytest.raises(httpx.RemoteProtocolError):
        post(proxy)


def test_a_packed_stream_that_breaks_off_is_not_mixed_with_plain_text(one: FakeUpstream, proxy: Running) -> None:
    async def breaks(seen: Seen, send: Send) -> None:
        await start(send, content_type="text/event-stream", content_encoding="gzip")
        await chunk(send, gzip.compress(token("That"))[:-8])
        await _moment()
        raise RuntimeError("the server breaks off")

    one.reset(breaks)
    with pytest.raises(httpx.RemoteProtocolError):
        post(proxy)


# Slow, gone or broken


def test_no_answer_in_time_is_a_504(one: FakeUpstream, proxy: Running) -> None:
    one.reset(silent)
    answer = post(proxy, x_request_id="abc")
    assert (answer.status_code, error_of(answer)["code"]) == (504, "upstream_timeout")
    assert answer.headers["x-request-id"] == "abc"
    wait_until(lambda: one.running == 0)


def test_the_first_byte_counts_not_the_headers(one: FakeUpstream, proxy: Running) -> None:
    one.reset(streams([], then="wait"))
    assert json.loads(post(proxy).text.removeprefix("data: "))["error"]["code"] == "upstream_timeout"


def test_a_stream_that_falls_silent_ends_with_an_error_event(one: FakeUpstream, proxy: Running) -> None:
    pauses = streams([*[token("That")] * 8, b"data: [DONE]\n\n"], pause=QUICK.between / 3)
    one.reset(pauses)  # longer as a whole than between two
    assert "error" not in post(proxy).text
    one.reset(streams([token("That")], then="wait"))
    assert "stopped sending" in post(proxy).text
    wait_until(lambda: one.running == 0)


DONE = b"data: [DONE]\n\n"
PATIENT = Timeouts(between=60)


def test_a_stream_that_said_done_ends_though_its_connection_stays_open(one: FakeUpstream) -> None:
    one.reset(streams([token("That"), DONE], then="wait"))
    with before(one.url, timeouts=PATIENT) as proxy:
        started = time.monotonic()
        text = post(proxy).text
        assert text.encode() == token("That") + DONE
        assert time.monotonic() - started < patience(10)
        wait_until(lambda: one.running == 0)


@pytest.mark.parametrize("trailer", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X-Usage: 7"])
def test_trailers_do_not_keep_a_stream_open(trailer: bytes) -> None:
    content = token("That") + DONE
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [head + b"%x\r\n%s\r\n" % (len(content), content), b"0\r\n%s\r\n\r\n" % trailer]
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        threading.Thread(target=_answer_and_wait, args=(listener, pieces, stack), daemon=True).start()
        with before(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeouts=PATIENT) as proxy:
            started = time.monotonic()
            assert post(proxy).content == content
            assert time.monotonic() - started < patience(10)


def _answer_and_wait(listener: socket.socket, pieces: Sequence[bytes], stack: ExitStack) -> None:
    """Answer one request piece by piece, and leave its connection open."""
    connection = stack.enter_context(listener.accept()[0])
    connection.recv(65536)
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(0.1)


def test_no_connection_in_time_is_a_504() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        with before(f"http://127.0.0.1:{address[1]}/v1") as server:
            answer = post(server)
        for client in waiting:
            client.close()
    assert (answer.status_code, error_of(answer)["code"]) == (504, "upstream_timeout")


def test_an_upstream_that_breaks_off_before_it_answers_is_a_502_and_not_asked_again(
    one: FakeUpstream, other: FakeUpstream
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_hang_up, args=[listener], daemon=True).start()
        with before(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", other.url) as server:
            answer = post(server)
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_broken")
    assert other.requests == []


def _hang_up(listener: socket.socket) -> None:
    """Takes one request and closes the connection."""
    client, _ = listener.accept()
    client.recv(65536)
    client.close()


def test_nobody_there_is_a_503_that_says_when_to_come_back() -> None:
    with before(dead_url(), dead_url()) as server:
        answer = post(server)
        with pytest.raises(openai.InternalServerError, match="cannot be reached"):
            client = openai.OpenAI(base_url=server.url, api_key="k", max_retries=0)
            client.chat.completions.create(model="tiny", messages=[])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert error_of(answer)["code"] == "upstream_unreachable"


def test_an_unknown_host_and_no_tls_are_a_503(one: FakeUpstream) -> None:
    for target in ("http://nowhere.invalid/v1", one.url.replace("http", "https")):
        with before(target, timeouts=Timeouts()) as server:
            assert post(server).status_code == 503


# Several servers


def test_the_next_server_gets_what_one_refused_which_is_then_left_out(one: FakeUpstream) -> None:
    port = free_port()
    dead = f"http://127.0.0.1:{port}/v1"
    with before(dead, one.url) as server:
        assert [post(server).status_code for _ in range(3)] == [200] * 3
        # It is not asked again at once, though it is there now and would be next in turn.
        with socket.create_server(("127.0.0.1", port)) as back:
            assert post(server).status_code == 200
            back.setblocking(False)
            with pytest.raises(BlockingIOError):
                back.accept()
        metrics = http.get(server.address + "/metrics").text
    assert len(one.requests) == 4
    assert f'localemp_upstream_failures_total{{reason="unreachable",target="{dead}"}} 1.0' in metrics


def test_a_server_that_is_left_out_is_still_better_than_none() -> None:
    port = free_port()
    with before(f"http://127.0.0.1:{port}/v1") as server:
        assert post(server).status_code == 503
        with socket.create_server(("127.0.0.1", port)) as back:
            threading.Thread(target=_hang_up, args=[back], daemon=True).start()
            assert post(server).status_code == 502


def test_equal_servers_take_turns(one: FakeUpstream, other: FakeUpstream) -> None:
    with before(one.url, other.url) as server:
        for _ in range(6):
            post(server)
    assert (len(one.requests), len(other.requests)) == (3, 3)


def test_the_server_with_the_fewest_requests_gets_the_next(one: FakeUpstream, other: FakeUpstream) -> None:
    one.reset(silent)
    with before(one.url, other.url, timeouts=Timeouts()) as server:
        busy = raw_request(server)
        wait_until(lambda: one.running == 1)
        for _ in range(4):
            post(server)
        metrics = http.get(server.address + "/metrics").text
        busy.close()
    assert (len(one.requests), len(other.requests)) == (1, 4)
    assert f'localemp_upstream_running{{target="{one.url}"}} 1.0' in metrics


# Clients that go


def test_a_client_that_goes_away_before_the_answer_frees_its_slot_at_once(one: FakeUpstream, proxy: Running) -> None:
    one.reset(silent)
    with before(one.url, timeouts=Timeouts()) as server:
        clients = [raw_request(server) for _ in range(5)]
        wait_until(lambda: one.running == 5)
        for client in clients:
            client.close()
        assert wait_until(lambda: one.running == 0) < patience(0.5)


def test_a_client_that_goes_away_in_a_stream_frees_its_slot_at_once(one: FakeUpstream) -> None:
    one.reset(streams([token("That")] * 5000, pause=0.01))
    with before(one.url, timeouts=Timeouts()) as server:
        client = raw_request(server)
        assert b"That" in client.recv(65536) + client.recv(65536)
        client.close()
        assert wait_until(lambda: one.running == 0) < patience(0.5)


def test_a_client_that_goes_away_in_its_own_body_asks_for_nothing(one: FakeUpstream, proxy: Running) -> None:
    client = socket.create_connection(("127.0.0.1", proxy.port))
    client.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n{{".encode())
    time.sleep(0.05)
    client.close()
    assert post(proxy).status_code == 200
    assert len(one.requests) == 1


def test_connections_are_used_again_but_not_those_that_were_left(one: FakeUpstream, proxy: Running) -> None:
    for _ in range(5):
        client = raw_request(proxy)
        client.close()
        assert post(proxy).json() == REPLY


# What it answers itself


def test_the_one_served_model_is_listed_whatever_the_upstream_has(one: FakeUpstream) -> None:
    with before(one.url, served="tiny", model="org/tiny-1b", context_length=4096) as server:
        listed = http.get(server.url + "/models").json()
        client = openai.OpenAI(base_url=server.url, api_key="k")
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").id == "tiny"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("another")
    (entry,) = listed["data"]
    assert listed["object"] == "list" and abs(entry.pop("created") - time.time()) < 60
    assert entry == {
        "id": "tiny", "object": "model", "owned_by": "upstream", "root": "org/tiny-1b", "parent": None,
        "max_model_len": 4096, "permission": [],
    }  # fmt: skip
    assert one.requests == []


def test_health_is_that_of_the_best_server(one: FakeUpstream) -> None:
    with before(dead_url(), one.url) as server:
        assert http.get(server.address + "/health").status_code == 200
    with before(dead_url(), dead_url()) as server:
        assert http.get(server.address + "/health").status_code == 503
    assert one.requests == []


def test_health_is_looked_at_once_a_second() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with before(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as server:
            begun = time.monotonic()
            codes = [http.get(server.address + "/health").status_code for _ in range(5)]
            seconds = time.monotonic() - begun
        listener.setblocking(False)
        looked = 0
        with suppress(BlockingIOError):
            while True:
                listener.accept()[0].close()
                looked += 1
    assert codes == [200] * 5
    assert 1 <= looked <= 1 + seconds


@pytest.mark.parametrize("path", ["/sleep", "/v1", "/v1/../admin", "/v1/%2e%2e/admin", "/docs"])
def test_nothing_outside_v1_is_passed_on(one: FakeUpstream, proxy: Running, path: str) -> None:
    answer = read_all(raw_request(proxy, "connection: close", path=path))
    assert answer.startswith(b"HTTP/1.1 404 ") and b'"code": "not_found"' in answer
    assert one.requests == []


def test_a_body_that_is_too_large_is_a_413(one: FakeUpstream) -> None:
    with before(one.url, largest_body=1000) as server:
        assert error_of(post(server, body=b"x" * 1001))["code"] == "body_too_large"
        assert post(server, body=b"x" * 1000).status_code == 200


def test_an_upstream_that_leads_back_here_is_found_out() -> None:
    with before(url := dead_url(), timeouts=Timeouts()) as server, _forwarding(url, server):
        answer = post(server, via="1.1 elsewhere")
    assert (answer.status_code, error_of(answer)["code"]) == (508, "upstream_loop")


@contextmanager
def _forwarding(url: str, server: Running) -> Iterator[None]:
    """Another server at `url`, whose upstream is `server`."""
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    back = Running(Proxy([server.url], None, served="tiny"), port=port)
    with back:
        yield


def test_an_http_proxy_of_the_environment_is_used(one: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", one.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with before("http://nowhere.invalid/v1") as server:
        assert post(server).status_code == 200
        assert http.get(server.address + "/health").status_code == 200
    assert one.requests[0].header("host") == "nowhere.invalid"


@pytest.mark.parametrize("target", ["localhost:8000", "http://user:pass@localhost/v1", "http://localhost/v1?key=1"])
def test_what_is_no_plain_url_is_refused(target: str) -> None:
    with pytest.raises(OptionError, match=r"URL|password"):
        Proxy([target], None, served="tiny")
    with pytest.raises(OptionError, match="no upstream"):
        Proxy([], None, served="tiny")


# The process


RUN = """
import sys
from localemp.serving.settings import ServeSettings
from localemp.serving.proxy.app import run

settings = ServeSettings(model="tiny", config={"model": "tiny", "base_url": sys.argv[1]}, strategies=("zero-shot",))
run(settings, [sys.argv[1]], "server's", host="127.0.0.1", port=int(sys.argv[2]),
    on_ready=lambda: print("ready", flush=True))
print("ended")
"""
SERVE = """
import sys
from localemp.web.server import serve
from localemp.serving.proxy.app import Proxy

app = Proxy([sys.argv[1]], None, served="tiny")
serve(app, "127.0.0.1", int(sys.argv[2]), lambda: print("ready", flush=True), drain=1)
print("ended")
"""


@contextmanager
def program(text: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", text, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_run_serves_strategies_until_it_is_told_to_end(one: FakeUpstream) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    talk = {"model": "tiny:zero-shot", "messages": [{"role": "user", "content": "I failed."}]}
    with program(RUN, one.url, port) as process:
        models = http.get(url + "/models").json()["data"]
        answer = http.post(url + "/chat/completions", json=talk)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=patience(30)) == ("ended\n", "")
    assert process.returncode == 0
    assert [model["id"] for model in models] == ["tiny", "tiny:zero-shot"]
    assert answer.json()["choices"][0]["message"]["content"] == "That sounds hard."
    (seen,) = one.requests
    assert (seen.header("authorization"), json.loads(seen.body)["model"]) == ("Bearer server's", "tiny")


def test_a_stream_does_not_keep_it_from_ending(one: FakeUpstream) -> None:
    one.reset(streams([token("That")] * 5000, pause=0.01))
    port = free_port()
    url = f"http://127.0.0.1:{port}{CHAT}"
    with program(SERVE, one.url, port) as process, http.stream("POST", url, content=BODY) as answer:
        next(answer.iter_raw())
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=patience(30)) == ("ended\n", "")
    assert process.returncode == 0
    wait_until(lambda: one.running == 0)


def test_a_port_that_is_taken_is_said_in_a_line(one: FakeUpstream) -> None:
    with pytest.raises(OptionError, match=f"cannot listen on 127.0.0.1, port {one.port}: Address already in use"):
        serve(Proxy([one.url], None, served="tiny"), "127.0.0.1", one.port)

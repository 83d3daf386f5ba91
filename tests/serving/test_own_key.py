"""A hosted model that is asked with the server's own key: what of a request arrives there, and what comes back."""

import gzip
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self

import httpx
import pytest
from patience import patience
from test_request_guard import HOSTILE
from upstream_server import REPLY, FakeUpstream, Running, answers, streams, token

from localemp.serving.proxy.app import Proxy
from localemp.serving.proxy.replicas import Timeouts
from localemp.serving.proxy.request_fields import ALLOWED_FIELDS

pytestmark = pytest.mark.usefixtures("fresh")

CHAT = "/v1/chat/completions"
TALK = [{"role": "user", "content": "I failed."}]
BODY = {"model": "tiny", "messages": TALK}
SECRET = "sk-operator-0123456789"
QUICK = Timeouts(connect=patience(0.5), first_byte=patience(0.5), between=patience(0.5))
http = httpx.Client(trust_env=False)


@pytest.fixture(scope="module")
def keyed(one: FakeUpstream) -> Iterator[Running]:
    app = Proxy([one.url], SECRET, served="tiny", model="org/tiny-1b", timeouts=QUICK, more_fields={"provider": 1})
    with Running(app) as server:
        yield server


@pytest.fixture(scope="module")
def plain(one: FakeUpstream) -> Iterator[Running]:
    """Before the same server, with the callers' keys."""
    with Running(Proxy([one.url], None, served="tiny", timeouts=QUICK)) as server:
        yield server


def post(server: Running, content: Any = BODY, path: str = CHAT, **headers: str) -> httpx.Response:
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return http.post(server.address + path, content=body, headers=named)


def raw(port: int, request: bytes) -> bytes:
    """What is answered to exactly these bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


# What arrives


def test_few_headers_arrive(one: FakeUpstream, keyed: Running) -> None:
    sent = {
        "accept": "text/x", "user-agent": "mine", "x-request-id": "abc", "traceparent": "00-1", "idempotency-key": "i",
        "openai-organization": "org-1", "openai-project": "proj-1", "openai-beta": "assistants=v2", "api-key": "k",
        "x-api-key": "k", "authorization": "Bearer theirs", "cookie": "a=1", "x-forwarded-for": "1.2.3.4",
        "x-http-method-override": "DELETE", "accept-encoding": "gzip", "anthropic-beta": "x", "x-stainless-os": "Linux",
        "helicone-target-url": "http://elsewhere", "x-portkey-config": "x", "http-referer": "x", "forwarded": "host=x",
    }  # fmt: skip
    assert post(keyed, **sent).status_code == 200
    headers = dict(one.requests[0].headers)
    assert headers.pop("via").startswith("1.1 localemp-")
    assert headers == {
        "accept": "text/x", "user-agent": "mine", "x-request-id": "abc", "traceparent": "00-1", "idempotency-key": "i",
        "authorization": f"Bearer {SECRET}", "accept-encoding": "identity", "content-type": "application/json",
        "host": f"127.0.0.1:{one.port}", "content-length": str(len(one.requests[0].body)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"model": "gpt-6", "model": "tiny", "messages": []}', {}),
        (b'{"mod\\u0065l": "tiny", "messages": [], "messages": [{"role": "user", "content": "I failed."}]}', {}),
        (b'\xef\xbb\xbf {"model":"tiny"}  ', {}),
        (b'{"model": "tiny"}', {"content_encoding": "identity"}),
        (b'{"model": "tiny"}', {"content_encoding": "Identity"}),
        (b'{"model": "tiny"}', {"content_type": "application/x-www-form-urlencoded"}),
    ],
)
def test_the_body_is_built_anew_with_the_one_model(one, keyed, body: bytes, headers: dict[str, str]) -> None:
    assert post(keyed, body, **headers).status_code == 200
    (seen,) = one.requests
    assert seen.body.count(b'"model"') == 1 and seen.body.count(b'"messages"') <= 1
    assert json.loads(seen.body)["model"] == "org/tiny-1b"
    assert seen.header("content-encoding") is None


NESTED = b'{"model": "tiny", "stop": ' + b"[" * 3000 + b"]" * 3000 + b"}"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (gzip.compress(json.dumps(BODY).encode(), mtime=0), {"content_encoding": "gzip"}, 415),
        (json.dumps(BODY).encode(), {"content_encoding": "br"}, 415),
        (json.dumps(BODY).encode(), {"content_encoding": "identity, gzip"}, 415),
        (b"--x\r\n\r\n", {"content_type": "multipart/form-data; boundary=x"}, 415),
        (json.dumps(BODY).encode(), {"content_type": "text/plain"}, 415),
        (NESTED, {}, 400),
        (b"", {}, 400),
        (b"null", {}, 400),
        (b'["tiny"]', {}, 400),
        (b'"tiny"', {}, 400),
        (b'{"model": "tiny"', {}, 400),
        (b'{"model": "tiny"} {"model": "gpt-6"}', {}, 400),
        (b'{"model": "tiny", "seed": NaN}', {}, 400),
        (b'{"model": "tiny", "seed": 1e999}', {}, 400),
        (b'{"model": "tiny", "user": "\xff"}', {}, 400),
        (b'{"model": "tiny", "seed": %s}' % (b"7" * 5000), {}, 400),
        ('{"model": "tiny"}'.encode("utf-16"), {}, 400),
        (b"{}", {}, 404),
        (b'{"model": null}', {}, 404),
        (b'{"model": ["tiny"]}', {}, 404),
        (b'{"model": "tiny "}', {}, 404),
        (b'{"model": "Tiny"}', {}, 404),
        (b'{"model": "gpt-6"}', {}, 404),
        (b'{"model": "org/tiny-1b"}', {}, 404),
        (b'{"model": "tiny", "model": "gpt-6"}', {}, 404),
        (json.dumps({"model": "x" * 100_000}).encode(), {}, 404),
    ],
)
def test_what_could_not_be_read_or_names_another_model_is_not_passed_on(one, keyed, body, headers, status) -> None:
    answer = post(keyed, body, **headers)
    assert (answer.status_code, one.requests) == (status, []), answer.text
    assert len(answer.text) < 600
    if status == 404:
        assert answer.json()["error"]["code"] == "model_not_found"


def test_the_query_stays_here(one: FakeUpstream, keyed: Running) -> None:
    post(keyed, path=f"{CHAT}?model=gpt-6&api-version=1")
    assert one.requests[0].target == CHAT


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"file_id": {"type": "string"}}}}}
ALLOWED: dict[str, list[dict[str, Any]]] = {
    CHAT: [
        {
            "temperature": 0.5,
            "top_p": 1,
            "n": 2,
            "max_tokens": 9,
            "stop": ["x"],
            "seed": 1,
            "user": "u",
            "stream": False,
        },
        {"logprobs": True, "top_logprobs": 2, "logit_bias": {"1": 1}, "response_format": {"type": "json_object"}},
        {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False, "reasoning_effort": "none"},
        {"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.1, "chat_template_kwargs": {"enable_thinking": False}},
        {"metadata": {"a": "b"}, "provider": {"order": ["x"]}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,"}}]}]},
    ],
    "/v1/responses": [{"input": "Hello", "store": False, "tools": [{"type": "function", "name": "f"}], "text": {}}],
    "/v1/messages": [{"max_tokens": 9, "system": "x", "tools": [{"name": "f", "input_schema": {}}]}],
    "/v1/completions": [{"prompt": [1, 2], "echo": True, "best_of": 2}],
    "/v1/embeddings": [{"input": ["a"], "encoding_format": "float"}],
}


@pytest.mark.parametrize(("path", "more"), [(path, more) for path, each in ALLOWED.items() for more in each])
def test_what_the_model_reads_and_writes_is_passed_on_whole(one, keyed, path: str, more: dict[str, Any]) -> None:
    body = {"model": "tiny"} | ({"messages": TALK} if path in (CHAT, "/v1/messages") else {}) | more
    assert post(keyed, body, path).status_code == 200
    expected = body | {"model": "org/tiny-1b"} | ({"store": False} if path == "/v1/responses" else {})
    assert json.loads(one.requests[0].body) == expected


def test_what_says_nothing_is_left_out(one: FakeUpstream, keyed: Running) -> None:
    empty = {"store": False, "background": None, "models": [], "localemp": {}, "route": "", "service_tier": "auto"}
    assert post(keyed, BODY | empty | {"stop": None}).status_code == 200
    assert json.loads(one.requests[0].body) == BODY | {"model": "org/tiny-1b", "stop": None}


@pytest.mark.parametrize(
    ("path", "more"),
    [
        *((CHAT, {name: value}) for name, value in {
            "models": ["gpt-6"], "route": "fallback", "fallbacks": ["gpt-6"], "plugins": [{"id": "web"}],
            "transforms": ["x"], "api_base": "http://elsewhere", "base_url": "x", "api_key": "x", "mock_response": "x",
            "custom_llm_provider": "x", "extra_headers": {"a": "b"}, "web_search_options": {"x": 1}, "store": True,
            "store ": 1, "service_tier": "priority", "background": True, "kv_transfer_params": {"x": 1},
            "chat_template": "{{ x }}", "previous_response_id": "resp-1", "localemp": {"trace": True}, "x" * 5000: 1,
            "data_sources": [{}], "priority": -1,
        }.items()),
        (CHAT, {"tools": [TOOL, {"type": "web_search"}]}),
        (CHAT, {"tools": [{"type": "mcp", "server_url": "http://elsewhere"}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}),
        ("/v1/responses", {"input": "x", "previous_response_id": "resp-1"}),
        ("/v1/responses", {"input": "x", "conversation": "conv-1"}),
        ("/v1/responses", {"input": "x", "prompt": {"id": "pmpt-1"}}),
        ("/v1/responses", {"input": "x", "background": True}),
        ("/v1/responses", {"input": "x", "store": True}),
        ("/v1/responses", {"input": "x", "tools": [{"type": "code_interpreter"}]}),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "msg-1"}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}),
        ("/v1/messages", {"messages": [], "mcp_servers": [{}]}),
        ("/v1/messages", {"messages": [], "container": "x"}),
        ("/v1/messages", {"messages": [], "tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("/v1/completions", {"prompt": "x", "messages": TALK}),
        ("/v1/embeddings", {"input": "x", "input_type": "x", "model_id": "y"}),
    ],
)  # fmt: skip
def test_what_chooses_another_thing_or_keeps_one_is_refused_by_name(one, keyed, path, more: dict[str, Any]) -> None:
    answer = post(keyed, {"model": "tiny", **more}, path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], one.requests) == (400, "unsupported_parameter", [])
    assert len(answer.text) < 800 and error["param"]


def test_no_field_is_taken_everywhere_but_those_that_all_have() -> None:
    assert {"model", "temperature", "stream"} <= frozenset.intersection(*ALLOWED_FIELDS.values())
    assert not {"models", "store", "provider"} & frozenset.union(*ALLOWED_FIELDS.values())


# Where it goes


@pytest.mark.parametrize("which", ["keyed", "plain"])
def test_no_path_leads_to_another_server(one, other, which: str, request: pytest.FixtureRequest) -> None:
    server: Running = request.getfixturevalue(which)
    elsewhere = f"127.0.0.1:{other.port}"
    targets = [
        f"/v1%2f@{elsewhere}/x", f"/v1@{elsewhere}/x", f"/v1/@{elsewhere}/x", f"//{elsewhere}/v1/x",
        f"/v1//{elsewhere}/x", f"/v1/%2f%2f{elsewhere}/x", f"/v1/..//{elsewhere}/x", f"/v1:@{elsewhere}/x",
        f"http://{elsewhere}/v1/x", f"/v1/x?@{elsewhere}", f"/v1/%23@{elsewhere}", f"/v1/\\{elsewhere}/x",
        f"/v1/%0d%0aHost:{elsewhere}/x", f"/v1%0a@{elsewhere}/x", f"/v1/?url=http://{elsewhere}", *HOSTILE,
    ]  # fmt: skip
    for target in targets:
        body = json.dumps(BODY).encode()
        head = (
            f"POST {target} HTTP/1.1\r\nhost: {elsewhere}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        answer = raw(server.port, head.encode("latin-1") + body)
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ", b"HTTP/1.1 200 ")), (target, answer)
    assert other.requests == []
    assert {seen.header("host") for seen in one.requests} <= {f"127.0.0.1:{one.port}"}
    assert all(seen.target.startswith("/v1/") for seen in one.requests)
    if which == "keyed":  # what a proxy is asked for is a path like any other
        assert {seen.target for seen in one.requests} <= {CHAT}


# What comes back


ERROR = {"error": {"message": f"the key {SECRET} is over its limit", "code": "limit"}}


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
@pytest.mark.parametrize("packed", [False, True])
def test_our_key_is_starred_out_in_errors(one, keyed, status: int, packed: bool) -> None:
    content = json.dumps(ERROR).encode()
    headers = {"content_encoding": "gzip"} if packed else {}
    one.reset(answers(gzip.compress(content) if packed else content, status, x_key=f"Bearer {SECRET}", **headers))
    answer = post(keyed)
    assert (answer.status_code, answer.headers["x-key"]) == (status, "Bearer " + "*" * len(SECRET))
    assert answer.json() == json.loads(content.replace(SECRET.encode(), b"*" * len(SECRET)))


@pytest.mark.parametrize("size", [1, 3, 7, 22, 23, 24, 1000])
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/plain"])
def test_our_key_is_starred_out_in_streams_however_they_are_cut(one, keyed, size: int, kind: str) -> None:
    content = token("That") + f"data: {json.dumps(ERROR)} sk-operator-01 {SECRET}{SECRET}\n\n".encode()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    one.reset(streams(pieces, kind=kind))
    answer = post(keyed)
    assert answer.content == content.replace(SECRET.encode(), b"*" * len(SECRET))


def test_a_short_key_may_be_a_word_of_a_reply_but_not_of_an_error(one: FakeUpstream) -> None:
    with Running(Proxy([one.url], "none", served="tiny")) as server:
        one.reset(answers({"choices": ["none"]}))
        assert post(server).json() == {"choices": ["none"]}
        one.reset(answers({"error": "the key none"}, 401))
        assert post(server).json() == {"error": "the key ****"}
        one.reset(streams([token("none"), b'data: {"error": "the key none"}\n\n']))
        assert post(server).text == token("none").decode() + 'data: {"error": "the key ****"}\n\n'


def test_an_answer_that_was_packed_without_being_asked_for_is_unpacked(one, keyed) -> None:
    one.reset(answers(gzip.compress(json.dumps(REPLY).encode()), content_encoding="gzip"))
    answer = post(keyed)
    assert (answer.json(), "content-encoding" in answer.headers) == (REPLY, False)
    one.reset(answers(b"?", content_encoding="rot13"))
    assert post(keyed).status_code == 502


def test_whose_account_it_is_stays_here(one, keyed) -> None:
    one.reset(answers(openai_organization="acme", openai_project="p", openai_version="1", set_cookie="a=1"))
    headers = post(keyed).headers
    assert headers["openai-version"] == "1"
    assert not {"openai-organization", "openai-project", "set-cookie"} & headers.keys()


@pytest.mark.parametrize("which", ["keyed", "plain"])
def test_an_error_without_end_is_cut_short(one, which: str, request: pytest.FixtureRequest) -> None:
    one.reset(answers(b"x" * 70_000, 500))
    answer = post(request.getfixturevalue(which))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "upstream_error")


# Answers that are none


OK = b"HTTP/1.1 200 OK\r\n"
MALFORMED = {
    "nothing": b"",
    "no HTTP": b"\x00\x01 what?\r\n\r\n",
    "a page": b"<html>busy</html>\r\n\r\n",
    "HTTP/0.9": b"{}",
    "HTTP/2": b"HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "status 99": b"HTTP/1.1 99 No\r\ncontent-length: 0\r\n\r\n",
    "status 700": b"HTTP/1.1 700 No\r\ncontent-length: 0\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 No\r\ncontent-length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 abc No\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "half a head": OK + b"content-le",
    "a control character": OK + b"x-a: a\x01b\r\ncontent-length: 2\r\n\r\n{}",
    "an escape": OK + b"x-a: \x1b[31m\r\ncontent-length: 2\r\n\r\n{}",
    "a zero": OK + b"x-a: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
    "no name": OK + b": x\r\ncontent-length: 2\r\n\r\n{}",
    "a name with a space": OK + b"x a: " + SECRET.encode() + b"\r\ncontent-length: 2\r\n\r\n{}",
    "no colon": OK + b"xa\r\ncontent-length: 2\r\n\r\n{}",
    "a long header": OK + b"x: " + b"a" * 100_000 + b"\r\ncontent-length: 2\r\n\r\n{}",
    "many headers": OK + b"".join(b"x%d: y\r\n" % number for number in range(20_000)) + b"content-length: 2\r\n\r\n{}",
    "a negative length": OK + b"content-length: -2\r\n\r\n{}",
    "a length in words": OK + b"content-length: two\r\n\r\n{}",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a length and chunks": OK + b"content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "no chunk": OK + b"transfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
    "a chunk, then none": OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\nZZ\r\n",
    "a huge chunk": OK + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n{}",
    "an error that is cut": b"HTTP/1.1 500 No\r\ncontent-length: 90\r\n\r\n{",
    "no body": OK + b"content-length: 9\r\n\r\n",
}


class Answering:
    """A server that answers with exactly the bytes `content` and closes the connection."""

    def __init__(self) -> None:
        self.content = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    client.recv(65536)
                    client.sendall(self.content)
                    client.shutdown(socket.SHUT_WR)
                    client.settimeout(1)
                    while client.recv(65536):
                        pass


@pytest.mark.parametrize("key", [None, SECRET])
def test_an_answer_that_is_none_is_a_502_and_a_line(key: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with Answering() as bad, Running(Proxy([bad.url], key, served="tiny", timeouts=QUICK)) as server:
        for what, bad.content in MALFORMED.items():
            caplog.clear()
            answer = post(server)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broken"), what
            (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
            said = line.getMessage()
            assert said.startswith("upstream http://127.0.0.1:") and line.exc_info is None, what
            assert said.isprintable() and len(said) < 400, what
            assert key is None or key not in said, what


GOOD = [
    (b"HTTP/1.0 200 OK\r\n\r\n{}", 200, b"{}"),
    (OK + b"\r\n{}", 200, b"{}"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\n{}", 200, b"{}"),
    (OK + b"x-a: b\r\n c\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}"),
    (OK + "x-a: é\r\ncontent-length: 2\r\n\r\n{}".encode(), 200, b"{}"),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", 304, b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    (b"HTTP/1.1 599 Odd\r\ncontent-length: 2\r\n\r\n{}", 599, b"{}"),
    (OK + b"content-type: ;;;==\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}"),
]


def test_an_odd_answer_that_is_one_comes_through() -> None:
    with Answering() as odd, Running(Proxy([odd.url], SECRET, served="tiny", timeouts=QUICK)) as server:
        for odd.content, status, body in GOOD:
            answer = post(server)
            assert (answer.status_code, answer.content) == (status, body), odd.content

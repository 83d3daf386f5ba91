"""Who comes in: paths in one form, the names that the server answers to, and the pages of other sites."""

import json
import socket
import time
from collections.abc import Iterator

import pytest
from asgi_client import Answered, ask
from model_app import ModelApp, served
from starlette.types import Receive, Scope, Send
from test_middleware import TALK, settings

from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.paths import normal_path
from localemp.web.addresses import normalize_origin
from localemp.web.origins import is_cross_origin, requested_host

CHAT = "/v1/chat/completions"
BODY = {"model": "tiny:zero-shot", "messages": TALK}
SITE = "https://chat.example.org"


class Inner:
    """Takes whatever is let in, and keeps the scopes."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def inner() -> Inner:
    return Inner()


async def asked(inner: Inner, method: str, target: str, headers=None, body=b"", root="", **changes) -> Answered:
    return await ask(StrategyMiddleware(inner, settings(**changes)), method, target, body, headers, root)


# Paths


@pytest.mark.parametrize(
    "target",
    [
        CHAT, f"{CHAT}/", f"{CHAT}//", f"/{CHAT}", "/v1//chat/completions", "/v1/chat//completions",
        "/v1/chat/%63ompletions", "/%76%31/chat/completions",
    ],
)  # fmt: skip
async def test_however_the_path_is_written_the_strategy_answers(target: str):
    model = ModelApp()
    answer = await ask(StrategyMiddleware(model.app, settings()), "POST", target, BODY)
    assert (answer.status, answer.json()["model"]) == (200, "tiny:zero-shot")
    assert [body["model"] for body in model.asked] == ["tiny"]


HOSTILE = [
    "/v1/chat%2Fcompletions", "/v1/chat%2fcompletions", "/v1%2fchat/completions", "/v1/chat%5Ccompletions",
    "/v1/chat\\completions", "/v1/./chat/completions", "/v1/../v1/chat/completions", "/v1/%2e%2e/v1/chat/completions",
    "/v1/chat/completions/..", "/v1/chat/completions/.", "/v1/chat/completions;x=1", "/v1/chat;/completions",
    "/v1/chat/completions%3Bx", "/v1/chat/completions%00", "/v1/chat/completions%0d%0ahost:%20other",
    "/v1/chat/completions%ff", "/v1/chat%252Fcompletions", "/v1/chat/completions%3Fx", "/v1/chat/completions%23",
    "*", "http://other:9200/v1/chat/completions", "/v1/chat/completions?a b", "/v1/models/../chat/completions",
    "/v1/models/..%2fchat%2fcompletions", "/page/../v1/models", "/page/%2e%2e/metrics", "/v1%2f@other:9200/x",
]  # fmt: skip


@pytest.mark.parametrize("target", HOSTILE)
async def test_a_path_of_two_meanings_reaches_nothing(inner: Inner, target: str):
    answer = await asked(inner, "POST", target, body=BODY)
    assert (answer.status, answer.code, inner.scopes) == (404, "not_found", [])


@pytest.mark.parametrize("target", ["/V1/chat/completions", "/v1/Chat/completions", "/v1/chat/completion", "/x//y/"])
async def test_another_path_is_another_path_in_both_of_its_forms(inner: Inner, target: str):
    await asked(inner, "GET", target)
    (scope,) = inner.scopes
    expected = "/x/y" if target == "/x//y/" else target
    assert (scope["path"], scope["raw_path"]) == (expected, expected.encode())


@pytest.mark.parametrize(
    ("root", "target", "path"),
    [
        ("/api", "/v1//x/", "/api/v1/x"),
        ("/api", "/api/v1/x", "/api/api/v1/x"),  # the root is taken away once, here as in the app
        ("", "/v1/a%20b/%C3%A9", "/v1/a b/é"),
    ],
)
async def test_what_is_let_in_has_one_path_below_its_root(inner: Inner, root: str, target: str, path: str):
    await asked(inner, "GET", target, root=root)
    (scope,) = inner.scopes
    assert scope["path"] == path
    assert scope["raw_path"] == path.replace(" ", "%20").replace("é", "%C3%A9").encode()


def test_a_path_that_does_not_begin_with_the_root_is_taken_as_it_is():
    scope = {"path": "/v1/models", "raw_path": b"/v1/models", "root_path": "/api"}
    assert normal_path(scope) == "/v1/models"
    assert normal_path(scope | {"path": "/apiary/v1"}) == "/apiary/v1"


# Names


@pytest.mark.parametrize(
    ("listens", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("127.0.0.1", "localhost:9999", 200),
        ("127.0.0.1", "LocalHost", 200),
        ("127.0.0.1", "[::1]:8000", 200),
        ("127.0.0.2", "127.0.0.2:8000", 200),
        ("127.0.0.1", "127.0.0.2:8000", 403),
        ("127.0.0.1", "rebound.example:8000", 403),
        ("127.0.0.1", "127.0.0.1.rebound.example", 403),
        ("127.0.0.1", "localhost.rebound.example", 403),
        ("127.0.0.1", "x@127.0.0.1", 403),
        ("127.0.0.1", "127.0.0.1@x", 403),
        ("127.0.0.1", "127.0.0.1:80:80", 403),
        ("127.0.0.1", "", 403),
        ("127.0.0.1", None, 403),
        ("localhost", "rebound.example", 403),
        ("::1", "rebound.example", 403),
        ("0.0.0.0", "rebound.example", 200),
        ("192.0.2.1", "gpu1", 200),
    ],
)
@pytest.mark.parametrize(("method", "target"), [("GET", "/"), ("GET", "/metrics"), ("OPTIONS", CHAT)])
async def test_on_this_machine_alone_it_answers_to_its_own_names(inner, listens, host, status, method, target):
    answer = await asked(inner, method, target, {"host": host}, host=listens)
    assert answer.status == (204 if status == 200 and method == "OPTIONS" else status)
    if status == 403:
        assert (answer.code, inner.scopes) == ("unknown_host", [])


@pytest.mark.parametrize("origins", [(), ("*",), ("null",)])
@pytest.mark.parametrize("headers", [{"host": "localhost", "Host": "rebound.example"}, {"host": None}, {"host": "a b"}])
async def test_two_names_are_none_and_no_name_is_none(inner: Inner, headers, origins):
    assert (await asked(inner, "GET", "/metrics", headers, origins=origins)).status == 403


async def test_a_site_that_is_let_in_names_the_server_too(inner: Inner):
    for host, status in (("chat.example.org", 200), ("other.example.org", 403)):
        assert (await asked(inner, "GET", "/metrics", {"host": host}, origins=(SITE,))).status == status


# Pages of other sites

FOREIGN = [
    {"origin": "https://elsewhere.example"},
    {"origin": "http://127.0.0.1:8001"},
    {"origin": "http://localhost:8000"},
    {"origin": "null"},
    {"origin": "file://"},
    {"origin": "http://[half"},
    {"origin": "chrome-extension://abc"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://elsewhere.example", "sec-fetch-site": "same-origin"},
]
OWN = [{}, {"origin": "http://127.0.0.1:8000"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/metrics"), ("DELETE", "/v1/files/1"), ("POST", "/sleep")],
)
async def test_a_page_of_another_site_can_do_nothing(inner: Inner, headers, method, target):
    answer = await asked(inner, method, target, headers | {"content-type": "text/plain"}, body=BODY)
    assert (answer.status, answer.code, inner.scopes) == (403, "foreign_origin", [])
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("target", ["/", "/page/index.html", "/health"])
async def test_what_holds_no_secret_may_be_linked_to(inner: Inner, headers, target):
    assert (await asked(inner, "GET", target, headers)).status == 200


@pytest.mark.parametrize("headers", OWN)
async def test_the_servers_own_page_and_programs_come_in(inner: Inner, headers):
    for method, target in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/metrics")):
        body = {"model": "tiny", "messages": TALK} if method == "POST" else b""
        assert (await asked(inner, method, target, headers, body)).status == 200


@pytest.mark.parametrize(
    ("kind", "headers", "status"),
    [
        ("application/json; charset=utf-8", {}, 200),
        ("application/vnd.api+json", {}, 200),
        (None, {}, 200),
        ("application/x-www-form-urlencoded", {}, 200),  # curl -d
        ("application/x-www-form-urlencoded", {"origin": "http://127.0.0.1:8000"}, 415),
        ("application/x-www-form-urlencoded", {"sec-fetch-site": "none"}, 415),
        ("text/plain", {}, 415),
        ("Text/Plain; charset=utf-8", {}, 415),
        ("multipart/form-data; boundary=x", {}, 415),
    ],
)
async def test_a_form_is_no_json(inner: Inner, kind, headers, status):
    body = {"model": "tiny", "messages": TALK}
    answer = await asked(inner, "POST", CHAT, headers | {"content-type": kind}, body)
    assert (answer.status, len(inner.scopes)) == (status, int(status == 200))


# What browsers ask before


PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


@pytest.mark.parametrize("target", [CHAT, "/metrics", "/v1/models", "/", "/health", "/v1/files", "/tokenize"])
@pytest.mark.parametrize("headers", [{}, PREFLIGHT, PREFLIGHT | {"origin": SITE}, {"origin": SITE}])
@pytest.mark.parametrize("keys", [(), ("sesame",)])
async def test_what_a_browser_asks_before_is_answered_here_and_allows_nothing(inner, target, headers, keys):
    answer = await asked(inner, "OPTIONS", target, headers, body=BODY, api_keys=keys)
    assert (answer.status, answer.body, inner.scopes) == (204, b"", [])
    assert "OPTIONS" in answer.headers["allow"]
    assert answer.headers.keys() == {"allow"}


@pytest.mark.parametrize("origins", [(SITE,), ("*",), ("https://other.example", SITE)])
async def test_a_site_that_is_let_in_is_told_so(inner: Inner, origins):
    answer = await asked(
        inner, "OPTIONS", CHAT, PREFLIGHT | {"origin": SITE, "access-control-request-private-network": "true"},
        api_keys=("sesame",), origins=origins,
    )  # fmt: skip
    assert (answer.status, inner.scopes) == (204, [])
    assert answer.headers == {
        "allow": "POST, OPTIONS",
        "access-control-allow-origin": "*" if origins == ("*",) else SITE,
        "access-control-allow-methods": "POST, OPTIONS",
        "access-control-allow-headers": PREFLIGHT["access-control-request-headers"],
        "access-control-allow-private-network": "true",
        "access-control-expose-headers": "retry-after, x-request-id",
        "access-control-max-age": "600",
        "vary": "Origin",
    }


@pytest.mark.parametrize("key", ["sesame", "wrong"])
async def test_a_page_that_is_let_in_can_read_what_it_gets_errors_too(key: str):
    app = StrategyMiddleware(ModelApp().app, settings(api_keys=("sesame",), origins=(SITE,)))
    headers = {"origin": SITE, "authorization": f"Bearer {key}", "sec-fetch-site": "cross-site"}
    answer = await ask(app, "POST", CHAT, BODY, headers)
    assert answer.status == (200 if key == "sesame" else 401)
    assert answer.headers["access-control-allow-origin"] == SITE
    refused = await ask(app, "POST", CHAT, BODY, headers | {"origin": "https://elsewhere.example"})
    assert (refused.status, "access-control-allow-origin" in refused.headers) == (403, False)


async def test_headers_that_are_none_are_not_repeated(inner: Inner):
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x\r\nset-cookie: a"}
    answer = await asked(inner, "OPTIONS", CHAT, asks | {"origin": SITE}, origins=(SITE,))
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://Chat.Example.org/", "https://chat.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://bücher.example:443", "https://xn--bcher-kva.example"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("null", "null"),
        (" * ", "*"),
    ],
)
def test_an_origin_is_what_browsers_send(given: str, origin: str):
    assert normalize_origin(given) == origin


@pytest.mark.parametrize(
    "given", ["", "chat.example.org", "https://", "https://a.b/c", "https://u@a.b", "app://", "a b://c", "**"]
)
def test_no_origin(given: str):
    with pytest.raises(ValueError):  # whatever is wrong with it
        normalize_origin(given)


# Websockets and odd requests


async def test_a_websocket_is_refused_with_a_key_too(inner: Inner):
    sent = []

    async def send(event):
        sent.append(event)

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": [(b"authorization", b"Bearer sesame")]}
    await StrategyMiddleware(inner, settings(api_keys=("sesame",)))(scope, send, send)
    assert (sent, inner.scopes) == ([{"type": "websocket.close", "code": 1008}], [])


@pytest.mark.parametrize(("method", "status"), [("TRACE", 404), ("PROPFIND", 404), ("QUERY", 404)])
async def test_methods_that_nobody_answers_are_not_passed_on(inner: Inner, method: str, status: int):
    assert (await asked(inner, method, "/v1/files")).status == status
    answer = await asked(inner, method, CHAT)
    assert (answer.status, answer.headers["allow"], inner.scopes) == (405, "POST, OPTIONS", [])


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(StrategyMiddleware(ModelApp().app, settings())) as url:
        yield int(url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"POST {CHAT} HTTP/1.1", 200),
        (f"POST /{CHAT} HTTP/1.1", 200),
        (f"POST {CHAT}/ HTTP/1.1", 200),
        (f"POST http://127.0.0.1{CHAT} HTTP/1.1", 200),  # as a proxy is asked: RFC 9112 has servers take it
        (f"POST {CHAT}# HTTP/1.1", 200),
        ("POST /v1/chat%2Fcompletions HTTP/1.1", 404),
        ("POST /v1/chat\\completions HTTP/1.1", 404),
        ("POST @other:9200 HTTP/1.1", 400),
        (f"post {CHAT} HTTP/1.1", 400),
    ],
)
def test_the_same_over_a_socket(port: int, line: str, status: int):
    body = json.dumps(BODY)
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(
            f"{line}\r\nhost: localhost\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    if status == 200:
        assert b'"model": "tiny:zero-shot"' in answer


@pytest.mark.parametrize("unit", ["/", "a", "/a", "a.", "..", "%2f", ";", ":", "[", "\x00", "é", " "])
def test_the_time_to_look_at_a_name_or_a_path_grows_with_its_length(unit: str):
    def seconds(count: int) -> float:
        text, best = unit * count, 9.0
        scope = {"path": f"/{text}", "raw_path": text.encode(), "query_string": text.encode()}
        named = {"headers": [(b"host", text.encode()), (b"origin", text.encode())]}
        for _ in range(3):
            started = time.process_time()
            normal_path(scope)
            requested_host(named)
            is_cross_origin(named)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(80_000) < 20 * seconds(20_000) + 0.01

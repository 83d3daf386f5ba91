"""Every route by every method, without a key, with a wrong one and with a good one: what is open, what it reaches."""

from collections.abc import Iterator

import httpx
import pytest
from model_app import ModelApp
from repository import REPOSITORY
from test_middleware import TALK, settings
from upstream_server import FakeUpstream, Running

from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.proxy.app import Proxy
from localemp.serving.proxy.request_fields import ALLOWED_FIELDS
from localemp.serving.routes import METHODS, ROUTES, as_markdown, find_route, methods_of

KEY = "sesame"
CALLERS = {"no key": {}, "wrong key": {"authorization": "Bearer wrong"}, "key": {"authorization": f"Bearer {KEY}"}}
BODIES = {
    "/v1/chat/completions": {"messages": TALK},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/responses": {"input": "Hello"},
    "/v1/messages": {"messages": TALK, "max_tokens": 9},
    "/v1/embeddings": {"input": "Hello"},
}
PATHS = {
    "/": {"GET": 200},
    "/page/index.html": {"GET": 200},
    "/health": {"GET": 200},
    "/metrics": {"GET": 200},
    "/v1/models": {"GET": 200},
    "/v1/models/tiny": {"GET": 200},
    "/v1/models/tiny:two-stage": {"GET": 200},
    "/v1/models/other": {"GET": 404},
    **{path: {"POST": 200} for path in BODIES},
}
OPEN = ("/", "/page/index.html", "/health")
# What a hosted API has besides, and our key would open.
OTHERS = (
    "/v1/batches", "/v1/files", "/v1/files/file-1", "/v1/files/file-1/content", "/v1/uploads", "/v1/fine_tuning/jobs",
    "/v1/assistants", "/v1/threads", "/v1/vector_stores", "/v1/images/generations", "/v1/audio/speech",
    "/v1/audio/transcriptions", "/v1/moderations", "/v1/organization/usage", "/v1/responses/resp-1",
    "/v1/chat/completions/chatcmpl-1", "/v1/realtime/sessions", "/v1/evals", "/v1/conversations", "/v1/containers",
    "/v1", "/admin", "/sleep", "/docs",
)  # fmt: skip
http = httpx.Client(trust_env=False)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def ours(upstream: FakeUpstream) -> Iterator[Running]:
    """Before a server that is asked with a key of ours."""
    app = Proxy([upstream.url], "sk-operator", served="tiny")
    with Running(StrategyMiddleware(app, settings(api_keys=(KEY,)))) as server:
        yield server


@pytest.fixture(scope="module")
def callers(upstream: FakeUpstream) -> Iterator[Running]:
    """Before a server that knows the callers' keys."""
    with Running(StrategyMiddleware(Proxy([upstream.url], None, served="tiny"), settings())) as server:
        yield server


@pytest.fixture(scope="module")
def local() -> Iterator[Running]:
    """Around the model's own server."""
    with Running(StrategyMiddleware(ModelApp().app, settings(api_keys=(KEY,)))) as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(upstream: FakeUpstream) -> None:
    upstream.reset()


def asked(server: Running, method: str, path: str, caller: str = "key", model: str = "tiny") -> httpx.Response:
    body = {"model": model, **BODIES.get(path, {})} if method in ("POST", "PUT", "PATCH") else None
    return http.request(method, server.address + path, json=body, headers=CALLERS[caller])


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("path", [*PATHS, *OTHERS])
def test_our_key_opens_what_the_table_says_and_nothing_else(ours, upstream, path: str, caller: str):
    taken = PATHS.get(path, {})
    for method in METHODS:
        upstream.reset()
        answer = asked(ours, method, path, caller)
        there = taken.get("GET" if method == "HEAD" else method)
        if caller != "key" and not (path in OPEN and method in ("GET", "HEAD")):
            assert answer.status_code == 401, method
        elif there:
            assert answer.status_code == there, (method, answer.text)
        else:
            assert answer.status_code == (405 if taken else 404), (method, answer.text)
            if taken:
                heads = {"HEAD"} if "GET" in taken else set()
                assert set(answer.headers["allow"].split(", ")) == {*taken, "OPTIONS"} | heads
        reached = [(seen.method, seen.target) for seen in upstream.requests]
        assert reached == ([("POST", path)] if caller == "key" and path in BODIES and method == "POST" else [])


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("path", [*PATHS, *OTHERS])
def test_around_a_server_of_ones_own_everything_else_needs_the_key(local, path: str, caller: str):
    for method in METHODS:
        answer = asked(local, method, path, caller)
        if caller == "key" or (path in OPEN and method in ("GET", "HEAD")):
            assert answer.status_code != 401, method
            if path not in BODIES and method in PATHS.get(path, {}):
                assert answer.status_code == PATHS[path][method], method
        else:
            assert answer.status_code == 401, method


@pytest.mark.parametrize("path", OTHERS)
def test_callers_with_keys_of_their_own_reach_all_that_is_below_v1(callers, upstream, path: str):
    below = path.startswith("/v1/")
    for method in METHODS:
        upstream.reset()
        assert asked(callers, method, path, "wrong key").status_code == (200 if below else 404)
        assert [(seen.method, seen.target) for seen in upstream.requests] == ([(method, path)] if below else [])
        assert all(seen.header("authorization") == "Bearer wrong" for seen in upstream.requests)


@pytest.mark.parametrize("path", BODIES)
def test_a_strategy_answers_at_one_path_only(local, callers, upstream, path: str):
    for server in (local, callers):
        answer = asked(server, "POST", path, model="tiny:zero-shot")
        assert answer.status_code == (200 if path == "/v1/chat/completions" else 400)
    assert all(b"zero-shot" not in seen.body for seen in upstream.requests)
    elsewhere = asked(callers, "POST", "/v1/rerank", model="tiny:zero-shot")
    assert elsewhere.json()["error"]["code"] == "unsupported_endpoint"


def test_head_is_get_without_a_body(ours: Running):
    for path in ("/v1/models", "/v1/models/tiny", "/health", "/"):
        answer = asked(ours, "HEAD", path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_the_table_is_the_one_in_the_documentation():
    page = (REPOSITORY / "docs" / "security.md").read_text("utf-8")
    assert as_markdown() in page, "copy it: python -c 'from localemp.serving.routes import *; print(as_markdown())'"
    for path, fields in ALLOWED_FIELDS.items():
        said = next(line for line in page.splitlines() if line.startswith(f"- `{path}`: "))
        assert {name.strip("`,. ") for name in said.partition(": ")[2].split()} == fields


def test_every_route_has_one_meaning():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert {route.path for route in ROUTES if route.largest} == set(ALLOWED_FIELDS) == set(BODIES)
    assert find_route("GET", "/v1/models/") is None and find_route("GET", "/v1/models/a/b") is not None
    assert methods_of("/v1/files") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

"""What `/v1/models` lists, `/v1/models/NAME` finds, whatever the model's server itself answers."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from asgi_client import ask, send_bytes
from starlette.types import ASGIApp, Receive, Scope, Send
from test_middleware import settings
from upstream_server import Running

from localemp.pipeline.config import RunConfig
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.proxy.app import Proxy
from localemp.serving.settings import ServeSettings

NAMES = ["tiny", "tiny:zero-shot", "tiny:few-shot", "tiny:two-stage", "tiny:few-shot+two-stage"]
CARD = {"id": "tiny", "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 4096}


def listing(body: bytes, status: int = 200) -> ASGIApp:
    """A model's server that lists its models so."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/v1/models", b"/v1/models")
        await send_bytes(send, status, body, "application/json", {"retry-after": "7"})

    return app


@pytest.mark.parametrize(
    "answered",
    [
        b"", b"<html>", b"null", b"[]", b"7", b'"x"', b"\xff", b"{}", b'{"data": null}', b'{"data": {"id": "tiny"}}',
        b'{"data": [null, 7, "tiny", {}, {"id": null}, {"id": 7}, ["id"]]}', b'{"data": [' + b"[" * 500,
        b'{"object": null, "data": [{"id": "tiny", "object": null}]}', json.dumps({"data": [CARD]}).encode(),
        json.dumps({"object": "list", "data": [{"id": "*"}, CARD, CARD]}).encode(),
    ],
)  # fmt: skip
async def test_an_odd_list_is_none_and_ours_is_there(answered: bytes):
    app = StrategyMiddleware(listing(answered), settings())
    listed = (await ask(app, "GET", "/v1/models")).json()
    assert [entry["id"] for entry in listed["data"] if entry["id"] != "*"][-len(NAMES) :] == NAMES
    for entry in listed["data"]:
        found = await ask(app, "GET", f"/v1/models/{entry['id']}")
        assert (found.status, found.json()) == (200, entry)
    missing = await ask(app, "GET", f"/v1/models/{'x' * 5000}")
    assert (missing.status, missing.code, len(missing.body) < 500) == (404, "model_not_found", True)


async def test_a_server_that_does_not_list_yet_is_heard():
    app = StrategyMiddleware(listing(b'{"error": {"message": "starting"}}', 503), settings())
    for target in ("/v1/models", "/v1/models/tiny"):
        answer = await ask(app, "GET", target)
        assert (answer.status, answer.headers["retry-after"], b"starting" in answer.body) == (503, "7", True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/v1/models/tiny:two-stage", "tiny:two-stage"),
        ("/v1/models/tiny%3Atwo-stage", "tiny:two-stage"),
        ("/v1/models/tiny%3atwo-stage/", "tiny:two-stage"),
        ("/v1//models/tiny:few-shot+two-stage", "tiny:few-shot+two-stage"),
        ("/v1/models/tiny:few-shot%2Btwo-stage?x=1", "tiny:few-shot+two-stage"),
    ],
)
async def test_a_name_may_be_encoded(target: str, name: str, method: str):
    answer = await ask(StrategyMiddleware(listing(json.dumps({"data": [CARD]}).encode()), settings()), method, target)
    assert (answer.status, answer.json()["id"], answer.json()["max_model_len"]) == (200, name, 4096)


@pytest.fixture(scope="module", params=["own key", "callers' keys"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A model whose name has a slash, before a server that is not asked for its models."""
    key = "sk-operator" if request.param == "own key" else None
    config = RunConfig(model="org/tiny", base_url="http://127.0.0.1:1/v1")
    app = Proxy(["http://127.0.0.1:1/v1"], key, served="org/tiny")
    with Running(StrategyMiddleware(app, ServeSettings.of("org/tiny", config, strategies=("two-stage",)))) as server:
        yield server.url


def test_openais_client_finds_all_that_it_lists(url: str):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        listed: list[Any] = client.models.list().data
        assert [entry.id for entry in listed] == ["org/tiny", "org/tiny:two-stage"]
        for entry in listed:
            assert client.models.retrieve(entry.id) == entry
        for name in ("org", "tiny", "org/tiny:knowledge", "org/tiny/two-stage"):
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve(name)

"""Bodies made to hurt: none is an error of ours, and none holds the server up."""

import asyncio
import copy
import json
import random
import time
from collections.abc import Callable

import pytest
from asgi_client import ask, scope_of, send_bytes, send_json
from starlette.types import Receive, Scope, Send
from test_middleware import settings
from upstream_server import event

from localemp.serving.errors import RequestError
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.proxy.request import Allowlist, PassThrough
from localemp.serving.request_body import BodyReader, ReplayedBody, parse
from localemp.serving.routes import LARGEST_DIALOGUE, LARGEST_JSON, LARGEST_REBUILT, ROUTES
from localemp.web.asgi import read_body

CHAT = "/v1/chat/completions"
LAG = 0.25  # seconds for which nothing else may be done
MIB = 2**20


class Lag:
    """Watches an event loop.

    Attributes:
        worst: The most processor seconds that went by between two turns of the loop. On a machine that others use, too,
            the clock on the wall would tell of them.
    """

    def __init__(self) -> None:
        self.worst = 0.0

    async def __aenter__(self) -> "Lag":
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.02)
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            before = time.process_time()
            await asyncio.sleep(0.002)
            self.worst = max(self.worst, time.process_time() - before)


async def model(scope: Scope, receive: Receive, send: Send) -> None:
    """A model's server that does not look at what it is sent, but for whether it is to stream."""
    body = await read_body(receive, LARGEST_JSON)
    await reply(len(body) < MIB and b'"stream": true' in body, send)


async def hosted(scope: Scope, receive: Receive, send: Send) -> None:
    """Does all that is done before a hosted model, but for sending it there."""
    try:
        request = await Allowlist("sk-operator", "tiny", "org/tiny-1b").build(scope, receive)
        await reply(b'"stream": true' in request.body[-MIB:], send)
    except RequestError as error:
        await send_json(send, error.status, error.content)


async def reply(stream: bool, send: Send) -> None:
    said = {"role": "assistant", "content": "I hear you."}
    choice = {"index": 0, "delta" if stream else "message": said, "finish_reason": "stop"}
    content = {"id": "1", "object": "chat.completion", "created": 1, "choices": [choice]}
    if stream:
        body = event(content) + b"data: [DONE]\n\n"
        await send_bytes(send, 200, body, "text/event-stream")
    else:
        await send_json(send, 200, content)


def chat(inside: bytes) -> bytes:
    return b'{"model":"tiny","messages":' + inside + b"}"


def many(unit: bytes, size: int = 30 * MIB, most: int = 10**9, between: bytes = b"") -> bytes:
    """A unit again and again, with something between two of them."""
    return (unit + between) * (min(most, size // len(unit + between)) - 1) + unit


def keys(count: int, more: bytes = b"") -> bytes:
    return b"{" + b",".join(b'"%d%s":1' % (number, more) for number in range(count)) + b"}"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a long model name": lambda: b'{"model":"' + b"a" * 60_000_000 + b'"}',
    "a strategy's long name": lambda: b'{"model":"tiny:' + b"a" * 900_000 + b'"}',
    "a text of wide characters": lambda: chat(b'"' + many("é".encode()) + "\U0001f600".encode() + b'"'),
    "escapes": lambda: chat(b'"' + many(rb"a\n") + b'"'),
    "empty lists": lambda: chat(b"[" + many(b"[]", 8 * MIB, between=b",") + b"]"),
    "as many empty lists as may be": lambda: chat(b"[" + many(b"[]", most=99_000, between=b",") + b"]"),
    "empty lists in a small body": lambda: chat(b"[" + many(b"[]", LARGEST_DIALOGUE - 100, between=b",") + b"]"),
    "as many keys as may be": lambda: chat(keys(199_000)),
    "long keys": lambda: chat(keys(199_000, b"x" * 90)),
    "brackets": lambda: chat(b"[" * 10_000_000),
    "long numbers": lambda: chat(b"[" + many(b"7" * 4299, 8 * MIB, between=b",") + b"]"),
    "numbers as long as may be": lambda: chat(b"[" + many(b"7" * 199, most=190_000, between=b",") + b"]"),
}


async def test_no_body_holds_the_server_up() -> None:
    app, lags = StrategyMiddleware(hosted, settings()), {}
    for name, make in HOSTILE.items():
        body = make()
        pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]
        async with Lag() as lag:
            answer = await ask(app, "POST", CHAT, pieces)
        lags[name] = round(lag.worst, 3)
        assert answer.status in (200, 400, 404, 413), (name, answer.body[:200])
        assert len(answer.body) < 1000
    assert max(lags.values()) < LAG, lags


@pytest.mark.parametrize("route", [route for route in ROUTES if route.largest], ids=lambda route: route.path)
@pytest.mark.parametrize("told", [True, False])
async def test_every_route_has_a_largest_body(route, told: bool) -> None:
    app, read = StrategyMiddleware(model, settings()), 0
    piece = b"a" * (route.largest // 8)

    async def receive() -> dict:
        nonlocal read
        read += len(piece)
        return {"type": "http.request", "body": piece, "more_body": True}

    sent: list = []

    async def send(event) -> None:
        sent.append(event)

    headers = {"content-length": str(route.largest + 1)} if told else {}
    await app(scope_of("POST", route.path, headers), receive, send)
    assert sent[0]["status"] == 413
    assert read == (0 if told else 9 * len(piece)), "one that says how large it is is not read at all"


async def test_a_strategy_takes_less_and_our_key_less_than_the_model() -> None:
    def body(name: str, size: int) -> bytes:
        text = "a" * (size - 80)
        return json.dumps({"model": name, "messages": [{"role": "user", "content": text}]}).encode()

    for name, size, inner, status in (
        ("tiny", LARGEST_DIALOGUE + 1, model, 200),
        ("tiny:zero-shot", LARGEST_DIALOGUE + 100, model, 413),
        ("tiny", LARGEST_REBUILT - 100, hosted, 200),
        ("tiny", LARGEST_REBUILT + 100, hosted, 413),
        ("tiny", LARGEST_REBUILT + 100, model, 200),
    ):
        assert (await ask(StrategyMiddleware(inner, settings()), "POST", CHAT, body(name, size))).status == status, (
            name,
            size,
        )


async def test_what_is_no_json_of_ours_is_bounded_too() -> None:
    read = 0

    async def receive() -> dict:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"a" * 64 * MIB, "more_body": True}

    sent: list = []

    async def send(event) -> None:
        sent.append(event)

    async def reads_all(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass

    scope = scope_of("POST", "/v1/audio/transcriptions", {"content-type": "multipart/form-data; boundary=x"})
    await StrategyMiddleware(reads_all, settings())(scope, receive, send)
    assert (sent[0]["status"], read) == (413, 5)


def test_what_was_read_once_is_not_read_again() -> None:
    given = ReplayedBody(b'{"model": "tiny"}', {"model": "tiny", "stop": ["read"]}, None)
    outgoing = asyncio.run(Allowlist("k", "tiny", "tiny").build(_scope(), given))
    assert json.loads(outgoing.body)["stop"] == ["read"]
    raw = asyncio.run(PassThrough("tiny", "tiny", pass_key=True, largest=MIB).build(_scope(), given))
    assert raw.body == given.body


def _scope() -> Scope:
    return scope_of("POST", CHAT)


@pytest.mark.parametrize("shape", ["empty lists", "keys", "numbers", "text"])
def test_the_time_to_read_grows_with_the_size_and_no_faster(shape: str) -> None:
    def seconds(count: int) -> float:
        body = {
            "empty lists": lambda: b"[" + many(b"[]", most=count, between=b",") + b"]",
            "keys": lambda: keys(count),
            "numbers": lambda: b"[" + many(b"7" * 199, most=count, between=b",") + b"]",
            "text": lambda: b'"' + b"a\\n" * (30 * count) + b'"',
        }[shape]()
        best = 9.0
        for _ in range(3):
            started = time.process_time()
            asyncio.run(BodyReader().run_off_loop(body, parse))
            best = min(best, time.process_time() - started)
        return best

    assert seconds(80_000) < 20 * seconds(20_000) + 0.01


# Ten thousand bodies that nobody would send


VALID = {
    "model": "tiny:two-stage",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "My dog died."},
        {"role": "assistant", "content": [{"type": "text", "text": "Oh no."}]},
        {"role": "user", "content": "She was old."},
    ],
    "temperature": 0.7, "max_tokens": 20, "stop": ["END"], "stream": False, "n": 1, "seed": 7,
    "localemp": {"trace": True, "variant": "paper"}, "logit_bias": {"1": 2}, "response_format": {"type": "text"},
}  # fmt: skip
ODD = [
    None, True, -1, 0, 1e308, -0.0, 2**70, "", " ", "tiny", "tiny:", "tiny:two-stage", "\x00", "\ud800", "a" * 3000,
    "tiny:zero-shot", [], {}, [[]], [None], {"": {}}, [{}] * 50, {"content": None}, "two-stage", "user",
    "\u202e", "é" * 99,
]  # fmt: skip


def mutant(random_: random.Random) -> bytes:
    """A body that was valid once."""
    content = json.loads(json.dumps(VALID))
    content["model"] = random_.choice(["tiny:two-stage", "tiny:zero-shot", "tiny:few-shot", "tiny", "tiny:x", "other"])
    for _ in range(random_.randrange(4)):
        _change(content, random_)
    body = json.dumps(content, ensure_ascii=random_.random() < 0.5).encode("utf-8", "surrogatepass")
    for _ in range(random_.choice([0, 0, 1, 3])):
        at, end = sorted(random_.randrange(len(body) + 1) for _ in range(2))
        odd = random_.choice([b"[", b"{", b'"', b"\\u", b"NaN", b"\xff", b"1e999"]) * 40
        body = random_.choice(
            [
                body[:at] + bytes([random_.randrange(256)]) + body[at + 1 :],
                body[:at] + body[end:],
                body[:end],
                body[:at] + body[at:end] * 3 + body[end:],
                body[:at] + odd + body[at:],
                body[:-1] + b',"model":"tiny"}',
            ]
        )
    return body


def _change(value, random_: random.Random) -> None:
    """Put something odd somewhere."""
    while isinstance(value, (dict, list)) and value:
        place = random_.choice(list(value)) if isinstance(value, dict) else random_.randrange(len(value))
        if random_.random() < 0.4 or not isinstance(value[place], (dict, list)):
            if isinstance(value, dict) and random_.random() < 0.3:
                del value[place]
            else:
                value[place] = copy.deepcopy(random_.choice(ODD))
            return
        value = value[place]


@pytest.mark.parametrize("inner", [model, hosted])
async def test_ten_thousand_bodies_are_no_errors_of_ours_and_hold_nothing_up(inner, share: float) -> None:
    random_, app, statuses = random.Random(f"bodies for {inner.__name__}"), StrategyMiddleware(inner, settings()), {}
    async with Lag() as lag:
        for number in range(int(5000 * share)):
            body = mutant(random_)
            headers = {"content-type": random_.choice(["application/json", "text/json", "x" * 300, None])}
            answer = await ask(app, "POST", random_.choice([CHAT] * 9 + ["/v1/completions"]), body, headers)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status < 500, (number, body, answer.body)
            assert len(answer.body) < 20_000
            if number % 20 == 0:
                await asyncio.sleep(0)
    assert min(statuses.get(200, 0), statuses.get(400, 0), statuses.get(404, 0)) > 100 * share, statuses
    assert lag.worst < LAG

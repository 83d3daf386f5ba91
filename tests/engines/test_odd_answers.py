"""What servers send in place of an answer: tried again, then one failed reply, or the end of a run."""

import asyncio
import contextlib
import gzip
import json
import random
import tracemalloc
import zlib
from dataclasses import asdict
from typing import Any

import pytest
from fake_server import REPLY, Answer, FakeServer, Request, completion, error
from patience import patience

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.engine import MAX_FAILED_REQUESTS, OpenAIEngine
from localemp.engines.openai.failures import seconds_asked
from localemp.errors import EngineError, FatalEngineError, PromptTooLongError, RefusalError
from localemp.sampling import Sampling

MESSAGES = [Message("user", "I lost my job.")]
GREEDY = Sampling(max_tokens=64)
WHOLE = json.dumps(completion()).encode()
HTML = Answer(body="<html><body>We will be right back</body></html>", headers={"Content-Type": "text/html"})
BOMB = gzip.compress(bytes(400 * 2**20), 6)


def packed(body: bytes, encoding: str, status: int = 200) -> Answer:
    return Answer(status, body, {"Content-Encoding": encoding})


async def no_sleep(_: float) -> None:
    return


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)


@contextlib.asynccontextmanager
async def engine_for(server: FakeServer, **options: Any):
    engine = OpenAIEngine(**{"model": "tiny", "base_url": server.url, "sleep": no_sleep, **options})
    try:
        yield engine
    finally:
        await engine.close()


async def ask(server: FakeServer, sampling: Sampling = GREEDY, **options: Any) -> Completion:
    async with engine_for(server, **options) as engine:
        return await engine.chat(MESSAGES, sampling)


ODD = {
    "html": HTML,
    "html that says json": Answer(body="\n<!doctype html>"),
    "empty": Answer(body=""),
    "no content": Answer(204, ""),
    "cut": Answer(body=WHOLE[:60]),
    "blank": Answer(body="\n\n  \n"),
    "null": Answer(body="null"),
    "number": Answer(body="7" * 5000),
    "list": Answer(body=[1, 2]),
    "another API": Answer(body={"message": "hello"}),
    "deep": Answer(body="[" * 100_000),
    "not UTF-8": Answer(body=b'{"choices": "\xff"}'),
    "choices null": Answer(body={"choices": None}),
    "choices empty": Answer(body={"choices": []}),
    "choices odd": Answer(body={"choices": [7]}),
    "choices no list": Answer(body={"choices": "none"}),
    "text no text": Answer(body=completion(message={"content": 7})),
    "error": Answer(body={"error": {"message": "provider down"}}),
    "error as text": Answer(body={"error": "provider down"}),
    "error 503": Answer(body={"error": {"code": 503, "message": "busy"}}),
    "error 429": Answer(body={"error": {"code": "429", "message": "slow down"}}),
    "error as an object": Answer(body={"object": "error", "message": "down", "code": 50002}),
    "error in a choice": Answer(body={"choices": [{"error": {"code": 502, "message": "gone"}, "message": {}}]}),
    "finish reason error": Answer(body=completion(finish_reason="error", message={"content": ""})),
    "gzip damaged": packed(b"\x1f\x8b damaged", "gzip"),
    "gzip cut": packed(gzip.compress(WHOLE)[:-9], "gzip"),
    "gzip bomb": packed(BOMB, "gzip"),
    "deflate bomb": packed(zlib.compress(bytes(100 * 2**20)), "deflate"),
    "brotli": packed(b"\x0b\x02\x80x\x03", "br"),
    "twice": packed(gzip.compress(gzip.compress(WHOLE)), "gzip, gzip"),
    "502 page": Answer(502, "<html>Bad Gateway</html>", {"Content-Type": "text/html"}),
    "503 bomb": packed(BOMB, "gzip", 503),
    "503 brotli": packed(b"x", "br", 503),
    "lost": Answer(cut="before"),
    "lost inside": Answer(cut="inside"),
    "redirect in a circle": Answer(307, "", {"Location": "/v1/chat/completions"}),
    "redirect to nonsense": Answer(307, "", {"Location": "http://[::1"}),
}


@pytest.mark.parametrize("name", [name for name in ODD if name != "redirect in a circle"])
async def test_an_odd_answer_is_tried_again(name: str) -> None:
    with FakeServer([ODD[name], ODD[name]]) as server:
        assert (await ask(server)).text == REPLY
    assert len(server.requests) == 3


@pytest.mark.parametrize("name", ODD)
async def test_one_that_stays_odd_is_one_failed_reply(name: str) -> None:
    def rule(request: Request) -> Answer | None:
        return ODD[name] if "odd" in request.body["messages"][0]["content"] else None

    with FakeServer(rule=rule) as server:
        async with engine_for(server, max_retries=1) as engine:
            await engine.chat(MESSAGES, GREEDY)
            with pytest.raises(EngineError) as raised:
                await engine.chat([Message("user", "odd")], GREEDY)
            assert type(raised.value) is EngineError
            assert len(raised.value.message) < 450
            assert raised.value.message.isprintable()
            assert (await engine.chat(MESSAGES, GREEDY)).text == REPLY


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"\xef\xbb\xbf" + WHOLE),
        Answer(body=b"\n   \n\n  \n" + WHOLE + b"\r\n"),
        Answer(body=WHOLE, headers={"Content-Type": "text/html; charset=nonsense"}),
        Answer(body=WHOLE, headers={"Content-Type": "text/event-stream"}),
        Answer(201, WHOLE, {"Content-Type": ""}),
        packed(gzip.compress(WHOLE), "gzip"),
        packed(gzip.compress(WHOLE[:9]) + gzip.compress(WHOLE[9:]), "GZIP"),
        packed(zlib.compress(WHOLE), "deflate"),
        packed(zlib.compress(WHOLE)[2:-4], "deflate"),
        packed(WHOLE, "identity"),
        packed(WHOLE, "utf-8"),
        Answer(body=completion(message={"content": [{"type": "text", "text": "That sounds "}, "hard."]})),
        Answer(body=completion(message={"content": REPLY, "role": None, "tool_calls": None, "x": []}, logprobs=None)),
    ],
)
async def test_an_answer_in_any_wrapping(answer: Answer) -> None:
    with FakeServer([answer]) as server:
        assert (await ask(server)).text == REPLY
    assert len(server.requests) == 1
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


async def test_a_bomb_takes_no_memory() -> None:
    with FakeServer([ODD["gzip bomb"]]) as server:
        tracemalloc.start()
        await ask(server)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 3.5 * 64 * 2**20, "an answer may have 64 MiB, this one unpacks to 400"


async def test_no_answer_is_more_than_an_error_of_its_reply() -> None:
    draw = random.Random(13)
    message = {"content": [{"type": "text", "text": REPLY}], "reasoning": "Hm.", "refusal": None, "tool_calls": []}
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
    body = completion(message=message, usage=usage) | {"created": 1, "error": None}
    kinds = set()
    with FakeServer([Answer()]) as server:
        async with engine_for(server, max_retries=0) as engine:
            await engine.chat(MESSAGES, GREEDY)
            for number in range(300):
                changed = mutated(body, draw) if number % 3 else damaged(json.dumps(body).encode(), draw)
                server.answers.append(Answer(body=changed))
                try:
                    got = await engine.chat(MESSAGES, GREEDY)
                    json.dumps(asdict(got), ensure_ascii=False).encode()
                    kinds.add(Completion)
                except EngineError as failed:
                    kinds.add(type(failed))
    assert kinds == {Completion, EngineError}


def mutated(value: Any, draw: random.Random) -> Any:
    """JSON with one value exchanged for an odd one."""
    odd = [None, 0, -1, 1e308, 10**30, True, "", "x", "\ud83d", "<think>", "\x1b[2J", [], {}, [None], [[]], {"text": 3}]
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return draw.choice(odd)
    key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
    copy = value.copy()
    copy[key] = mutated(value[key], draw)
    return copy


def damaged(raw: bytes, draw: random.Random) -> bytes:
    """Bytes with a piece lost, doubled or changed."""
    at = draw.randrange(len(raw))
    end = at + draw.randrange(1, 20)
    return raw[:at] + draw.choice([b"", raw[at:end] * 2, draw.randbytes(3), b"\xff", b"{", b'"']) + raw[end:]


# What is not tried again


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (
            {"error": {"code": "insufficient_quota", "message": "no money"}},
            FatalEngineError,
            "quota .* used up: no money",
        ),
        ({"error": {"type": "insufficient_quota", "code": 429}}, FatalEngineError, "quota"),
        ({"error": {"code": 401, "message": "who?"}}, FatalEngineError, "requires a key"),
        ({"error": {"code": "context_length_exceeded", "message": "long"}}, PromptTooLongError, "do not fit"),
        ({"error": {"message": "maximum context length is 4096 tokens"}}, PromptTooLongError, "4096"),
        ({"error": {"code": 400, "message": "no\x1b[2J"}}, EngineError, r"answered with an error: no\\x1b\[2J"),
        ({"error": {"code": 400, "message": "half \ud83d"}}, EngineError, "half \ufffd"),
        (completion(finish_reason="content_filter"), RefusalError, "content filter"),
        (completion(message={"content": None}), EngineError, r"without text \(finish reason 'stop'\)"),
        (completion(message={"content": None, "tool_calls": [{}]}), EngineError, "without text"),
        (completion(message={"content": ""}, finish_reason="length"), EngineError, "may think before"),
    ],
)
async def test_an_error_inside_an_answer_is_what_it_would_be_as_a_status(
    body: Any, kind: type[EngineError], message: str
) -> None:
    with FakeServer([Answer(body=body)]) as server, pytest.raises(EngineError, match=message) as raised:
        await ask(server)
    assert type(raised.value) is kind
    assert len(server.requests) == 1


async def test_a_parameter_refused_inside_an_answer_is_dropped() -> None:
    refusals = [
        {"error": {"code": "unsupported_parameter", "param": "temperature", "message": "no"}},
        {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model."}},
        {"error": {"message": "response_format is not supported", "code": 500}},
    ]
    with FakeServer([Answer(body=body) for body in refusals]) as server:
        got = await ask(server, Sampling(schema='{"type": "object"}'))
    assert len(server.requests) == 4
    assert {"temperature", "max_tokens", "response_format"}.isdisjoint(server.requests[-1].body)
    assert len(got.notes) == 3


async def test_an_error_inside_an_answer_may_say_when() -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    limited = Answer(body={"error": {"code": 429, "message": "slow down"}}, headers={"Retry-After": "7"})
    with FakeServer([limited]) as server:
        await ask(server, sleep=wait)
    assert 7 <= waits[0] <= 7 * 1.25


def test_a_month_is_the_longest_that_is_believed() -> None:
    assert seconds_asked({"retry-after": "2000000"}) == 2_000_000
    assert seconds_asked({"retry-after": "9999999"}) is None


# What ends a run, and when


@pytest.mark.parametrize("name", ["html", "null", "another API", "lost"])
async def test_a_server_that_was_never_right_is_fatal_after_all_tries(name: str) -> None:
    with FakeServer(rule=lambda _: ODD[name]) as server, pytest.raises(FatalEngineError) as raised:
        await ask(server, max_retries=2)
    assert "--base-url" in raised.value.hint
    assert len(server.requests) == 3


async def test_a_web_site_is_fatal_at_once() -> None:
    with FakeServer(rule=lambda _: HTML, models=HTML) as server:
        async with engine_for(server) as engine:
            await engine.start()
            with pytest.raises(FatalEngineError, match="a web page: <html>") as raised:
                await engine.chat(MESSAGES, GREEDY)
    assert "--base-url" in raised.value.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["html", "null", "choices empty"])
async def test_a_server_that_lists_models_is_the_right_one(name: str) -> None:
    with FakeServer(rule=lambda _: ODD[name]) as server:
        async with engine_for(server, max_retries=0) as engine:
            await engine.start()
            with pytest.raises(EngineError) as raised:
                await engine.chat(MESSAGES, GREEDY)
    assert type(raised.value) is EngineError


@pytest.mark.parametrize("status", [403, 404])
async def test_what_has_worked_does_not_end_a_run(status: int) -> None:
    with FakeServer([Answer(), error(status, "moderated")]) as server:
        async with engine_for(server) as engine:
            await engine.chat(MESSAGES, GREEDY)
            with pytest.raises(EngineError, match=f"status {status}: moderated") as raised:
                await engine.chat(MESSAGES, GREEDY)
            assert type(raised.value) is EngineError
            await engine.chat(MESSAGES, GREEDY)


async def test_an_hour_that_one_page_asks_for_is_not_waited() -> None:
    closed = Answer(503, "<html>Maintenance</html>", {"Retry-After": "3600"})
    with FakeServer([Answer(), closed]) as server:
        async with engine_for(server) as engine:
            await engine.chat(MESSAGES, GREEDY)
            assert (await engine.chat(MESSAGES, GREEDY)).text == REPLY
    with FakeServer([closed]) as server, pytest.raises(FatalEngineError, match="asks to wait 3600 seconds"):
        await ask(server)


@pytest.mark.parametrize("answer", [error(401, "expired"), error(429, code="insufficient_quota"), error(402)])
async def test_key_and_quota_end_a_run_whenever(answer: Answer) -> None:
    with FakeServer([Answer(), answer]) as server:
        async with engine_for(server) as engine:
            await engine.chat(MESSAGES, GREEDY)
            with pytest.raises(FatalEngineError):
                await engine.chat(MESSAGES, GREEDY)


async def test_a_server_that_never_answers_is_given_up() -> None:
    with FakeServer(rule=lambda _: error(500, "out of order")) as server:
        async with engine_for(server, max_retries=1) as engine:
            kinds = []
            for _ in range(MAX_FAILED_REQUESTS):
                with pytest.raises(EngineError) as raised:
                    await engine.chat(MESSAGES, GREEDY)
                kinds.append(type(raised.value))
    assert kinds == [EngineError] * (MAX_FAILED_REQUESTS - 1) + [FatalEngineError]
    assert "all of the first 20 requests failed" in raised.value.message
    assert "out of order" in raised.value.message


async def test_a_server_that_drips_for_ever_is_late() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"1\r\n \r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        engine = OpenAIEngine("tiny", url, timeout=patience(0.4), max_retries=0, sleep=no_sleep)
        with pytest.raises(EngineError, match="did not answer in time"):
            await engine.chat(MESSAGES, GREEDY)
        await engine.close()


# Secrets


@pytest.mark.parametrize("status", [307, 308, 302])
async def test_a_redirect_to_another_server_carries_no_secret(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Key: gate-secret")
    with FakeServer() as other, FakeServer() as server:
        server.answers.append(Answer(status, "", {"Location": f"{other.url}/chat/completions"}))
        if status == 302:  # which makes a GET of a POST
            other.models = Answer(body=completion())
        await ask(server, api_key="sk-secret")
        there, here = [*other.requests, *other.listings], server.requests
    assert "secret" not in str(there[0].headers)
    assert here[0].headers["authorization"] == "Bearer sk-secret"
    assert here[0].headers["x-gateway-key"] == "gate-secret"


async def test_a_redirect_on_the_same_server_keeps_the_key() -> None:
    with FakeServer() as server:
        server.answers.append(Answer(307, "", {"Location": "/v2/chat/completions"}))
        await ask(server, api_key="sk-secret")
    assert [request.path for request in server.requests] == ["/v1/chat/completions", "/v2/chat/completions"]
    assert server.requests[1].headers["authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("before", [0, 150, 180, 185, 190, 195, 280, 290, 295])
@pytest.mark.parametrize("status", [200, 400])
async def test_no_part_of_a_key_that_is_echoed_is_shown(before: int, status: int) -> None:
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    with FakeServer([Answer(status, "x" * before + key + "y" * 300)]) as server, pytest.raises(EngineError) as raised:
        await ask(server, api_key=key, max_retries=0)
    assert "sk-a" not in raised.value.message
    assert "sk-a" not in str(raised.value.__cause__)


# Texts


async def test_halves_of_surrogate_pairs_reach_nobody() -> None:
    body = json.dumps(completion(message={"content": "wonderful \ud83d", "reasoning": "\ude00 hm"})).encode()
    with FakeServer([Answer(body=body)]) as server:
        async with engine_for(server) as engine:
            got = await engine.chat([Message("user", "I \udcff lost \ud83d\ude00")], GREEDY)
    assert (got.text, got.thinking) == ("wonderful \ufffd", "\ufffd hm")
    assert server.requests[0].body["messages"][0]["content"] == "I \ufffd lost 😀"


@pytest.mark.parametrize(
    ("message", "text", "thinking"),
    [
        ({"content": "<think>\nSad.\n</think>\n\nOh no."}, "Oh no.", "Sad."),
        ({"content": "Sad.\n</think>\n\nOh no."}, "Oh no.", "Sad."),
        ({"content": "[THINK]Sad.[/THINK]Oh no."}, "Oh no.", "Sad."),
        ({"content": "Oh no.", "reasoning_content": "Sad."}, "Oh no.", "Sad."),
        ({"content": "Oh no.", "reasoning": "Sad."}, "Oh no.", "Sad."),
        ({"content": "<think>More.</think>Oh no.", "reasoning": "Sad."}, "Oh no.", "Sad.\nMore."),
        ({"content": [{"type": "thinking", "thinking": "Sad."}, {"type": "text", "text": "Oh no."}]}, "Oh no.", "Sad."),
        ({"content": "<think>\nSad"}, "", "Sad"),
        ({"content": None, "reasoning_content": "Sad"}, "", "Sad"),
    ],
)
async def test_thinking_is_set_apart(message: dict[str, Any], text: str, thinking: str) -> None:
    with FakeServer([Answer(body=completion(message=message))]) as server:
        got = await ask(server)
    assert (got.text, got.thinking) == (text, thinking)


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "12", "completion_tokens": -1}, 7]
)
async def test_tokens_that_nobody_counts_are_unknown(usage: Any) -> None:
    body = completion(usage=None) | {"usage": usage}
    with FakeServer([Answer(body=body)]) as server:
        got = await ask(server)
    assert (got.prompt_tokens, got.completion_tokens, got.cached_tokens, got.cost) == (None, None, None, None)


@pytest.mark.parametrize("slashes", ["/", "//", " ", "/ \n"])
async def test_what_is_copied_along_with_a_url_is_no_matter(slashes: str) -> None:
    with FakeServer() as server:
        await ask(server, base_url=f"  {server.url}{slashes}")
    assert server.requests[0].path == "/v1/chat/completions"

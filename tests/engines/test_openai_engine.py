import asyncio
import gzip
import json
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from fake_server import REPLY, Answer, FakeServer, Request, completion, error
from patience import patience

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.engine import INITIAL_BACKOFF, MAX_BACKOFF, OpenAIEngine
from localemp.engines.openai.target import Target
from localemp.errors import (
    EngineError,
    FatalEngineError,
    LocalempError,
    OptionError,
    PromptTooLongError,
    UnknownNameError,
)
from localemp.models.price import Price
from localemp.sampling import Sampling

MESSAGES = [Message("system", "You listen."), Message("user", "I lost my job.")]
GREEDY = Sampling(max_tokens=64)


class Waits:
    """Takes the place of `asyncio.sleep` and writes down how long it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody answers: it is bound, so that nobody else gets it, and not listened to."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


async def ask(server: FakeServer, sampling: Sampling = GREEDY, **options: Any) -> Completion:
    """One call of a new engine that does not wait between tries."""
    options = {"model": "tiny", "sleep": Waits(), **options}
    engine = OpenAIEngine(base_url=server.url, **options)
    try:
        return await engine.chat(MESSAGES, sampling)
    finally:
        await engine.close()


async def test_what_is_sent_and_what_comes_back() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 16}}
    with FakeServer([Answer(body=completion(usage=usage), delay=0.05)]) as server:
        got = await ask(server, Sampling(64, 0.0, 1.0, seed=7, stop=("\n",)), extra_body={"top_k": 1})
    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "You listen."}, {"role": "user", "content": "I lost my job."}],
        "max_tokens": 64,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 7,
        "stop": ["\n"],
        "top_k": 1,
    }
    assert (got.text, got.finish_reason) == (REPLY, "stop")
    assert (got.prompt_tokens, got.completion_tokens, got.cached_tokens) == (20, 5, 16)
    assert (got.cost, got.notes) == (None, ())
    assert 0.05 <= got.seconds < 5


async def test_without_seed_and_stop_neither_is_sent() -> None:
    with FakeServer() as server:
        await ask(server)
    assert set(server.requests[0].body) == {"model", "messages", "max_tokens", "temperature", "top_p"}


async def test_completions_api_sends_one_text() -> None:
    with FakeServer() as server:
        got = await ask(server, api="completions")
    assert server.requests[0].path == "/v1/completions"
    assert server.requests[0].body["prompt"] == "You listen.\n\nI lost my job."
    assert "messages" not in server.requests[0].body
    assert got.text == REPLY


LOOKED = date(2026, 11, 22)
HALF_A_DOLLAR = Price(prompt=0.5, completion=1.5, as_of=LOOKED)


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        ({"prompt_tokens": 1000, "completion_tokens": 100}, HALF_A_DOLLAR, 0.00065),
        ({"prompt_tokens": 1000, "completion_tokens": 0}, HALF_A_DOLLAR, 0.0005),
        ({"prompt_tokens": 1000, "completion_tokens": 100}, Price(prompt=0, completion=0, as_of=LOOKED), 0.0),
        ({"prompt_tokens": 1000, "completion_tokens": 100}, None, None),
        ({"prompt_tokens": 1000}, HALF_A_DOLLAR, None),
        (None, HALF_A_DOLLAR, None),
    ],
)
async def test_cost(usage: dict[str, int] | None, price: Price | None, cost: float | None) -> None:
    with FakeServer([Answer(body=completion(usage=usage))]) as server:
        got = await ask(server, price=price)
    assert got.cost == (None if cost is None else pytest.approx(cost))
    assert got.prompt_tokens == (usage or {}).get("prompt_tokens")


# Retries


@pytest.mark.parametrize(
    ("failure", "retried"),
    [
        *((error(status), True) for status in (408, 409, 429, 500, 502, 503, 504, 529)),
        *((error(status), False) for status in (400, 401, 402, 403, 404, 405, 413, 418, 422)),
        (error(429, type="insufficient_quota"), False),
        (Answer(503, "<html>Service Unavailable</html>", {"Content-Type": "text/html"}), True),
        (Answer(cut="before"), True),
        (Answer(cut="inside"), True),
    ],
    ids=lambda value: f"{value.status}{value.cut}" if isinstance(value, Answer) else str(value),
)
async def test_what_is_tried_again(failure: Answer, retried: bool) -> None:
    waits = Waits()
    with FakeServer([failure, failure]) as server:
        if retried:
            assert (await ask(server, sleep=waits)).text == REPLY
        else:
            with pytest.raises(EngineError):
                await ask(server, sleep=waits)
    assert len(server.requests) == (3 if retried else 1)
    assert len(waits.seconds) == (2 if retried else 0)


async def test_a_time_out_is_tried_again_and_then_an_error_of_this_reply_only() -> None:
    with FakeServer([Answer(delay=patience(1.0))]) as server:
        assert (await ask(server, timeout=patience(0.3))).text == REPLY
    with FakeServer(delay=patience(1.0)) as server:
        with pytest.raises(EngineError, match="did not answer in time") as raised:
            await ask(server, timeout=patience(0.2), max_retries=1)
        assert not isinstance(raised.value, FatalEngineError)
        assert len(server.requests) == 2


@pytest.mark.parametrize("retries", [0, 1, 6])
async def test_retries_are_bounded(retries: int) -> None:
    waits = Waits()
    overloaded = FakeServer(rule=lambda _: error(503, "overloaded"))
    with overloaded as server, pytest.raises(EngineError, match="status 503: overloaded") as raised:
        await ask(server, sleep=waits, max_retries=retries)
    assert not isinstance(raised.value, FatalEngineError)
    assert len(server.requests) == retries + 1
    assert len(waits.seconds) == retries


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After-Ms": "250"}, 0.25),
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After-Ms": "soon", "Retry-After": "9"}, 9.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed(headers: dict[str, str], asked: float, status: int) -> None:
    waits = Waits()
    with FakeServer([error(status, headers=headers)] * 5) as server:
        await ask(server, sleep=waits)
    assert len(waits.seconds) == 5
    assert all(asked <= seconds <= asked * 1.25 for seconds in waits.seconds)
    assert len(set(waits.seconds)) > 1  # spread, so that not everybody comes back at once


async def test_retry_after_as_a_date() -> None:
    waits = Waits()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    with FakeServer([error(429, headers={"Retry-After": date})]) as server:
        await ask(server, sleep=waits)
    assert 35 <= waits.seconds[0] <= 40 * 1.25


@pytest.mark.parametrize(
    "value",
    [
        "0", "-3", "nan", "inf", "soon", "", "1e308", "9" * 5000, "-1e308", "0x7", "\xb2",
        "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -1400", "Mon, 01 Jan 0001 00:00:00 +1400", "2026-01-01",
    ],
)  # fmt: skip
async def test_a_retry_after_that_says_nothing_leaves_our_own_wait(value: str) -> None:
    waits = Waits()
    with FakeServer([error(429, headers={"Retry-After": value})]) as server:
        await ask(server, sleep=waits)
    assert INITIAL_BACKOFF / 2 <= waits.seconds[0] <= INITIAL_BACKOFF


async def test_asked_to_wait_for_hours_is_fatal() -> None:
    waits = Waits()
    limited = FakeServer([error(429, "daily limit", {"Retry-After": "7200"})])
    with limited as server, pytest.raises(FatalEngineError, match="asks to wait 7200 seconds: daily limit"):
        await ask(server, sleep=waits)
    assert waits.seconds == []


async def test_waits_double_up_to_a_bound_with_jitter() -> None:
    waits = Waits()
    with FakeServer(rule=lambda _: error(500)) as server, pytest.raises(EngineError):
        await ask(server, sleep=waits, max_retries=10, jitter=random.Random(13))
    full = [min(INITIAL_BACKOFF * 2**n, MAX_BACKOFF) for n in range(10)]
    assert full[-1] == MAX_BACKOFF
    assert all(whole / 2 <= seconds <= whole for whole, seconds in zip(full, waits.seconds, strict=True))
    expected = random.Random(13)
    assert waits.seconds == [whole * expected.uniform(0.5, 1.0) for whole in full]


# Errors that end the run, or this reply


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "quota .* used up", "credit"),
        (error(429, "You exceeded your current quota", type="insufficient_quota"), "quota .* used up", "credit"),
        (error(402, "Insufficient balance"), "quota .* used up: Insufficient balance", "credit"),
        (error(401, "Incorrect API key"), "requires a key, and OPENAI_API_KEY is not set", "export OPENAI_API_KEY="),
        (error(403, "No access to this model"), "OPENAI_API_KEY may not use 'tiny' at http", "export OPENAI_API_KEY="),
        (error(404, "The model `tiny` does not exist.", code=404), "has no model 'tiny': The model", "--base-url"),
    ],
)
async def test_fatal_errors(answer: Answer, message: str, hint: str) -> None:
    with FakeServer([answer]) as server, pytest.raises(FatalEngineError, match=message) as raised:
        await ask(server)
    assert hint in raised.value.hint
    assert len(server.requests) == 1


async def test_other_bad_requests_keep_the_servers_message() -> None:
    bodies: list[tuple[Any, str]] = [
        ({"error": {"message": "Invalid 'messages[0].role'", "code": "invalid_value"}}, r"400: Invalid 'messages"),
        ({"detail": "top_k must be\npositive"}, "400: top_k must be positive"),
        ({"message": "no luck"}, "400: no luck"),
        ("plain words", "400: plain words"),
        ("x" * 5000, "400: x{299}…$"),
        ("", "400: the server gave no reason"),
    ]
    for body, message in bodies:
        with FakeServer([Answer(400, body)]) as server, pytest.raises(EngineError, match=message) as raised:
            await ask(server)
        assert not isinstance(raised.value, (FatalEngineError, PromptTooLongError))


async def test_a_lost_connection_is_fatal_after_all_retries() -> None:
    waits = Waits()
    with FakeServer(rule=lambda _: Answer(cut="before")) as server:
        with pytest.raises(FatalEngineError, match=r"no server answers at http://127\.0\.0\.1") as raised:
            await ask(server, sleep=waits, max_retries=3)
        assert len(server.requests) == 4
    assert len(waits.seconds) == 3
    assert "vllm serve" in raised.value.hint


async def test_a_server_that_goes_away_is_fatal_after_all_retries(closed_port: int) -> None:
    waits = Waits()
    engine = OpenAIEngine("tiny", f"http://127.0.0.1:{closed_port}/v1", sleep=waits, max_retries=2)
    with pytest.raises(FatalEngineError, match=f"no server answers at http://127.0.0.1:{closed_port}/v1"):
        await engine.chat(MESSAGES, GREEDY)
    await engine.close()
    assert len(waits.seconds) == 2


@pytest.mark.parametrize(
    ("answer", "prompt_tokens", "context_length"),
    [
        # OpenAI
        (
            error(
                400,
                "This model's maximum context length is 4097 tokens. However, your messages resulted in 4500 tokens. "
                "Please reduce the length of the messages.",
                type="invalid_request_error",
                param="messages",
                code="context_length_exceeded",
            ),
            4500,
            4097,
        ),
        (
            error(
                400,
                "This model's maximum context length is 4097 tokens, however you requested 5000 tokens (4872 in your "
                "prompt; 128 for the completion). Please reduce your prompt; or completion length.",
            ),
            4872,
            4097,
        ),
        (error(400, "Your input is too long.", code="context_length_exceeded"), None, 9999),
        # vLLM 0.32
        (
            error(
                400,
                "This model's maximum context length is 2048 tokens. However, your prompt contains 2100 input tokens, "
                "which exceeds this limit even without any output tokens. Please reduce the length of the input "
                "prompt. (parameter=input_tokens, value=2100)",
                type="BadRequestError",
                param="input_tokens",
                code=400,
            ),
            2100,
            2048,
        ),
        (
            error(
                400,
                "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 "
                "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of "
                "the input prompt.",
            ),
            None,
            2048,
        ),
        (
            error(
                400,
                "This model's maximum context length is 2048 tokens. However, your prompt contains 99999 characters "
                "(more than 20480 characters, which is the upper bound for 2048 input tokens). Please reduce the "
                "length of the input prompt.",
            ),
            None,
            2048,
        ),
        (
            error(
                400,
                "The decoder prompt (length 2048) plus the number of requested output tokens (at least 1) is longer "
                "than the maximum model length of 2048. Make sure that `max_model_len` is no smaller than ...",
            ),
            2048,
            2048,
        ),
        (
            error(400, "max_tokens=9000 cannot be greater than max_model_len=2048. Please request fewer tokens."),
            None,
            2048,
        ),
        # llama.cpp
        (
            error(
                400,
                "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it",
                type="exceed_context_size_error",
            ),
            4390,
            4096,
        ),
        (error(500, "the request exceeds the available context size", type="exceed_context_size_error"), None, 9999),
    ],
)
async def test_a_prompt_that_is_too_long(answer: Answer, prompt_tokens: int | None, context_length: int) -> None:
    with FakeServer([answer]) as server, pytest.raises(PromptTooLongError) as raised:
        await ask(server, context_length=9999)
    assert len(server.requests) == 1
    assert raised.value.prompt_tokens == prompt_tokens
    assert raised.value.context_length == context_length
    assert raised.value.reply_tokens == 64


@pytest.mark.parametrize(
    ("prompt_tokens", "finish_reason", "fits"),
    [(1000, "length", False), (1000, "stop", True), (960, "length", True), (961, "length", False)],
)
async def test_a_reply_cut_by_the_end_of_the_context(prompt_tokens: int, finish_reason: str, fits: bool) -> None:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 5}
    with FakeServer([Answer(body=completion(finish_reason=finish_reason, usage=usage))]) as server:
        if fits:
            assert (await ask(server, context_length=1024)).finish_reason == finish_reason
        else:
            with pytest.raises(PromptTooLongError):
                await ask(server, context_length=1024)


# Parameters that a model refuses


def refusal(name: str, code: str | None = "unsupported_parameter") -> Answer:
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return error(400, message, type="invalid_request_error", param=name if code else None, code=code)


def reasoning_model(request: Request) -> Answer | None:
    """Refuses what OpenAI's reasoning models refuse, one parameter at a time as they do."""
    if "max_tokens" in request.body:
        return refusal("max_tokens")
    if request.body.get("temperature", 1) != 1:
        text = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is."
        return error(400, text, param="temperature", code="unsupported_value")
    return next((refusal(name) for name in ("top_p", "stop") if name in request.body), None)


async def test_refused_parameters_are_replaced_once_for_all_calls() -> None:
    engine_notes = (
        "max_tokens sent as max_completion_tokens: the model refuses it",
        "temperature dropped: the model refuses it",
        "top_p dropped: the model refuses it",
    )
    waits = Waits()
    with FakeServer(rule=reasoning_model, delay=0.02) as server:
        async with OpenAIEngine("tiny", server.url, concurrency=8, sleep=waits) as engine:
            first = await asyncio.gather(*(engine.chat(MESSAGES, GREEDY) for _ in range(20)))
            sent = len(server.requests)
            later = await engine.chat(MESSAGES, GREEDY)
            assert len(server.requests) == sent + 1  # nothing is asked that was refused before
            with_stop = await engine.chat(MESSAGES, Sampling(stop=("\n",)))
            described = engine.describe()
    assert all(answer.text == REPLY and answer.notes == engine_notes for answer in [*first, later])
    assert with_stop.notes == (*engine_notes, "stop dropped: the model refuses it")
    refused = [request for request in server.requests[:sent] if reasoning_model(request)]
    assert 3 <= len(refused) <= 8 * 3  # at most those that were under way before the first refusal came back
    assert waits.seconds == []
    last = server.requests[sent].body
    assert set(last) == {"model", "messages", "max_completion_tokens"}
    assert last["max_completion_tokens"] == 64
    assert described["changed_parameters"] == {
        "max_tokens": "max_completion_tokens",
        "stop": None,
        "temperature": None,
        "top_p": None,
    }


async def test_a_further_sampling_parameter_is_sent_and_where_it_is_refused_an_error() -> None:
    with FakeServer([Answer(), refusal("repetition_penalty")]) as server:
        got = await ask(server, Sampling(repetition_penalty=1.2))
        assert (server.requests[0].body["repetition_penalty"], got.notes) == (1.2, ())
        with pytest.raises(FatalEngineError, match="refuses repetition_penalty"):
            await ask(server, Sampling(repetition_penalty=1.2))
        assert len(server.requests) == 2, "it is not asked again without"


async def test_a_server_that_does_not_hold_replies_to_choices_is_found_out() -> None:
    with FakeServer() as server:
        with pytest.raises(EngineError, match="none of the texts in choice: it ignores structured_outputs"):
            await ask(server, Sampling(choice=("yes", "no")))
        assert server.requests[0].body["structured_outputs"] == {"choice": ["yes", "no"]}
        assert (await ask(server, Sampling(choice=("yes", REPLY)))).text == REPLY


async def test_a_temperature_that_is_dropped_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with FakeServer([refusal("temperature")]) as server:
        await ask(server)
    assert [record.message for record in caplog.records] == ["tiny refuses temperature, so replies are made without it"]


async def test_a_refusal_without_code_is_recognised_by_its_words() -> None:
    with FakeServer([refusal("temperature", code=None)]) as server:
        got = await ask(server)
    assert got.notes == ("temperature dropped: the model refuses it",)
    assert "temperature" not in server.requests[1].body


SCHEMA = """{"type": "object", "properties": {"choice": {"enum": ["A", "B"]}}, "required": ["choice"],
 "additionalProperties": false}"""


async def test_a_schema_is_sent_as_a_strict_response_format() -> None:
    with FakeServer() as server:
        got = await ask(server, Sampling(schema=SCHEMA))
        await ask(server)
        await ask(server, Sampling(schema=SCHEMA), api="completions")
    form = {"name": "answer", "strict": True, "schema": json.loads(SCHEMA)}
    assert server.requests[0].body["response_format"] == {"type": "json_schema", "json_schema": form}
    assert got.notes == ()
    assert not any("response_format" in request.body for request in server.requests[1:])


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}, "required": ["a"],
          "additionalProperties": False}, False),
        ({"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"properties": {"b": {}}}]}},
          "required": ["a"], "additionalProperties": False}, False),
        ({"type": "object", "properties": {"enum": {"enum": ["type"]}}, "required": ["enum"],
          "additionalProperties": False}, True),
    ],
    ids=["closed", "more-fields", "optional-field", "open-items", "open-alternative", "field-called-enum"],
)  # fmt: skip
async def test_only_a_closed_schema_is_strict(schema: dict[str, Any], strict: bool) -> None:
    with FakeServer() as server:
        await ask(server, Sampling(schema=json.dumps(schema)))
    form = {"name": "answer", "strict": strict, "schema": schema}
    assert server.requests[0].body["response_format"]["json_schema"] == form


@pytest.mark.parametrize(
    "refused",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",  # OpenAI, gpt-4
        "This response_format type is unavailable now",  # DeepSeek
        "This model does not support response format `json_schema`.",  # Groq
        "Unsupported parameter: 'response_format' is not supported with this model.",
    ],
)
async def test_a_model_that_cannot_be_held_to_a_schema_is_asked_without(refused: str) -> None:
    answer = error(400, refused, type="invalid_request_error", param=None, code="invalid_request_error")
    with FakeServer([answer]) as server:
        got = await ask(server, Sampling(schema=SCHEMA))
    assert got.notes == ("response_format dropped: the model refuses it",)
    assert "response_format" not in server.requests[1].body


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("messages", {}),
        ("seed", {}),  # was not sent
        ("max_tokens", {"api": "completions"}),  # has no other name there
        ("temperature", {"extra_body": {"temperature": 0.3}}),  # wanted by the user in so many words
    ],
)
async def test_a_refusal_that_nothing_can_be_done_about_is_an_error(name: str, options: dict[str, Any]) -> None:
    strict = FakeServer(rule=lambda _: refusal(name))
    with strict as server, pytest.raises(EngineError, match=f"Unsupported parameter: '{name}'"):
        await ask(server, **options)
    assert len(server.requests) == 1


async def test_a_parameter_refused_under_both_names_is_an_error() -> None:
    def rule(request: Request) -> Answer:
        return refusal("max_tokens" if "max_tokens" in request.body else "max_completion_tokens")

    with FakeServer(rule=rule) as server, pytest.raises(EngineError, match="max_completion_tokens"):
        await ask(server)
    assert len(server.requests) == 2


# Odd answers


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"message": {"content": ""}}, "", "stop"),
        ({"message": {"content": "Hi."}, "finish_reason": "length"}, "Hi.", "length"),
        ({"message": {"content": "Hi."}, "finish_reason": None}, "Hi.", "unknown"),
        ({"message": {"content": "Hi.", "reasoning_content": "They greet me."}}, "Hi.", "stop"),
    ],
)
async def test_odd_answers_that_have_a_text(choice: dict[str, Any], text: str, reason: str) -> None:
    with FakeServer([Answer(body=completion(**choice))]) as server:
        got = await ask(server)
    assert (got.text, got.finish_reason) == (text, reason)


# Concurrency


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_no_more_requests_at_once_than_asked_for(concurrency: int) -> None:
    with FakeServer(delay=0.03) as server:
        engine = OpenAIEngine("tiny", server.url, concurrency=concurrency)
        answers = await asyncio.gather(*(engine.chat(MESSAGES, GREEDY) for _ in range(12)))
        await engine.close()
    assert server.most_at_once == concurrency
    assert len(server.requests) == 12
    # The wait for a place is not the server's time: `concurrency` must not change what is reported of it.
    assert all(answer.seconds >= 0.03 for answer in answers)
    assert min(answer.seconds for answer in answers) < 0.03 * 12 / concurrency


async def test_a_waiting_call_keeps_its_place() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: float) -> None:
        started.set()
        await go_on.wait()

    with FakeServer([error(429)]) as server:
        engine = OpenAIEngine("tiny", server.url, concurrency=1, sleep=wait)
        first = asyncio.create_task(engine.chat(MESSAGES, GREEDY))
        await started.wait()
        second = asyncio.create_task(engine.chat(MESSAGES, GREEDY))
        await asyncio.sleep(0.05)
        assert len(server.requests) == 1
        go_on.set()
        await asyncio.gather(first, second)
        await engine.close()
    assert len(server.requests) == 3


# Start


async def start(url: str | None, **options: Any) -> OpenAIEngine:
    engine = OpenAIEngine(**{"model": "tiny", "base_url": url, "sleep": Waits(), **options})
    try:
        await engine.start()
    finally:
        await engine.close()
    return engine


async def test_start_asks_for_the_models_and_learns_the_context_length() -> None:
    listing = {"data": [{"id": "other", "max_model_len": 512}, {"id": "tiny", "max_model_len": 2048}]}
    with FakeServer(models=Answer(body=listing)) as server:
        assert (await start(server.url)).context_length == 2048
        assert (await start(server.url, context_length=1024)).context_length == 1024
    assert [request.path for request in server.listings] == ["/v1/models"] * 2
    assert server.requests == []


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (error(404, "Not Found"), ""),
        (error(405), ""),
        (error(403, "You have insufficient permissions for this operation. Missing scopes: api.model.read."), ""),
        (Answer(body=[{"id": "tiny"}]), ""),
        (Answer(body=gzip.compress(b'[{"id": "tiny"}]'), headers={"Content-Encoding": "gzip"}), ""),
        (Answer(body={"data": [{"id": "tiny:latest"}]}), ""),
        (Answer(body={"data": [{"id": "*"}, {"id": "tiny"}]}), ""),
        (Answer(body={"data": [{"id": "tiny", "max_model_len": "long"}, None]}), ""),
        (Answer(body={"data": []}), "does not list the model 'tiny'"),
        (Answer(body={"data": None}), "does not list the model 'tiny'"),
        (Answer(body={"data": [{"id": f"model-{n}"} for n in range(300)]}), "does not list the model 'tiny'"),
        (Answer(body={"data": [{"id": "*"}]}), "does not list the model 'tiny'"),
        (Answer(body={"data": [{"id": "openai/*"}, {"id": "a"}]}), "does not list the model 'tiny'"),
        (Answer(body={"data": [{"id": "a"}, None]}), "does not list the model 'tiny'"),
        (Answer(body={"data": ["a", "b"]}), "does not list the model 'tiny'"),
        (Answer(body={"data": [{"name": "a"}, 7]}), "does not list the model 'tiny'"),
        (Answer(body={"data": "many"}), "not a list of models: {'data': 'many'}"),
        (Answer(body="<html>Hi</html>", headers={"Content-Type": "text/html"}), "a web page: <html>Hi</html>"),
        (Answer(body="{"), "not valid JSON"),
        (Answer(body=""), "it is empty"),
        (Answer(204, ""), "it is empty"),
        (Answer(body="null"), "not a list of models: None"),
        (Answer(body={"error": "Unexpected endpoint"}), "Unexpected endpoint"),
        (error(400, "no such page"), "status 400: no such page"),
        (error(403, "forbidden"), "v1: forbidden"),
        (error(500, "boom"), "status 500: boom"),
        (Answer(cut="before"), "disconnected"),
        (Answer(body=b"x", headers={"Content-Encoding": "br"}), "compressed as 'br'"),
    ],
)
async def test_the_list_of_models_is_advice(models: Answer, told: str, caplog: pytest.LogCaptureFixture) -> None:
    with FakeServer(models=models) as server:
        engine = OpenAIEngine("tiny", server.url, sleep=Waits())
        async with engine:
            assert (await engine.chat(MESSAGES, GREEDY)).text == REPLY
        assert len(server.listings) == 1
    assert engine.context_length is None
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == bool(told)
    assert told in "".join(warnings)


@pytest.mark.parametrize(
    ("models", "message", "hint"),
    [
        (error(401, "bad key"), "requires a key, and OPENAI_API_KEY is not set", "OPENAI_API_KEY"),
        (Answer(body={"data": [{"id": "b"}, {"id": "a"}]}), "has no model 'tiny'", "its models: a, b"),
        (Answer(body=[{"id": "a\x1b[2J"}]), "has no model 'tiny'", "its models: a\\x1b[2J"),
    ],
)
async def test_start_fails_with_the_reason(models: Answer, message: str, hint: str) -> None:
    with FakeServer(models=models) as server, pytest.raises(FatalEngineError, match=message) as raised:
        await start(server.url)
    assert hint in raised.value.hint


async def test_start_without_a_server_fails_at_once(closed_port: int) -> None:
    waits = Waits()
    url = f"http://127.0.0.1:{closed_port}/v1"
    with pytest.raises(FatalEngineError, match=f"no server answers at {url}") as raised:
        await start(url, sleep=waits)
    assert "--base-url" in raised.value.hint
    assert waits.seconds == []


async def test_openais_own_server_needs_a_key_before_any_request() -> None:
    for url in (None, "https://eu.api.openai.com/v1"):
        with pytest.raises(FatalEngineError, match="requires a key, and OPENAI_API_KEY is not set") as raised:
            await start(url)
        assert "export OPENAI_API_KEY=" in raised.value.hint


# Keys, URLs, options


@pytest.mark.parametrize(
    ("given", "environment", "sent"),
    [
        (None, None, "not-needed"),
        (None, "sk-env", "sk-env"),
        ("sk-given", "sk-env", "sk-given"),
        (" sk-1\n", "", "sk-1"),
    ],
)
async def test_which_key_is_sent(
    given: str | None, environment: str | None, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is not None:
        monkeypatch.setenv("OPENAI_API_KEY", environment)
    with FakeServer() as server:
        await ask(server, api_key=given)
    assert server.requests[0].headers["authorization"] == f"Bearer {sent}"


async def test_the_environments_url_is_used_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        await start(None)
    assert len(server.listings) == 1


@pytest.mark.parametrize(
    ("url", "named", "environment", "told"),
    [
        ("http://a/v1", True, "", "check --base-url: it usually ends in /v1"),
        ("http://a/v1", False, "", "check base_url in the model's profile: it usually ends in /v1"),
        (None, True, "http://b/v1", "check OPENAI_BASE_URL: it usually ends in /v1"),
        (None, True, "", "check the network, or give a server of your own with --base-url"),
    ],
)
def test_a_hint_names_what_gave_the_url(
    url: str | None, named: bool, environment: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", environment)
    assert Target.resolve("tiny", url, "sk-1", named=named).url_hint == told


async def test_the_key_is_never_shown() -> None:
    with FakeServer([error(401, "Incorrect API key provided: sk-secret-1.")]) as server:
        address = server.url.replace("http://", "http://user:password@") + "/?token=abc"
        engine = OpenAIEngine("tiny", address, api_key="sk-secret-1", extra_body={"api_key": "sk-2", "top_k": 1})
        described = engine.describe()
        await engine.close()
        with pytest.raises(FatalEngineError, match=r"provided: \*\*\*\.") as raised:
            await ask(server, api_key="sk-secret-1")
    assert described["base_url"] == server.url
    assert described["extra_body"] == {"api_key": "***", "top_k": 1}
    assert (described["engine"], described["api"], described["model"]) == ("openai", "chat", "tiny")
    shown = json.dumps(described) + raised.value.message + raised.value.hint
    for secret in ("sk-", "password", "abc"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda: OpenAIEngine("tiny", "localhost:8000/v1"), OptionError),
        (lambda: OpenAIEngine("tiny", "ftp://localhost/v1"), OptionError),
        (lambda: OpenAIEngine("tiny", "http://localhost:many/v1"), OptionError),
        (lambda: OpenAIEngine("tiny", "http://"), OptionError),
        (lambda: OpenAIEngine("tiny", ""), OptionError),
        (lambda: OpenAIEngine("tiny", " "), OptionError),
        (lambda: OpenAIEngine("tiny", api_key="“sk-1”"), OptionError),
        (lambda: OpenAIEngine("tiny", concurrency=0), OptionError),
        (lambda: OpenAIEngine("tiny", max_retries=-1), OptionError),
        (lambda: OpenAIEngine("tiny", timeout=0), OptionError),
        (lambda: OpenAIEngine("tiny", api="responses"), UnknownNameError),  # type: ignore[arg-type]
    ],
)
def test_options_out_of_range(build: Callable[[], Awaitable[object]], kind: type[LocalempError]) -> None:
    with pytest.raises(kind) as raised:
        build()
    assert raised.value.hint

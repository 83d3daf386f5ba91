"""What a strategy's client gets when the model's server answers oddly; in process, no sockets."""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from localemp.pipeline.config import RunConfig
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.settings import ServeSettings

TALK = [{"role": "user", "content": "I lost my keys."}]
RECIPE = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1")


class OddServer:
    """Answers each request with the next of the given answers, the last one for good; keeps what it was asked."""

    def __init__(self, *answers: "tuple[int, bytes, dict[str, str]]") -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    async def __call__(self, scope, receive, send) -> None:
        body = b""
        while (event := await receive()) and event["type"] == "http.request":
            body += event["body"]
            if not event.get("more_body"):
                break
        self.asked.append(json.loads(body))
        status, content, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for at in range(0, len(content), 11):
            await send({"type": "http.response.body", "body": content[at : at + 11], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def whole(text: Any = "Oh no.", reason="stop", usage=None, **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def ok(content: bytes, kind="application/json", **headers: str):
    return 200, content, {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}


def events(*deltas: Any, reason: str | None = "stop", done=True, usage=None):
    values: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    values += [{"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}] if reason else []
    values += [{"choices": [], "usage": usage}] if usage else []
    lines = [b"data: " + json.dumps(value).encode() + b"\n\n" for value in values]
    return b"".join([*lines, *([b"data: [DONE]\n\n"] if done else [])])


def stream(content: bytes, **headers: str):
    return ok(content, "text/event-stream", **headers)


async def ask(server: OddServer, strategy="zero-shot", config: RunConfig = RECIPE, **body: Any) -> httpx.Response:
    settings = ServeSettings.of("tiny", config, strategies=("zero-shot", "two-stage"), ui=False)
    transport = httpx.ASGITransport(StrategyMiddleware(server, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        asked = {"model": f"tiny:{strategy}", "messages": TALK} | body
        kind = {"content-type": "application/json"}
        return await client.post("/v1/chat/completions", content=json.dumps(asked), headers=kind)


def told(answer: httpx.Response) -> tuple[str, str, dict[str, Any], bool]:
    """Content, thought and error of a stream, and whether it said [DONE]."""
    text, thought, error = "", "", {}
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    for line in lines:
        chunk = {} if line == "[DONE]" else json.loads(line)
        error = chunk.get("error", error)
        for choice in chunk.get("choices", ()):
            text += choice["delta"].get("content") or ""
            thought += choice["delta"].get("reasoning_content") or ""
    return text, thought, error, "[DONE]" in lines


HARMONY = "<|channel|>analysis<|message|>Sad.<|end|><|start|>assistant<|channel|>final<|message|>Oh no."


@pytest.mark.parametrize(
    ("content", "thought"),
    [
        ("<think>\nSad.\n</think>\n\nOh no.", "Sad."),
        ("Sad.\n</think>\n\nOh no.", "Sad."),
        ("[THINK]Sad.[/THINK]Oh no.", "Sad."),
        (HARMONY, "Sad."),
        ("<think>\n\n</think>\n\nOh no.", None),
        ([{"type": "thinking", "thinking": "Sad."}, {"type": "text", "text": "Oh no."}], "Sad."),
    ],
)
async def test_thinking_is_set_apart_in_both_stages(content, thought):
    server = OddServer(ok(whole(content)))
    answer = (await ask(server, "two-stage")).json()
    message = answer["choices"][0]["message"]
    assert (message["content"], message.get("reasoning_content")) == ("Oh no.", thought)
    assert server.asked[1]["messages"][-2] == {"role": "assistant", "content": "Oh no."}


@pytest.mark.parametrize(
    ("reported", "counted"),
    [
        ({"reasoning_tokens": 4}, {"reasoning_tokens": 8}),
        ({"reasoning_tokens": 0}, None),  # it did think
        ({"reasoning_tokens": 99}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_the_tokens_of_thinking_are_added_up_over_the_stages(reported, counted, streamed):
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": reported}
    stage = ok(whole("Sad.</think>Oh no.", usage=usage))
    last = stream(events({"content": "Oh no."}, usage=usage)) if streamed else stage
    more = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    answer = await ask(OddServer(stage, last), "two-stage", **more)
    told_last = answer.text.split("data: ")[-2] if streamed else answer.text
    found = json.loads(told_last)["usage"]
    assert (found["prompt_tokens"], found["completion_tokens"]) == (14, 18)
    assert found.get("completion_tokens_details") == counted


@pytest.mark.parametrize(
    ("text", "counted"), [("<think>Sad.</think>Oh no.", None), ("Oh no.", {"reasoning_tokens": 0})]
)
async def test_a_count_of_no_thinking_in_mid_stream_is_not_believed_beside_thinking(text, counted):
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 0}}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
    last = stream(b"data: " + json.dumps({"choices": [choice], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")
    answer = await ask(OddServer(last), stream=True)
    assert json.loads(answer.text.split("data: ")[1])["usage"].get("completion_tokens_details") == counted


THINKING = RunConfig(model="qwen3", thinking="on", thinking_budget=50, max_tokens=10)
SWITCHES = ({}, {"enable_thinking": True}, {"chat_template_kwargs": {"enable_thinking": True}})


@pytest.mark.parametrize("switch", SWITCHES, ids=["nothing", "field", "template"])
async def test_both_stages_of_a_thinking_model_have_room_for_it(switch):
    server = OddServer(ok(whole("Sad.</think>Oh no.")))
    assert (await ask(server, "two-stage", THINKING, **switch)).status_code == 200
    for body in server.asked:
        assert body["chat_template_kwargs"] == {"enable_thinking": True}
        assert (body["max_tokens"], body["thinking_token_budget"], "enable_thinking" in body) == (60, 50, False)


@pytest.mark.parametrize(("limit", "budget"), [(40, 30), (500, 50), (5, 1)])
async def test_a_clients_limit_is_of_thinking_and_reply(limit, budget):
    server = OddServer(ok(whole()))
    await ask(server, "two-stage", THINKING, max_tokens=limit)
    assert [(body["max_tokens"], body["thinking_token_budget"]) for body in server.asked] == [(60, 50), (limit, budget)]


@pytest.mark.parametrize(
    "switch",
    [{"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}},
     {"chat_template_kwargs": {"enable_thinking": 1, "x": 2}}, {"thinking_token_budget": "many"}],
    ids=["field", "template", "more", "budget"],
)  # fmt: skip
async def test_a_client_does_not_decide_whether_the_model_thinks(switch):
    server = OddServer(ok(whole()))
    answer = await ask(server, "two-stage", THINKING, **switch)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(switch)))
    assert not server.asked, "it is told before a stage costs anything"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("reason", "status", "param"), [("length", 400, "max_tokens"), ("stop", 502, None)])
async def test_a_reply_that_never_came_says_why(reason, status, param, streamed):
    """A client can raise its limit; a model that ends its turn within its thinking is no fault of a client."""
    server = OddServer(ok(whole("<think>So the speaker", reason=reason)))
    answer = await ask(server, "two-stage", THINKING, stream=streamed)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, "still_thinking", param)
    assert ("limit" in error["message"]) == (reason == "length")


@pytest.mark.parametrize("text", ["<think>\nSad.\n</think>\n\nOh no.", "[THINK]Sad.[/THINK]Oh no.", HARMONY])
async def test_thinking_is_set_apart_in_a_stream(text):
    pieces = [{"content": text[at : at + 4]} for at in range(0, len(text), 4)]
    said, thought, error, done = told(await ask(OddServer(stream(events(*pieces))), stream=True))
    assert (said, thought.strip(), error, done) == ("Oh no.", "Sad.", {}, True)


async def test_a_thought_that_the_template_opens_is_known_from_the_second_stream_on():
    pieces = [{"content": part} for part in ("Sa", "d.</th", "ink>Oh", " no.")]
    settings = ServeSettings.of("tiny", RECIPE, strategies=("zero-shot",), ui=False)
    app = StrategyMiddleware(OddServer(stream(events(*pieces))), settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000") as client:
        asked = {"model": "tiny:zero-shot", "messages": TALK, "stream": True}
        first = told(await client.post("/v1/chat/completions", json=asked))
        second = told(await client.post("/v1/chat/completions", json=asked))
    assert (first[0], second[0], second[1]) == ("Sad.Oh no.", "Oh no.", "Sad.")


async def test_a_reply_that_speaks_of_a_mark_spoils_no_later_stream():
    first = stream(events({"content": "The tag </think> closes."}))
    plain = stream(events({"content": "Oh "}, {"content": "no."}))
    settings = ServeSettings.of("tiny", RECIPE, strategies=("zero-shot",), ui=False)
    app = StrategyMiddleware(OddServer(first, plain), settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000") as client:
        asked = {"model": "tiny:zero-shot", "messages": TALK, "stream": True}
        answers = [told(await client.post("/v1/chat/completions", json=asked)) for _ in range(3)]
    assert [text for text, *_ in answers[1:]] == ["Oh no.", "Oh no."]
    assert answers[2][1] == "", "it is known by then that the model does not think"


@pytest.mark.parametrize(
    "answer",
    [
        stream(events({"content": "Oh "}, {"content": "no."})),
        stream(events({"content": "Oh "}, {"content": "no."}, done=False)),
        stream(events({"content": "Oh "}, {"content": "no."}, reason=None)),
        stream(events({"content": "Oh "}, {"content": "no."}).replace(b"\n", b"\r\n")),
        stream(events({"content": "Oh "}, {"content": "no."}).replace(b"\n", b"\r")),
        stream(b"\xef\xbb\xbf" + events({"content": "Oh "}, {"content": "no."})),
        ok(events({"content": "Oh "}, {"content": "no."}), "text/plain"),
        stream(gzip.compress(events({"content": "Oh "}, {"content": "no."})), content_encoding="gzip"),
        stream(zlib.compress(events({"content": "Oh "}, {"content": "no."})), content_encoding="deflate"),
        ok(whole()),
        ok(gzip.compress(whole()), content_encoding="gzip"),
    ],
)
async def test_every_whole_stream_is_the_same_to_the_client(answer):
    assert told(await ask(OddServer(answer), stream=True)) == ("Oh no.", "", {}, True)


async def test_what_was_held_back_comes_when_the_stream_ends_without_a_reason():
    said, *_, done = told(await ask(OddServer(stream(events({"content": "Listen"}, reason=None))), stream=True))
    assert (said, done) == ("Listen", True)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (stream(events({"content": "Oh "}, reason=None, done=False)), "upstream_unreadable"),
        (stream(events({"content": "Oh "}, reason=None, done=False) + b'data: {"cho'), "upstream_unreadable"),
        (stream(events({"content": "Oh "}, reason=None, done=False) + b"data: null\n\n"), "upstream_unreadable"),
        (
            stream(events({"content": "Oh "}, reason=None, done=False) + b'data: {"error": {"code": "gone"}}\n\n'),
            "gone",
        ),
    ],
)
async def test_a_cut_stream_ends_with_an_error_event(answer, code):
    got = await ask(OddServer(answer), stream=True)
    said, _, error, done = told(got)
    assert (got.status_code, said, error["code"], done) == (200, "Oh", code, False)


ODD = {
    "html": ok(b"<html><h1>Back soon</h1></html>", "text/html"),
    "empty": ok(b""),
    "blank": ok(b"\n \n"),
    "cut": ok(whole()[:50]),
    "null": ok(b"null"),
    "no-choices": ok(b'{"choices": []}'),
    "204": (204, b"", {}),
    "302": (302, b"", {"location": "http://127.0.0.1:9/"}),
    "br": ok(b"\x0b\x02\x80", content_encoding="br"),
    "broken-gzip": ok(gzip.compress(whole())[:-9], content_encoding="gzip"),
    "bomb": ok(gzip.compress(bytes(65 * 2**20)), content_encoding="gzip"),
    "deep": ok(b"[" * 100_000),
    "digits": ok(b'{"choices": [{"message": {"content": "a"}}], "created": ' + b"9" * 5_000 + b"}"),
}


@pytest.mark.parametrize("way", ODD)
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_completion_is_502_with_one_log_line(way, streamed, caplog):
    got = await ask(OddServer(ODD[way]), stream=streamed)
    assert (got.status_code, got.json()["error"]["code"]) == (502, "upstream_unreadable")
    assert [record.exc_info for record in caplog.records if record.name.startswith("localemp")] == [None]


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (ok(b'{"error": {"code": 429, "message": "slow down"}}'), 429, "slow down"),
        (ok(whole("", "error")), 502, "ended with"),
        ((503, b"<html>nginx</html>", {"content-type": "text/html"}), 503, "<html>nginx</html>"),
        ((500, b"", {}), 500, "no reason"),
        ((429, gzip.compress(b'{"error": {"message": "slow"}}'), {"content-encoding": "gzip"}), 429, "slow"),
        ((400, b'{"detail": "bad"}', {}), 400, "bad"),
    ],
)
@pytest.mark.parametrize("strategy", ["zero-shot", "two-stage"])
async def test_an_error_keeps_its_status_and_openais_form(answer, status, message, strategy):
    got = await ask(OddServer(answer), strategy)
    assert got.status_code == status
    assert message in got.json()["error"]["message"]


async def test_halves_of_characters_are_replaced():
    assert (await ask(OddServer(ok(whole("no \ud83d"))))).json()["choices"][0]["message"]["content"] == "no \ufffd"
    pieces = [{"content": "no \ud83d"}, {"content": "\ude2e!"}]
    assert told(await ask(OddServer(stream(events(*pieces))), stream=True))[0] == "no \U0001f62e!"
    assert told(await ask(OddServer(stream(events(pieces[0]))), stream=True))[0] == "no \ufffd"


async def test_half_a_character_in_a_request_is_replaced():
    server = OddServer(ok(whole()))
    got = await ask(server, messages=[{"role": "user", "content": "keys \ud83d"}], user="\ud83d")
    assert got.status_code == 200
    assert server.asked[0]["messages"][-1]["content"] == "keys \ufffd"


@pytest.mark.parametrize("strategy", ["zero-shot", "two-stage"])
async def test_unknown_tokens_are_not_zero(strategy):
    known = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    unknown = (await ask(OddServer(ok(whole())), strategy)).json()
    assert unknown["usage"] is None
    half = (await ask(OddServer(ok(whole()), ok(whole(usage=known))), "two-stage")).json()
    assert half["usage"] is None
    both = (await ask(OddServer(ok(whole(usage=known))), "two-stage")).json()
    assert both["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    assert '"usage"' not in (await ask(OddServer(stream(events({"content": "Oh"}))), **options)).text
    assert '"total_tokens": 5' in (await ask(OddServer(stream(events({"content": "Oh"}, usage=known))), **options)).text


EMPTY = ({"content": ""}, {"content": None}, {}, {"content": []}, {"content": " \n"}, {"content": [{"type": "text"}]})


@pytest.mark.parametrize("turn", [*EMPTY, {"content": None, "tool_calls": []}, {"content": "<think>Hm"}])
async def test_an_empty_turn_of_a_stopped_answer_says_nothing(turn):
    server = OddServer(ok(whole()))
    talk = [*TALK, {"role": "assistant", **turn}, {"role": "user", "content": "For the office."}]
    assert (await ask(server, messages=talk)).status_code == 200
    assert server.asked[0]["messages"][-1] == {"role": "user", "content": "I lost my keys.\nFor the office."}


async def test_a_thought_that_a_client_sends_back_is_left_out():
    server = OddServer(ok(whole()))
    turn = {"role": "assistant", "content": "<think>Sad.</think>Where?", "reasoning_content": "Sad."}
    await ask(server, messages=[*TALK, turn, {"role": "user", "content": "At home."}])
    assert server.asked[0]["messages"][-2] == {"role": "assistant", "content": "Where?"}


async def test_what_belongs_to_tools_goes_where_there_are_none():
    server = OddServer(ok(whole()))
    await ask(server, tools=[], tool_choice="auto", parallel_tool_calls=False, user="u")
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & server.asked[0].keys()
    assert server.asked[0]["user"] == "u"


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"n": 0}, {"max_tokens": "7"}, {"seed": True}])
async def test_a_wrong_value_is_refused_before_the_first_stage(wrong):
    server = OddServer(ok(whole()))
    got = await ask(server, "two-stage", **wrong)
    assert (got.status_code, got.json()["error"]["param"], server.asked) == (400, next(iter(wrong)), [])

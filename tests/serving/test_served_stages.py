"""Stages of flows behind the endpoint: candidates of the last one, labels, stages at once, and what fails in them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from asgi_client import ask, scope_of, send_json
from model_app import ModelApp
from patience import patience

from localemp.dialogue import Message
from localemp.engines.labels import label_schema
from localemp.pipeline.config import RunConfig
from localemp.sampling import Sampling
from localemp.serving.flows import offered_strategies
from localemp.serving.handler.app_engine import AppEngine
from localemp.serving.handler.thinking import ModelThinking
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.settings import ServeSettings

pytestmark = pytest.mark.usefixtures("parts_as_before")

TALK: Any = [{"role": "user", "content": "My dog died."}]
FLOWS = {
    "best": """
about = "the best of three"
[[stages]]
name = "reply"
n = 3
sampling = { temperature = 0.8, seed = 5, max_tokens = 50 }
choose = { ask = "Which is the best?\\n{candidates}" }
""",
    "support": """
about = "a kind of support first"
[[stages]]
name = "support"
ask = "Which of: {labels}?"
labels = ["Question", "Others"]
[[stages]]
name = "reply"
ask = "Use {support}."
""",
    "labels": """
about = "two labels at once"
[[stages]]
name = "asks"
ask = "{labels}?"
labels = ["yes", "no"]
[[stages]]
name = "mood"
ask = "{labels}?"
labels = ["sad", "glad"]
[[stages]]
name = "reply"
ask = "{asks} {mood}"
""",
    "pair": """
about = "two thoughts at once"
[[stages]]
name = "one"
ask = "First thought?"
[[stages]]
name = "two"
ask = "Second thought?"
[[stages]]
name = "reply"
ask = "{one} {two}"
""",
}


@pytest.fixture
def model() -> ModelApp:
    model = ModelApp()
    model.reply = answer
    return model


def answer(body: dict[str, Any]) -> str:
    """The candidates differ by their seed; the judge likes the second."""
    last = body["messages"][-1]["content"]
    if "Which is the best?" in last:
        return "Number 2."
    if "Which of" in last:
        return "A question, I think."
    if "seed" in body:
        return f"<think>Hm {body['seed']}.</think>Listener: I hear you, {body['seed']} times."
    return f"On {last[-30:]!r}: I see."


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    paths = []
    for name, text in FLOWS.items():
        paths.append(tmp_path / f"{name}.toml")
        paths[-1].write_text(text, "utf-8")
    offered, texts = offered_strategies(",".join([*FLOWS, "few-shot+best"]), list(map(str, paths)))
    config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", shots=2)
    return ServeSettings.of("tiny", config, strategies=offered, flows=texts)


@pytest.fixture
def app(model: ModelApp, settings: ServeSettings) -> StrategyMiddleware:
    return StrategyMiddleware(model.app, settings)


def test_the_chosen_candidate_is_the_reply(client: openai.OpenAI, model: ModelApp):
    got = client.chat.completions.create(
        model="tiny:best", messages=TALK, temperature=0.4, max_tokens=20, stop=["END"], seed=100, n=1,
        extra_body={"localemp": {"trace": True}},
    )  # fmt: skip
    *candidates, judge = model.asked
    assert sorted(each["seed"] for each in candidates) == [100, 101, 102]
    assert {(each["temperature"], each["max_tokens"], *each["stop"]) for each in candidates} == {(0.4, 20, "END")}
    assert (judge["temperature"], judge["max_tokens"], "stop" in judge) == (0.0, 128, False)
    assert "1. I hear you, 100 times.\n2. I hear" in judge["messages"][-1]["content"], "without thinking, and cleaned"
    (choice,) = got.choices
    assert (got.model, choice.message.role, choice.finish_reason) == ("tiny:best", "assistant", "stop")
    assert choice.message.content == "I hear you, 101 times."
    assert choice.message.model_dump()["reasoning_content"] == "Hm 101."
    trace = got.model_dump()["localemp"]
    names = ["reply.candidate", "reply.candidate", "reply.choice", "reply"]
    assert [stage["name"] for stage in trace["stages"]] == names
    assert [stage["answer"] for stage in trace["stages"]] == [None, None, "2", None]
    assert set(trace["seconds"]) == {"lookup", *names, "all"}
    assert got.usage.completion_tokens == sum(stage["completion_tokens"] for stage in trace["stages"])


def test_the_chosen_candidate_is_streamed_as_one_piece(client: openai.OpenAI, model: ModelApp):
    *pieces, usage, trace = client.chat.completions.create(
        model="tiny:best", messages=TALK, stream=True, stream_options={"include_usage": True},
        extra_body={"localemp": {"trace": True}},
    )  # fmt: skip
    (piece,) = pieces
    assert not any("stream" in asked or "stream_options" in asked for asked in model.asked)
    assert sorted(asked["seed"] for asked in model.asked if "seed" in asked) == [5, 6, 7]
    (choice,) = piece.choices
    assert (piece.model, piece.object, choice.index, choice.finish_reason) == (
        "tiny:best", "chat.completion.chunk", 0, "stop"
    )  # fmt: skip
    assert (choice.delta.role, choice.delta.content) == ("assistant", "I hear you, 6 times.")
    assert choice.delta.model_dump()["reasoning_content"] == "Hm 6."
    assert {chunk.id for chunk in (piece, usage, trace)} == {piece.id}
    assert usage.usage.completion_tokens == sum(
        stage["completion_tokens"] for stage in trace.model_dump()["localemp"]["stages"]
    )


async def test_candidates_that_are_too_long_lose_an_exemplar(settings: ServeSettings):
    """The first one that is refused ends the others; the next try is another request for the same client."""

    async def narrow(scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        if "Instance 2" not in str(body["messages"]):
            message = {"role": "assistant", "content": "I hear you."}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            await send_json(send, 200, {"object": "chat.completion", "choices": choices})
        elif body["seed"] == 5:
            await send_json(send, 400, {"error": {"message": "maximum context length is 10 tokens"}})
        else:
            await receive()

    body = {"model": "tiny:few-shot+best", "messages": TALK, "localemp": {"trace": True}}
    got = await ask(StrategyMiddleware(narrow, settings), "POST", "/v1/chat/completions", body)
    assert (got.status, got.json()["choices"][0]["message"]["content"]) == (200, "I hear you.")
    assert got.json()["localemp"]["stages"][-1]["exemplars_dropped"] == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_several_replies_of_a_strategy_that_chooses_one_are_refused(
    client: openai.OpenAI, model: ModelApp, stream: bool
):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny:best", messages=TALK, n=2, stream=stream)
    assert (caught.value.param, caught.value.code) == ("n", "unsupported_value")
    assert "'n' must be 1: the strategy best makes several replies itself" in caught.value.message
    assert model.asked == [], "before anything is computed"
    assert len(client.chat.completions.create(model="tiny:support", messages=TALK, n=2).choices) == 2


def test_a_label_is_asked_for_by_its_schema(client: openai.OpenAI, model: ModelApp):
    got = client.chat.completions.create(
        model="tiny:support", messages=TALK, extra_body={"localemp": {"trace": True}}, response_format={"type": "text"}
    )
    first, last = model.asked
    form = {"name": "answer", "strict": True, "schema": json.loads(label_schema(["Question", "Others"]))}
    assert first["response_format"] == {"type": "json_schema", "json_schema": form}
    assert last["response_format"] == {"type": "text"}, "the client's, for the reply"
    assert [stage["answer"] for stage in got.model_dump()["localemp"]["stages"]] == ["Question", None]


def test_stages_at_once_find_out_together_that_a_schema_is_refused(client: openai.OpenAI, model: ModelApp):
    model.refuses = {"response_format"}
    model.reply = lambda body: "no, sad"
    assert client.chat.completions.create(model="tiny:labels", messages=TALK).choices[0].message.content == "no, sad"
    assert ["response_format" in asked for asked in model.asked] == [True, True, False, False, False]


def test_an_app_that_refuses_a_schema_is_asked_without(client: openai.OpenAI, model: ModelApp):
    model.refuses = {"response_format"}
    for _ in range(2):
        got = client.chat.completions.create(
            model="tiny:support", messages=TALK, extra_body={"localemp": {"trace": True}}
        )
        first, last = got.model_dump()["localemp"]["stages"]
        assert (first["answer"], first["notes"]) == ("Question", ["response_format dropped: the model refuses it"])
        assert last["notes"] == []
    assert ["response_format" in asked for asked in model.asked] == [True, False, False, False, False]
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.chat.completions.create(model="tiny:support", messages=TALK, response_format={"type": "json_object"})


@pytest.mark.parametrize(
    ("schema", "field", "value"),
    [
        (label_schema(["Question", "Others"]), "structured_outputs", {"choice": ["Question", "Others"]}),
        ('{"type": "object"}', "response_format",
         {"type": "json_schema", "json_schema": {"name": "answer", "strict": False, "schema": {"type": "object"}}}),
    ],
    ids=["labels", "json"],
)  # fmt: skip
def test_vllms_server_holds_an_answer_as_the_engine_does(model: ModelApp, schema: str, field: str, value: Any):
    engine = AppEngine(
        model.app, {}, "tiny", asyncio.Event(), extra={}, thinking=ModelThinking(), changed={}, is_vllm=True
    )
    body = engine.body([Message("user", "Hi.")], Sampling(schema=schema), {})
    assert json.loads(json.dumps(body[field])) == value
    assert len({"structured_outputs", "response_format"} & body.keys()) == 1


def test_an_answer_that_cannot_be_read_is_an_error_of_its_request(client: openai.OpenAI, model: ModelApp):
    model.reply = lambda body: "Hm." if "cat" in str(body["messages"]) else "Question"
    cat: Any = [{"role": "user", "content": "My cat died."}]
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="tiny:support", messages=cat, stream=True)
    assert (caught.value.status_code, caught.value.code) == (502, "unreadable_answer")
    assert "stage 'support' answered none of its labels: 'Hm.'" in caught.value.message
    assert client.chat.completions.create(model="tiny:support", messages=TALK).choices[0].message.content


def test_stages_that_need_nothing_of_one_another_are_asked_at_once(client: openai.OpenAI, model: ModelApp):
    model.slow = 0.02
    pieces = list(client.chat.completions.create(model="tiny:pair", messages=TALK, stream=True))
    assert (model.most_at_once, len(model.asked)) == (2, 3)
    assert len(pieces) > 2, "the last stage is streamed word by word"


async def test_a_stage_that_fails_ends_the_others(settings: ServeSettings):
    begun, left = asyncio.Event(), asyncio.Event()

    async def until_the_client_leaves(receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async def like_vllm(scope: Any, receive: Any, send: Any) -> None:
        """Ends a request when the client leaves, and otherwise goes on, whoever cancels it."""
        if b"First thought?" in (await receive())["body"]:
            begun.set()
            await asyncio.shield(asyncio.create_task(until_the_client_leaves(receive)))
        else:
            await begun.wait()
            await send_json(send, 429, {"error": {"message": "slow down", "code": 429}}, {"retry-after": "7"})

    body = {"model": "tiny:pair", "messages": TALK}
    got = await ask(StrategyMiddleware(like_vllm, settings), "POST", "/v1/chat/completions", body)
    assert (got.status, got.headers["retry-after"], got.code) == (429, "7", 429)
    assert left.is_set()


async def test_a_client_that_leaves_ends_all_stages_in_flight(settings: ServeSettings):
    begun: list[str] = []
    ended: list[str] = []
    both = asyncio.Event()

    async def like_vllm(scope: Any, receive: Any, send: Any) -> None:
        thought = "first" if b"First thought?" in (await receive())["body"] else "second"
        begun.append(thought)
        if len(begun) == 2:
            both.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.append(thought)

    sent = [{"type": "http.request", "body": json.dumps({"model": "tiny:pair", "messages": TALK}).encode()}]

    async def receive() -> Any:
        if sent:
            return sent.pop()
        await both.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    app = StrategyMiddleware(like_vllm, settings)
    asked = app(scope_of("POST", "/v1/chat/completions"), receive, send)
    await asyncio.wait_for(asked, patience())
    assert sorted(ended) == sorted(begun) == ["first", "second"], "and the reply was not asked for"


def test_a_reply_that_the_model_refuses_reaches_the_client_as_a_refusal(client: openai.OpenAI, model: ModelApp):
    model.reply = lambda body: "refuse: I cannot help." if "Use " in str(body["messages"]) else "Question"
    asked: Any = {"model": "tiny:support", "messages": TALK}
    (choice,) = client.chat.completions.create(**asked).choices
    assert (choice.message.content, choice.message.refusal) == (None, "I cannot help.")
    chunks = client.chat.completions.create(**asked, stream=True)
    said = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(each.refusal or "" for each in said) == "I cannot help."
    assert not any(each.content for each in said)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_stage_that_the_model_refuses_is_an_error_that_stays(client: openai.OpenAI, model: ModelApp, stream: bool):
    model.reply = lambda body: "refuse: I cannot help."
    with pytest.raises(openai.BadRequestError, match="before the reply, the model refused: I cannot help") as caught:
        client.chat.completions.create(model="tiny:support", messages=TALK, stream=stream)
    assert caught.value.code == "content_filter"
    assert len(model.asked) == 1

"""StrategyMiddleware as models, by the official client, over a real socket; the model behind them is scripted."""

import json
import time
from contextlib import suppress

import httpx
import openai
import pytest
from model_app import ModelApp, served
from patience import patience, wait_until

from localemp.pipeline.config import RunConfig
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.settings import ServeSettings

KEY = "sesame"
TALK = [{"role": "user", "content": "My dog died."}]


def settings(trim: bool = False, **changes) -> ServeSettings:
    config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", shots=2, trim_to_sentence=trim)
    given = {"strategies": ("zero-shot", "few-shot", "two-stage", "few-shot+two-stage"), "api_keys": (), "ui": True}
    return ServeSettings.of("tiny", config, **(given | changes))


@pytest.fixture
def model() -> ModelApp:
    return ModelApp()


@pytest.fixture
def app(model: ModelApp) -> StrategyMiddleware:
    return StrategyMiddleware(model.app, settings())


def test_the_bare_model_is_untouched(client: openai.OpenAI, model: ModelApp):
    answer = client.chat.completions.create(model="tiny", messages=TALK, temperature=1.5)
    assert answer.choices[0].message.content == "I hear you: My dog died"
    assert model.asked == [{"messages": TALK, "model": "tiny", "temperature": 1.5}]


@pytest.mark.parametrize("stream", [False, True])
def test_the_bare_model_can_be_asked_with_the_sampling_of_the_strategies(model: ModelApp, stream: bool):
    config = RunConfig(
        model="tiny", base_url="http://127.0.0.1:1/v1", temperature=0.7, sampling={"frequency_penalty": 0.5}
    )
    app = StrategyMiddleware(model.app, ServeSettings.of("tiny", config, strategies=("zero-shot",)))
    talk = [{"role": "system", "content": "Be kind."}, *TALK]
    with served(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        same = {"extra_body": {"localemp": {"sampling": True}}, "stream": stream}
        answer = client.chat.completions.create(model="tiny", messages=talk, **same)
        texts = [piece.choices[0].delta.content or "" for piece in answer if piece.choices] if stream else []
        text = "".join(texts) if stream else answer.choices[0].message.content
        client.chat.completions.create(model="tiny:zero-shot", messages=talk)
        listed = {each.id: each.sampling for each in client.models.list()}
    assert text == "I hear you: My dog died"
    bare, strategy = (
        {key: value for key, value in body.items() if not key.startswith("stream")} for body in model.asked
    )
    assert bare == strategy | {"messages": talk}
    assert (bare["temperature"], bare["frequency_penalty"], bare["max_tokens"]) == (0.7, 0.5, 128)
    told = {"temperature": 0.7, "max_tokens": 128, "seed": 0, "frequency_penalty": 0.5}
    assert listed == {"tiny": told, "tiny:zero-shot": told}


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("tiny", {"trace": True}, "'trace' is for a strategy, not for the bare model"),
        ("tiny", {"sampling": "yes"}, "localemp.sampling: Input should be True"),
        ("tiny", {"sampling": False}, "localemp.sampling: Input should be True"),
        ("tiny:zero-shot", {"sampling": True}, "'sampling' is for the bare model"),
    ],
)
def test_a_key_of_ours_that_would_have_no_effect_is_refused(client: openai.OpenAI, model: ModelApp, name, options, why):
    with pytest.raises(openai.BadRequestError, match=why):
        client.chat.completions.create(model=name, messages=TALK, extra_body={"localemp": options})
    assert model.asked == []


def test_every_strategy_is_a_model_in_the_servers_own_form(client: openai.OpenAI):
    bare, *strategies = client.models.list().data
    assert (bare.id, bare.owned_by) == ("tiny", "vllm")
    assert [one.id for one in strategies] == [
        "tiny:zero-shot",
        "tiny:few-shot",
        "tiny:two-stage",
        "tiny:few-shot+two-stage",
    ]
    assert {(one.owned_by, one.parent, one.max_model_len) for one in strategies} == {("localemp", "tiny", 4096)}


def test_a_strategy_writes_the_prompt_and_answers_under_its_own_name(client: openai.OpenAI, model: ModelApp):
    answer = client.chat.completions.create(model="tiny:zero-shot", messages=TALK)
    assert (answer.model, answer.choices[0].message.content) == ("tiny:zero-shot", "I hear you: My dog died")
    (asked,) = model.asked
    assert asked["messages"][0]["content"].startswith("This is an empathetic dialogue task")
    assert asked["messages"][1:] == TALK
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("tiny", 0.0, 128)
    assert not hasattr(answer, "localemp"), "nothing of what happened inside leaks"


def test_two_stages_are_two_requests_and_the_usage_is_their_sum(client: openai.OpenAI, model: ModelApp):
    answer = client.chat.completions.create(model="tiny:two-stage", messages=TALK)
    first, second = model.asked
    assert second["messages"][-2]["content"] == "The user's emotion may be sad."
    lengths = [sum(len(message["content"]) for message in asked["messages"]) for asked in (first, second)]
    assert answer.usage.prompt_tokens == sum(lengths)
    assert answer.usage.completion_tokens == 6 + 8
    assert answer.usage.total_tokens == sum(lengths) + 14


def test_what_the_client_sets_is_for_the_last_stage(client: openai.OpenAI, model: ModelApp):
    answer = client.chat.completions.create(
        model="tiny:two-stage", messages=TALK, n=2, temperature=0.7, seed=3, stop=["END"], max_completion_tokens=9
    )
    first, second = model.asked
    assert (first["temperature"], first["max_tokens"]) == (0.0, 128)
    assert not {"n", "seed", "stop", "max_completion_tokens"} & first.keys()
    wanted = {"n": 2, "temperature": 0.7, "seed": 3, "stop": ["END"], "max_completion_tokens": 9}
    assert second.items() >= wanted.items() and "max_tokens" not in second
    assert len(answer.choices) == 2


def test_the_callers_system_message_joins_the_instruction(client: openai.OpenAI, model: ModelApp):
    talk = [{"role": "system", "content": "Answer in German."}, *TALK]
    client.chat.completions.create(model="tiny:few-shot", messages=talk)
    system = model.asked[0]["messages"][0]["content"]
    assert system.index("response of Listener.") < system.index("Answer in German.") < system.index("Instance 1:")


def test_messages_of_one_side_in_a_row_are_one_turn(client: openai.OpenAI, model: ModelApp):
    parts = [{"type": "text", "text": "Yes."}, {"type": "text", "text": "She was old."}]
    talk = [*TALK, {"role": "assistant", "content": "Oh no."}, {"role": "user", "content": "Thanks."},
            {"role": "user", "content": parts}]  # fmt: skip
    client.chat.completions.create(model="tiny:zero-shot", messages=talk)
    assert [message["content"] for message in model.asked[0]["messages"][1:]] == [
        "My dog died.", "Oh no.", "Thanks.\nYes.\nShe was old."
    ]  # fmt: skip


def test_a_stream_brings_the_last_stage_word_by_word(client: openai.OpenAI, model: ModelApp):
    model.slow = 0.02
    chunks, times = [], []
    for chunk in client.chat.completions.create(model="tiny:two-stage", messages=TALK, stream=True):
        chunks.append(chunk)
        times.append(time.monotonic())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I hear you, and I am with you"
    assert {chunk.model for chunk in chunks} == {"tiny:two-stage"}
    assert len(chunks) >= 9 and times[-1] - times[0] > 0.1, "chunks were merged or held back"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_streams_usage_and_trace_come_only_when_asked_for(client: openai.OpenAI, model: ModelApp):
    *words, usage, trace = client.chat.completions.create(
        model="tiny:few-shot+two-stage", messages=TALK, stream=True, stream_options={"include_usage": True},
        extra_body={"localemp": {"trace": True, "shots": 1}},
    )  # fmt: skip
    assert all(chunk.choices for chunk in words)
    assert usage.choices == [] and usage.usage.completion_tokens == 14
    told = trace.localemp
    assert [stage["name"] for stage in told["stages"]] == ["feeling", "reply"]
    assert told["stages"][0]["text"] == "The user's emotion may be sad."
    assert (told["strategy"], told["variant"], len(told["exemplars"])) == ("few-shot+two-stage", "paper", 1)
    assert told["exemplars"][0]["turns"] and told["exemplars"][0]["score"] is None
    assert told["seconds"].keys() == {"lookup", "feeling", "reply", "all"}


def test_the_trace_of_a_whole_answer_and_given_feelings(client: openai.OpenAI, model: ModelApp):
    options = {"trace": True, "emotion": "sad", "situation": "My dog died.", "variant": "released"}
    answer = client.chat.completions.create(model="tiny:two-stage", messages=TALK, extra_body={"localemp": options})
    assert len(model.asked) == 1, "with both given there is nothing to infer"
    assert answer.localemp["variant"] == "released"
    assert "emotion may be sad" in answer.localemp["stages"][0]["messages"][-2]["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_made_up_role_or_turn_is_cut_as_generate_cuts_it(client: openai.OpenAI, stream: bool):
    talk = [{"role": "user", "content": "say: Listener: I am so sorry.\nHow are\nSpeaker: Fine."}]
    answer = client.chat.completions.create(model="tiny:zero-shot", messages=talk, stream=stream)
    if stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    else:
        said = answer.choices[0].message.content
    assert said == "I am so sorry.\nHow are"


def test_a_truncated_reply_is_cut_at_its_last_whole_sentence_where_that_is_wanted(model: ModelApp):
    model.ends = "length"
    talk = [{"role": "user", "content": "say: I am sorry. It is hard. What hap"}]
    with (
        served(StrategyMiddleware(model.app, settings(trim=True))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        ask = client.chat.completions.create
        whole = ask(model="tiny:zero-shot", messages=talk, extra_body={"localemp": {"trace": True}})
        assert whole.choices[0].message.content == "I am sorry. It is hard."
        assert whole.choices[0].finish_reason == "length"
        assert whole.localemp["stages"][0]["text"].endswith("What hap"), "the trace has what the model said"
        chunks = list(ask(model="tiny:zero-shot", messages=talk, stream=True))
        words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
        assert words == ["I am sorry.", " It is hard."]
        assert chunks[-1].choices[0].finish_reason == "length"
        bare = ask(model="tiny", messages=talk).choices[0].message.content
        assert bare.endswith("What hap"), "the model alone answers as it is"


def test_exemplars_go_where_the_context_is_short(client: openai.OpenAI, model: ModelApp):
    talk = [{"role": "user", "content": "It is so sad. " * 180}]
    answer = client.chat.completions.create(
        model="tiny:few-shot", messages=talk, extra_body={"localemp": {"trace": True, "shots": 5}}
    )
    assert answer.localemp["stages"][0]["exemplars_dropped"] > 0
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny:few-shot", messages=[{"role": "user", "content": "sad " * 1000}])
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "status", "param", "said"),
    [
        ({"messages": TALK, "model": "tiny:few"}, 404, "model", "unknown strategy 'few'; known: zero-shot"),
        ({"messages": TALK, "model": "tiny:knowledge"}, 404, "model", "unknown strategy 'knowledge'; known: zero-shot"),
        ({"messages": TALK, "model": "other"}, 404, None, "does not exist"),
        ({"messages": []}, 400, "messages", "at least one message"),
        ({"messages": "hello"}, 400, "messages", "must be a list"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "messages.0.content", "is empty"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "messages.0.content", "text"),
        ({"messages": [{"role": "tool", "content": "1"}]}, 400, "messages.0.role", "system, developer, user"),
        ({"messages": [{"role": ["user"], "content": "1"}]}, 400, "messages.0.role", "system, developer, user"),
        ({"messages": [*TALK, {"role": "assistant", "content": "Oh."}]}, 400, "messages", "must be the user's"),
        ({"messages": [{"role": "assistant", "content": "Hi."}, *TALK]}, 400, "messages", "the speaker begins"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0.content", "text"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "cannot be used with a strategy"),
        ({"stream": "yes"}, 400, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", "needs 'stream': true"),
        ({"stop": 7}, 400, "stop", "must be"),
        ({"localemp": {"shot": 3}}, 400, "localemp.shot", "Extra inputs"),
        ({"localemp": {"shots": 0}}, 400, "localemp.shots", "greater than or equal to 1"),
        ({"localemp": {"shots": 99}, "model": "tiny:few-shot"}, 200, None, ""),
        ({"localemp": {"shots": 2}}, 400, "localemp.shots", "for few-shot and similar"),
        ({"localemp": {"emotion": "sad"}}, 400, "localemp.emotion", "for two-stage"),
        ({"localemp": {"variant": "/etc/passwd"}}, 400, "localemp.variant", "'paper' or 'released'"),
        ({"temperature": 9}, 400, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, 400, "temperature", "valid number"),
        ({"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
        ({"n": 1.5}, 400, "n", "valid integer"),
        ({"seed": 10**30}, 400, "seed", "less than"),
        ({"logit_bias": [1]}, 400, "logit_bias", "valid dictionary"),
        ({"localemp": {"x" * 5_000: 3}}, 400, f"localemp.{'x' * 190}…", "Extra inputs"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_said_in_openais_form(url: str, body, status, param, said):
    asked = {"model": "tiny:zero-shot", "messages": TALK} | body
    answer = httpx.post(f"{url}/v1/chat/completions", content=json.dumps(asked))
    assert answer.status_code == status, answer.text
    if status != 200:
        error = answer.json()["error"]
        assert (error["param"], error.keys()) == (param, {"message", "type", "param", "code"})
        assert said in error["message"]


def test_a_body_that_is_no_json_and_other_apis(url: str):
    broken = httpx.post(f"{url}/v1/chat/completions", content=b'{"model": "tiny:zero-shot", ')
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")
    deep = httpx.post(f"{url}/v1/chat/completions", content=b'{"model": "tiny:zero-shot", "x": ' + b"[" * 100_000)
    assert deep.status_code == 400
    other = httpx.post(f"{url}/v1/completions", json={"model": "tiny:zero-shot", "prompt": "x"})
    assert (other.status_code, "answers at /v1/chat/completions" in other.text) == (400, True)
    assert httpx.post(f"{url}/v1/completions", json={"model": "tiny", "prompt": "x"}).status_code == 200


def test_the_models_own_error_reaches_the_client_with_its_headers(client: openai.OpenAI):
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="tiny:zero-shot", messages=[{"role": "user", "content": "too many"}])
    assert caught.value.response.headers["retry-after"] == "7"


def test_an_error_in_the_middle_of_a_stream_ends_it_with_an_error(url: str, model: ModelApp):
    model.breaks = True
    asked = {"model": "tiny:two-stage", "messages": TALK, "stream": True}
    answer = httpx.post(f"{url}/v1/chat/completions", json=asked)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert events[-1]["error"]["message"] == "the engine died"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["tiny", "tiny:zero-shot", "tiny:two-stage"])
def test_a_client_that_goes_away_frees_its_slot(url: str, model: ModelApp, name: str, stream: bool):
    model.slow = patience(0.3)
    asked = {"model": name, "messages": TALK, "stream": stream}
    with (
        suppress(httpx.ReadTimeout),
        httpx.stream("POST", f"{url}/v1/chat/completions", json=asked, timeout=patience(0.5)) as answer,
    ):
        next(answer.iter_raw())
    assert len(model.asked) == 1
    wait_until(lambda: not model.running, 20)
    asked = len(model.asked)
    time.sleep(1.5 * model.slow)
    assert len(model.asked) == asked, "another stage was begun"


def test_without_a_key_nothing_is_done(model: ModelApp):
    with served(StrategyMiddleware(model.app, settings(api_keys=("other", KEY)))) as url:
        for path in ("/v1/models", "/metrics", "/docs", "/v1/chat/completions", "/tokenize"):
            for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}):
                answer = httpx.request("POST", f"{url}{path}", headers=given, json={"model": "tiny:two-stage"})
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/").status_code == 200
        assert model.asked == []
        with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            assert len(client.models.list().data) == 5
            assert client.chat.completions.create(model="tiny:zero-shot", messages=TALK).choices


def test_metrics_count_requests_tokens_and_seconds_by_strategy(url: str, client: openai.OpenAI):
    from prometheus_client import REGISTRY

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"strategy": "two-stage", "adapter": "", **labels}) or 0.0

    before = value("localemp_requests_total"), value("localemp_tokens_total", kind="completion")
    client.chat.completions.create(model="tiny:two-stage", messages=TALK)
    assert value("localemp_requests_total") == before[0] + 1
    assert value("localemp_tokens_total", kind="completion") == before[1] + 14
    assert value("localemp_step_seconds_count", step="feeling") >= 1


def test_the_page_can_be_left_out(model: ModelApp):
    with served(StrategyMiddleware(model.app, settings(ui=False))) as url:
        assert httpx.get(f"{url}/").status_code == 404
    with served(StrategyMiddleware(model.app, settings())) as url:
        assert "text/html" in httpx.get(f"{url}/").headers["content-type"]
        assert httpx.get(f"{url}/page/../middleware.py").status_code == 404

"""Each server that docs/servers.md describes, as a fake of its own: generate works, its quirks are handled or told."""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dialects import (
    HOSTED,
    KEY,
    LOCAL,
    Anthropic,
    Azure,
    Dialect,
    Gemini,
    LlamaCpp,
    LMStudio,
    NewClaude,
    OldAzure,
    Ollama,
    OpenRouter,
    SGLang,
    TensorRT,
    listed,
)
from fake_server import REPLY, Answer, completion, error
from ports import free_port

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.engine import OpenAIEngine
from localemp.engines.openai.servers import OTHER, key_for, may_be_cut, server_at
from localemp.errors import EngineError, FatalEngineError, OptionError, PromptTooLongError
from localemp.models.price import Price
from localemp.sampling import Sampling

MESSAGES = [Message("system", "You listen."), Message("user", "I lost my job."), Message("assistant", "Oh no.")]
MESSAGES.append(Message("user", "Now I cannot sleep."))
GREEDY = Sampling(max_tokens=64)
OTHER_KEYS = ("AZURE_OPENAI_AD_TOKEN", "GOOGLE_API_KEY", "OLLAMA_API_KEY", "LM_API_TOKEN", "OPENAI_API_KEY")
OWN_KEY = {
    Azure: "AZURE_OPENAI_API_KEY",
    OldAzure: "AZURE_OPENAI_API_KEY",
    OpenRouter: "OPENROUTER_API_KEY",
    Anthropic: "ANTHROPIC_API_KEY",
    NewClaude: "ANTHROPIC_API_KEY",
    Gemini: "GEMINI_API_KEY",
}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OTHER_KEYS, *OWN_KEY.values(), "OPENAI_BASE_URL", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a fake; a hosted one is the whole network, and its own variable has its key."""
    started: list[Dialect] = []

    def start(server: Dialect, key: str = KEY) -> Dialect:
        started.append(server.__enter__())
        if server.host:
            for name, value in server.proxy.items():
                monkeypatch.setenv(name, value)
            if key:
                monkeypatch.setenv(OWN_KEY[type(server)], key)
        return server

    yield start
    for server in started:
        server.__exit__(None, None, None)


async def no_sleep(seconds: float) -> None:
    """The waits are not what is tested here."""


async def ask(
    server: Dialect, sampling: Sampling = GREEDY, messages: Sequence[Message] = MESSAGES, **options: Any
) -> Completion:
    """Start a new engine and ask once."""
    async with OpenAIEngine(server.model, server.base_url, sleep=no_sleep, **options) as engine:
        return await engine.chat(messages, sampling)


# Both strategies


@pytest.mark.parametrize("strategy", ["zero-shot", "two-stage"])
@pytest.mark.parametrize("kind", [*HOSTED, *LOCAL], ids=lambda kind: kind.__name__)
def test_generate(localemp: Any, tmp_path: Path, network: Any, kind: type[Dialect], strategy: str) -> None:
    server = network(kind())
    data = tmp_path / "talks.jsonl"
    data.write_text("".join(json.dumps({"id": f"d{n}", "turns": [f"I lost {n} dogs."]}) + "\n" for n in range(3)))
    words = ("--model", server.model, "--base-url", server.base_url, "--data", data, "--strategy", strategy)
    done = localemp("generate", *words, "--out", "run", "--seed", 7)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "responses.jsonl").read_text().splitlines()]
    assert [line["reply"] for line in lines] == [REPLY] * 3
    assert all(len(line["stages"]) == 1 + (strategy == "two-stage") for line in lines)
    assert KEY not in "".join(path.read_text() for path in (tmp_path / "run").iterdir() if path.is_file())


# Keys


@pytest.mark.parametrize("kind", HOSTED, ids=lambda kind: kind.__name__)
async def test_a_rejected_key_is_named_by_its_own_variable(network: Any, kind: type[Dialect]) -> None:
    server = network(kind(), key="wrong-key")
    with pytest.raises(FatalEngineError, match=f"rejects the key in {OWN_KEY[kind]}") as raised:
        await ask(server)
    assert f"export {OWN_KEY[kind]}=" in raised.value.hint


@pytest.mark.parametrize("kind", HOSTED, ids=lambda kind: kind.__name__)
async def test_a_missing_key_is_named_before_anything_is_sent(network: Any, kind: type[Dialect]) -> None:
    server = network(kind(), key="")
    with pytest.raises(FatalEngineError, match=f"requires a key, and {OWN_KEY[kind]} is not set"):
        await ask(server)
    assert (server.requests, server.listings) == ([], [])


@pytest.mark.parametrize("kind", HOSTED, ids=lambda kind: kind.__name__)
async def test_no_service_sees_the_key_of_another(
    network: Any, kind: type[Dialect], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = network(kind())
    for name in {*OTHER_KEYS, *OWN_KEY.values()} - {OWN_KEY[kind]}:
        monkeypatch.setenv(name, f"secret-{name}")
    await ask(server)
    seen = [*server.requests, *server.listings]
    assert not any("secret" in str(request.headers) for request in seen)
    assert all(KEY in str(request.headers) for request in seen)


@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("kind", [Azure, OpenRouter], ids=lambda kind: kind.__name__)
async def test_a_redirect_takes_no_key_to_another_host(network: Any, kind: type[Dialect], status: int) -> None:
    server = network(kind())
    server.answers.append(Answer(status, "", {"Location": "http://elsewhere.example/v1/chat/completions"}))
    with pytest.raises(EngineError):
        await ask(server, max_retries=0)
    there = [each for each in (*server.requests, *server.listings) if "elsewhere" in each.path]
    assert there
    assert not any(KEY in str(request.headers) for request in there)


@pytest.mark.parametrize(
    ("url", "named", "environment", "found"),
    [
        ("https://api.openai.com/v1", True, {"OPENAI_API_KEY": "sk-proj-1"}, ("sk-proj-1", "OPENAI_API_KEY")),
        ("https://eu.api.openai.com/v1", False, {"OPENAI_API_KEY": "sk-proj-1"}, ("sk-proj-1", "OPENAI_API_KEY")),
        ("http://localhost:8000/v1", True, {"OPENAI_API_KEY": "mine"}, ("mine", "OPENAI_API_KEY")),
        ("http://localhost:8000/v1", False, {"OPENAI_API_KEY": "mine"}, ("mine", "OPENAI_API_KEY")),
        ("https://example.com/v1", True, {"OPENAI_API_KEY": "sk-proj-1"}, ("sk-proj-1", "OPENAI_API_KEY")),
        ("https://example.com/v1", False, {"OPENAI_API_KEY": "sk-proj-1"}, ("", "OPENAI_API_KEY")),
        ("https://openrouter.ai/api/v1", True, {"OPENAI_API_KEY": "sk-or-1"}, ("sk-or-1", "OPENAI_API_KEY")),
        ("https://openrouter.ai/api/v1", False, {"OPENAI_API_KEY": "sk-or-1"}, ("", "OPENROUTER_API_KEY")),
        (
            "https://openrouter.ai/api/v1",
            True,
            {"OPENAI_API_KEY": "a", "OPENROUTER_API_KEY": "b"},
            ("b", "OPENROUTER_API_KEY"),
        ),
        ("https://generativelanguage.googleapis.com", True, {"GOOGLE_API_KEY": "g"}, ("g", "GOOGLE_API_KEY")),
        ("https://a.openai.azure.com/openai/v1", True, {"AZURE_OPENAI_API_KEY": "z"}, ("z", "AZURE_OPENAI_API_KEY")),
        ("http://localhost:11434/v1", True, {"OPENAI_API_KEY": "sk-proj-1"}, ("", "OLLAMA_API_KEY")),
        ("http://127.0.0.1:1234/v1", True, {"LM_API_TOKEN": "t"}, ("t", "LM_API_TOKEN")),
        ("https://openrouter.ai.example/v1", True, {"OPENROUTER_API_KEY": "b"}, ("", "OPENAI_API_KEY")),
        ("https://notopenrouter.ai/v1", True, {"OPENROUTER_API_KEY": "b"}, ("", "OPENAI_API_KEY")),
        ("https://example.com/openrouter.ai/v1", True, {"OPENROUTER_API_KEY": "b"}, ("", "OPENAI_API_KEY")),
    ],
)
def test_which_key_goes_where(
    url: str, named: bool, environment: dict[str, str], found: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert key_for(server_at(url), named=named) == found


def test_a_key_of_openais_own_form_goes_to_no_other_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789")
    with pytest.raises(OptionError, match=r"is one for OpenAI: it is not sent to OpenRouter") as raised:
        OpenAIEngine("m", "https://openrouter.ai/api/v1")
    assert raised.value.hint == "export OPENROUTER_API_KEY=..."
    assert "0123" not in raised.value.message


def test_a_profiles_address_gets_no_key_that_is_not_its_own(
    localemp: Any, tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = network(OpenRouter(), key="")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "mine.toml").write_text(f'kind="chat"\nengine="openai"\nmodel="m"\nbase_url="{server.base_url}"\n')
    done = localemp("respond", "Hi.", "--model", "./mine.toml")
    assert (done.returncode, "OPENROUTER_API_KEY is not set" in done.stderr) == (1, True), done.stderr
    assert (server.requests, server.listings) == ([], [])


@pytest.mark.parametrize(
    ("upstreams", "environment", "said"),
    [
        (["https://openrouter.ai/api/v1"], {}, "needs a key, and OPENROUTER_API_KEY is not set"),
        (
            ["https://openrouter.ai/api/v1", "https://api.groq.com/openai/v1"],
            {"OPENROUTER_API_KEY": "a", "GROQ_API_KEY": "b"},
            "the upstreams have different keys",
        ),
        (
            ["http://localhost:8000/v1", "https://openrouter.ai/api/v1"],
            {"OPENAI_API_KEY": "a", "OPENROUTER_API_KEY": "b"},
            "the upstreams have different keys",
        ),
    ],
    ids=["none", "two services", "a service and a server"],
)
def test_serve_takes_no_key_to_another_upstream(
    localemp: Any, upstreams: list[str], environment: dict[str, str], said: str
) -> None:
    words = ["--port", str(free_port()), *(word for url in upstreams for word in ("--upstream", url))]
    done = localemp("serve", "--model", "gpt-4o-mini", *words, "--api-key", "sk-ours-0123456789", env=environment)
    assert done.returncode != 0
    assert said in done.stderr


async def test_a_token_of_entra_id_is_a_bearers(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = network(Azure(), key="")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "eyJ0eXAi.x.y")
    with pytest.raises(FatalEngineError, match="rejects the key in AZURE_OPENAI_AD_TOKEN"):
        await ask(server)
    assert server.listings[0].headers["authorization"] == "Bearer eyJ0eXAi.x.y"
    assert "api-key" not in server.listings[0].headers


# What is left out, and what is refused


async def test_claude_is_sent_what_its_endpoint_heeds_and_the_rest_is_told(network: Any) -> None:
    server = network(Anthropic())
    got = await ask(server, Sampling(64, 1.4, seed=7, schema='{"type": "object"}'))
    assert server.requests[0].body.keys() == {"model", "messages", "max_tokens", "temperature"}
    assert server.requests[0].body["temperature"] == 1.0
    assert got.notes == (
        "seed left out: Anthropic's endpoint ignores it",
        "response_format left out: Anthropic's endpoint ignores it",
        "temperature sent as 1: it is the highest that Anthropic takes",
    )


async def test_a_top_p_that_claude_refuses_beside_a_temperature_is_dropped(network: Any) -> None:
    server = network(Anthropic())
    got = await ask(server, Sampling(64, 0.5, 0.9))
    assert [set(request.body) & {"temperature", "top_p"} for request in server.requests][1] == {"temperature"}
    assert got.notes == ("top_p dropped: the model refuses it",)


async def test_a_claude_without_temperature_is_asked_without(network: Any) -> None:
    server = network(NewClaude())
    got = await ask(server, Sampling(64, 0.5))
    assert "temperature" not in server.requests[1].body
    assert got.notes == ("temperature dropped: the model refuses it",)


async def test_a_service_is_not_sent_what_only_vllm_knows(network: Any) -> None:
    server = network(Gemini())
    got = await ask(server, Sampling(64, thinking_budget=1024))
    assert [request.body["max_tokens"] for request in server.requests] == [1088]
    assert got.notes == ()


@pytest.mark.parametrize("kind", [LlamaCpp, LMStudio], ids=lambda kind: kind.__name__)
async def test_a_repetition_penalty_goes_by_the_name_that_is_heeded(network: Any, kind: type[Dialect]) -> None:
    server = network(kind())
    got = await ask(server, Sampling(64, repetition_penalty=1.2))
    assert server.requests[0].body["repeat_penalty"] == 1.2
    assert "repetition_penalty" not in server.requests[0].body
    assert got.notes == ()


@pytest.mark.parametrize(
    ("kind", "sampling"),
    [
        (Ollama, Sampling(repetition_penalty=1.2)),
        (Anthropic, Sampling(presence_penalty=0.5)),
        (LMStudio, Sampling(min_p=0.1)),
        (LlamaCpp, Sampling(choice=("yes", "no"))),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else next(iter(each.further)),
)
async def test_what_a_server_is_known_to_ignore_is_an_error_and_nothing_is_asked(
    network: Any, kind: type[Dialect], sampling: Sampling
) -> None:
    server = network(kind())
    with pytest.raises(FatalEngineError, match=f"{next(iter(sampling.further))}: .* does not take it"):
        await ask(server, sampling)
    assert not [request for request in server.requests if request.path.endswith("/completions")]


async def test_several_answers_are_several_requests_where_one_is_all_there_is(network: Any) -> None:
    for server in (network(LlamaCpp()), network(Anthropic())):
        async with OpenAIEngine(server.model, server.base_url, sleep=no_sleep) as engine:
            found = await engine.candidates(MESSAGES, Sampling(64, 0.7), 3)
        assert [each.prompt_tokens for each in found] == [found[0].prompt_tokens] * 3
        assert len(server.requests) == 3
        assert not any("n" in request.body for request in server.requests)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (error(400, "Unrecognized request argument supplied: seed"), "seed"),
        (error(400, "property 'seed' is unsupported", type="invalid_request_error"), "seed"),
        (error(400, "litellm.UnsupportedParamsError: x does not support parameters: ['seed'], for model=y"), "seed"),
        (Answer(422, {"detail": "Unexpected fields in the request: {'seed'}"}), "seed"),
        (
            Answer(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "no", "input": 7}]}),
            "seed",
        ),
        (Answer(400, [{"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}]), "seed"),
        (error(400, "`top_p` is deprecated for this model."), "top_p"),
        (error(400, "`temperature` may only be set to 1 when thinking is enabled."), "temperature"),
    ],
    ids=["azure", "groq", "litellm", "transformers", "mistral", "gemini", "claude", "claude that thinks"],
)
async def test_refusals_in_other_words(network: Any, answer: Answer, name: str) -> None:
    server = network(SGLang())
    server.answers.append(answer)
    got = await ask(server, Sampling(64, seed=7))
    assert got.notes == (f"{name} dropped: the model refuses it",)


# Usage, cost, thinking


async def test_openrouters_own_count_is_the_cost(network: Any) -> None:
    server = network(OpenRouter())
    assert (await ask(server)).cost == 0.00125
    body = server.completion(server.requests[0])
    body["usage"] |= {"is_byok": True, "cost": 0.0001, "cost_details": {"upstream_inference_cost": 0.002}}
    server.answers.append(Answer(body=body))
    assert (await ask(server)).cost == pytest.approx(0.0021)


async def test_a_price_of_ones_own_gives_way_to_what_openrouter_charges(network: Any) -> None:
    price = Price(prompt=1000.0, completion=1000.0, as_of=date(2026, 11, 30))
    assert (await ask(network(OpenRouter()), price=price)).cost == 0.00125


async def test_only_a_service_that_charges_is_believed_about_it(network: Any) -> None:
    server = network(SGLang())
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "cost": 99}
    server.answers.append(Answer(body=completion(usage=usage)))
    assert (await ask(server)).cost is None


async def test_thinking_that_only_the_total_counts_is_part_of_the_completion(network: Any) -> None:
    got = await ask(network(Gemini()))
    assert (got.completion_tokens, got.thinking_tokens) == (len(REPLY) // 4 + 30, 30)


async def test_thinking_that_ollama_sets_apart(network: Any) -> None:
    got = await ask(network(Ollama()))
    assert (got.text, got.thinking) == (REPLY, "They lost something.")


# Errors


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "content_filter: RECITATION"])
async def test_what_gemini_withholds_is_an_error_that_says_so(network: Any, reason: str) -> None:
    server = network(Gemini())
    server.answers.append(Answer(body=completion(finish_reason=reason, message={"role": "assistant"})))
    with pytest.raises(EngineError, match="content filter withheld the answer"):
        await ask(server)
    assert len(server.requests) == 1


async def test_a_prompt_that_gemini_blocks_is_not_asked_again(network: Any) -> None:
    server = network(Gemini())
    usage = {"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 20}
    server.answers.append(Answer(body={"object": "chat.completion", "choices": [], "usage": usage}))
    with pytest.raises(EngineError, match="content filter blocked the prompt"):
        await ask(server)
    assert len(server.requests) == 1


async def test_what_openrouter_wraps_is_shown(network: Any) -> None:
    server = network(OpenRouter())
    metadata = {"provider_name": "Azure", "raw": '{"error": "the deployment is gone"}'}
    server.answers.append(error(400, "Provider returned error", code=400, metadata=metadata))
    with pytest.raises(EngineError, match=r"Provider returned error \(Azure: .*the deployment is gone"):
        await ask(server)


async def test_a_flagged_prompt_is_an_error_of_its_own_only(network: Any) -> None:
    server = network(OpenRouter())
    metadata = {"reasons": ["self-harm"], "flagged_input": "I ...", "provider_name": "OpenAI"}
    server.answers.append(error(403, "Input was flagged", code=403, metadata=metadata))
    with pytest.raises(EngineError, match=r"flagged \(self-harm\)") as raised:
        await ask(server)
    assert not isinstance(raised.value, FatalEngineError)


async def test_an_error_inside_a_good_response_is_tried_again(network: Any) -> None:
    server = network(OpenRouter())
    wrong = {"error": {"code": 502, "message": "Provider disconnected"}}
    server.answers += [Answer(body=wrong), Answer(body=completion(finish_reason="error", message={"content": ""}))]
    assert (await ask(server)).text == REPLY
    assert len(server.requests) == 3


async def test_gemini_says_in_the_error_how_long_to_wait(network: Any) -> None:
    server, waits = network(Gemini()), []
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    server.answers.append(server.fails(429, "Quota exceeded for metric", "RESOURCE_EXHAUSTED", info))

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    engine = OpenAIEngine(server.model, server.base_url, sleep=sleep)
    await engine.chat(MESSAGES, GREEDY)
    await engine.close()
    assert any(34.5 <= seconds <= 34.5 * 1.25 for seconds in waits)


@pytest.mark.parametrize(
    ("kind", "prompt", "context"),
    [(LlamaCpp, True, 2048), (LMStudio, False, 4096), (SGLang, True, 4096), (TensorRT, False, 4096)],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
async def test_a_prompt_that_is_too_long(network: Any, kind: type[Dialect], prompt: bool, context: int) -> None:
    with pytest.raises(PromptTooLongError) as raised:
        await ask(network(kind()), messages=[Message("user", "I am sad. " * 2000)])
    assert (raised.value.prompt_tokens, raised.value.context_length) == (5000 if prompt else None, context)


@pytest.mark.parametrize(
    ("said", "prompt", "context"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
        (
            "The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).",
            1196265,
            1048576,
        ),
        ("Input length (11680) exceeds model's maximum context length (4096).", 11680, 4096),
        ("the input length exceeds the context length", None, None),
    ],
    ids=["claude", "gemini", "vllm", "ollama"],
)
async def test_too_long_in_other_words(network: Any, said: str, prompt: int | None, context: int | None) -> None:
    server = network(LMStudio())
    server.answers.append(error(400, said))
    with pytest.raises(PromptTooLongError) as raised:
        await ask(server)
    assert (raised.value.prompt_tokens, raised.value.context_length) == (prompt, context)


# Programs on this machine


async def test_llama_cpp_is_waited_for_while_it_loads(network: Any) -> None:
    server = network(LlamaCpp(loading=40))
    engine = OpenAIEngine(server.model, server.base_url, sleep=no_sleep, context_length=8192)
    async with engine:
        await engine.chat(MESSAGES, GREEDY)
    assert len(server.listings) == 41
    assert engine.context_length == 2048


async def test_a_server_that_loads_for_ever_is_told_of(network: Any) -> None:
    server = network(LlamaCpp(loading=10**6))
    with pytest.raises(EngineError, match="Loading model"):
        await ask(server, timeout=10.0, max_retries=0)
    assert len(server.listings) == 6


@pytest.mark.parametrize("halves", [True, False], ids=["newer", "older"])
async def test_a_prompt_that_ollama_cuts_is_an_error(network: Any, halves: bool) -> None:
    server = network(Ollama(2048, halves))
    with pytest.raises(PromptTooLongError, match="a context of 2048 tokens") as raised:
        await ask(server, messages=[Message("user", "I am sad. " * 1000)])
    assert "OLLAMA_CONTEXT_LENGTH" in raised.value.hint


async def test_messages_that_ollama_drops_are_missed(network: Any) -> None:
    server = network(Ollama(2048))
    turns = [Message(("user", "assistant")[n % 2], f"Turn {n}: I am so sad about that. ") for n in range(301)]
    with pytest.raises(PromptTooLongError):
        await ask(server, messages=turns)
    assert (await ask(server, messages=turns[200:])).text == REPLY


async def test_an_ollama_that_does_not_say_its_context_is_warned_of(
    network: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Old(Ollama):
        def get(self, request: Any) -> Answer:
            return super().get(request) if request.path == "/v1/models" else error(404, "404 page not found")

    assert (await ask(network(Old()))).text == REPLY
    assert "does not say how long its context is" in caplog.text


def test_what_ollama_leaves_of_a_prompt_betrays_that_it_was_cut() -> None:
    short = [Message("system", "s" * 4000), Message("user", "u" * 80), Message("user", "u" * 4000)]
    assert not may_be_cut(1500, 4096, short)
    assert not may_be_cut(4000, 4096, short), "the oldest message has 80 characters, and was not dropped"
    assert may_be_cut(4060, 4096, short)
    assert may_be_cut(4096, 4096, short[2:]), "older versions keep as much as fits"
    assert not may_be_cut(4095, 4096, short[2:])
    assert may_be_cut(2050, 4096, short[2:]), "newer versions keep half"


async def test_a_model_that_is_not_listed(network: Any) -> None:
    server = network(LMStudio())
    server.model, listed_here = "other", listed({"id": "tiny", "owned_by": "organization_owner"})
    server.get = lambda _: listed_here  # type: ignore[method-assign]
    with pytest.raises(FatalEngineError, match="has no model 'other'"):
        await ask(server)


def test_what_is_not_known_is_any_server() -> None:
    for url in ("http://localhost:8000/v1", "https://example.com:11434/v1", "http://[::2]/v1"):
        assert server_at(url) is OTHER

"""`localemp serve --adapter`: names, requests, lists and vLLM's options, with a real app behind the middleware."""

import json
from itertools import pairwise
from pathlib import Path

import httpx
import openai
import pytest
from asgi_client import ask
from model_app import ModelApp, served
from test_middleware import TALK
from tiny_adapter import write_adapter, write_model

from localemp.errors import LocalempError, OptionError, UnknownNameError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.names import ModelNames
from localemp.serving.settings import MOST_ADAPTERS, ServeSettings
from localemp.serving.vllm.command import check_environment, check_options, prepare, vllm_command

STRATEGIES = ("zero-shot", "two-stage")
HASHES = {"mine": "a" * 64, "v2.other": "b" * 64}
BARE = ["tiny", "tiny@mine", "tiny@v2.other"]
NAMES = [*BARE, *(f"{bare}:{strategy}" for bare in BARE for strategy in STRATEGIES)]


def settings(**changes) -> ServeSettings:
    config = {"model": "tiny", "base_url": "http://127.0.0.1:1/v1"}
    return ServeSettings(model="tiny", config=config, strategies=STRATEGIES, **({"adapters": HASHES} | changes))


@pytest.fixture
def model() -> ModelApp:
    return ModelApp(("tiny@mine", "tiny@v2.other"))


@pytest.fixture
def app(model: ModelApp) -> StrategyMiddleware:
    return StrategyMiddleware(model.app, settings())


def test_the_list_has_the_model_its_adapters_and_the_strategies_of_both(client: openai.OpenAI):
    listed = {entry.id: entry.model_dump() for entry in client.models.list()}
    assert list(listed) == NAMES
    adapted, strategy = listed["tiny@mine"], listed["tiny@mine:two-stage"]
    assert (adapted["parent"], adapted["root"], adapted["owned_by"]) == ("tiny", "/adapter", "vllm")
    assert (strategy["parent"], strategy["root"], strategy["owned_by"]) == ("tiny@mine", "tiny@mine", "localemp")
    for entry in (adapted, strategy):
        assert (entry["max_model_len"], entry["adapter"], entry["adapter_sha256"]) == (4096, "mine", "a" * 64)
    assert "adapter" not in listed["tiny"].keys() | listed["tiny:two-stage"].keys()
    for name, entry in listed.items():
        assert client.models.retrieve(name).model_dump() == entry


async def test_adapters_that_the_app_does_not_list_are_listed():
    listed = (await ask(StrategyMiddleware(ModelApp().app, settings()), "GET", "/v1/models")).json()["data"]
    assert [entry["id"] for entry in listed] == NAMES
    assert {entry["parent"] for entry in listed if entry["id"].endswith("@mine")} == {"tiny"}


@pytest.mark.parametrize("adapter", ["mine", "v2.other"])
def test_every_stage_asks_for_the_model_with_the_adapter(client: openai.OpenAI, model: ModelApp, adapter: str):
    name = f"tiny@{adapter}:two-stage"
    answer = client.chat.completions.create(model=name, messages=TALK, extra_body={"localemp": {"trace": True}})
    assert (answer.model, answer.choices[0].message.content) == (name, "I hear you, and I am with you")
    assert [asked["model"] for asked in model.asked] == [f"tiny@{adapter}"] * 2
    assert answer.usage.completion_tokens == 6 + 8
    assert (answer.localemp["strategy"], answer.localemp["adapter"]) == ("two-stage", adapter)
    plain = client.chat.completions.create(
        model="tiny:two-stage", messages=TALK, extra_body={"localemp": {"trace": True}}
    )
    assert [asked["model"] for asked in model.asked[2:]] == ["tiny"] * 2
    assert plain.localemp["adapter"] is None
    with_adapter, without = model.asked[:2], model.asked[2:]
    assert [asked | {"model": ""} for asked in with_adapter] == [asked | {"model": ""} for asked in without]


def test_a_stream_has_the_adapted_name_in_every_chunk(client: openai.OpenAI, model: ModelApp):
    name = "tiny@mine:two-stage"
    chunks = list(
        client.chat.completions.create(model=name, messages=TALK, stream=True, stream_options={"include_usage": True})
    )
    assert {chunk.model for chunk in chunks} == {name}
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "I hear you, and I am with you"
    assert chunks[-1].usage.completion_tokens == 14
    assert [asked["model"] for asked in model.asked] == ["tiny@mine"] * 2


def test_the_adapted_model_without_a_strategy_is_untouched(client: openai.OpenAI, url: str, model: ModelApp):
    answer = client.chat.completions.create(model="tiny@mine", messages=TALK)
    assert (answer.model, answer.choices[0].message.content) == ("tiny@mine", "I hear you: My dog died")
    assert model.asked == [{"messages": TALK, "model": "tiny@mine"}]
    for path in ("completions", "embeddings"):
        refused = httpx.post(f"{url}/v1/{path}", json={"model": "tiny@mine:zero-shot", "prompt": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_endpoint")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny@mien", "unknown adapter 'mien'; did you mean 'mine'? known: mine, v2.other"),
        ("tiny@mien:two-stage", "unknown adapter 'mien'; did you mean 'mine'?"),
        ("tiny@", "unknown adapter ''; known: mine, v2.other"),
        ("tiny@:zero-shot", "unknown adapter ''"),
        ("tiny@mine@v2.other:zero-shot", "unknown adapter 'mine@v2.other'"),
        ("tiny@two-stage", "unknown adapter 'two-stage'"),
        ("tiny@mine:two-stag", "unknown strategy 'two-stag'; did you mean 'two-stage'?"),
        ("tiny@mine:", "unknown strategy ''"),
        ("tiny@mine:zero-shot:two-stage", "unknown strategy 'zero-shot:two-stage'"),
        ("tiny:two-stage@mine", "unknown strategy 'two-stage@mine'; did you mean 'two-stage'?"),
        ("tiny@mine:similar", "unknown strategy 'similar'; known: zero-shot, two-stage"),
        ("tiny@" + "m" * 1000, "there is no model"),
    ],
)
def test_an_unknown_name_is_404_with_the_nearest(url: str, model: ModelApp, name: str, said: str):
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": name, "messages": TALK})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert said in error["message"]
    assert model.asked == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tiny@mien", "tiny@mine"),
        ("tiny@mien:two-stag", "tiny@mine:two-stage"),
        ("tiny:two-stag", "tiny:two-stage"),
        ("tiney@mine", "tiny@mine"),
        ("tiny@qqqq:two-stage", None),
        ("gpt", None),
    ],
)
async def test_the_list_tells_the_nearest_name(model: ModelApp, name: str, near: str | None):
    answer = await ask(StrategyMiddleware(model.app, settings()), "GET", f"/v1/models/{name}")
    said = answer.json()["error"]["message"]
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert said == f"there is no model {name!r}" + (f"; did you mean {near!r}?" if near else "")


@pytest.mark.parametrize("model", ["llama", "org/llama", "qwen3:8b", "a@b", "a@b:c"])
def test_names_have_one_meaning_whatever_the_models_is(model: str):
    names = ModelNames(model, ("mine", "mine-2", "b"), ("two-stage", "similar+two-stage"))
    listed = list(names)
    assert len(set(listed)) == len(listed) == 4 * 3
    found = {names.of(*parsed): parsed for name in listed if (parsed := names.parse(name))}
    assert sorted(found) == sorted(name for adapter in ("", *names.adapters) for name in names.of_strategies(adapter))
    assert [name for name in listed if names.parse(name) is None] == [names.of(each) for each in ("", *names.adapters)]
    with pytest.raises(UnknownNameError, match="unknown adapter 'mine-3'"):
        names.parse(f"{model}@mine-3:two-stage")


def test_without_adapters_of_ours_such_names_are_the_apps():
    assert ModelNames("tiny", (), ("two-stage",)).parse("tiny@theirs") is None
    assert ModelNames("tiny", (), ("two-stage",)).parse("tiny@theirs:two-stage") is None


def test_metrics_tell_adapters_apart(client: openai.OpenAI):
    from prometheus_client import REGISTRY

    def value(adapter: str) -> float:
        labels = {"strategy": "zero-shot", "adapter": adapter}
        return REGISTRY.get_sample_value("localemp_requests_total", labels) or 0.0

    before = value("mine"), value("")
    client.chat.completions.create(model="tiny@mine:zero-shot", messages=TALK)
    assert (value("mine"), value("")) == (before[0] + 1, before[1])


def test_a_strategy_is_built_once_for_all_adapters(model: ModelApp):
    middleware = StrategyMiddleware(model.app, settings())
    with served(middleware) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        for bare in BARE:
            client.chat.completions.create(model=f"{bare}:zero-shot", messages=TALK)
    assert len(middleware.catalog._built) == len(STRATEGIES), "one of each, from the start"


# Before the engine starts.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model `base`, and adapters `mine` and `other` for it."""
    write_model(tmp_path / "base", max_position_embeddings=2048)
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    write_adapter(tmp_path / "mine")
    write_adapter(tmp_path / "other", rank=12, seed=1)
    return tmp_path


def pipeline_of(folder: Path) -> Pipeline:
    return Pipeline(RunConfig(model=str(folder / "base")))


def options_of(folder: Path, specs: list[str], *options: str) -> tuple[list[str], list[dict[str, str]]]:
    """vLLM's options after those of every server, and the adapters among them."""
    pipeline = pipeline_of(folder)
    check_options(options)
    command = vllm_command(pipeline, "127.0.0.1", 8000, options, adapters=prepare(pipeline, [], specs))
    at = command.index("--lora-modules")
    end = next((n for n in range(at + 1, len(command)) if command[n].startswith("-")), len(command))
    return command[command.index("--shutdown-timeout") + 2 :], [json.loads(each) for each in command[at + 1 : end]]


def sizes(options: list[str]) -> dict[str, str]:
    """The sizes among vLLM's options."""
    return {name: value for name, value in pairwise(options) if name.startswith("--max-")}


def test_vllm_gets_adapters_under_their_names_and_enough_room(folder: Path):
    options, modules = options_of(folder, [f"a={folder / 'mine'}", str(folder / "other")])
    assert sizes(options) == {"--max-loras": "2", "--max-cpu-loras": "2", "--max-lora-rank": "16"}
    assert "--enable-lora" in options
    assert modules == [
        {"name": "base@a", "path": str(folder / "mine"), "base_model_name": "base"},
        {"name": "base@other", "path": str(folder / "other"), "base_model_name": "base"},
    ]


def test_more_adapters_than_fit_a_batch_wait_on_the_cpu(folder: Path):
    options, modules = options_of(folder, [f"a{n}={folder / 'mine'}" for n in range(12)])
    assert sizes(options) == {"--max-loras": "8", "--max-cpu-loras": "12", "--max-lora-rank": "8"}
    assert len(modules) == 12


def test_the_persons_own_sizes_take_precedence(folder: Path):
    options, _ = options_of(folder, [str(folder / "mine")], "--max_lora_rank=64", "--max-loras", "3", "--enable-lora")
    assert options[:2] == ["--max-cpu-loras", "3"]
    assert options[-4:] == ["--max_lora_rank=64", "--max-loras", "3", "--enable-lora"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-lora-rank", "8"], "-- --max-lora-rank 8: the adapter other has rank 12"),
        (["--max-lora-rank=1"], "-- --max-lora-rank 1: the adapter other has rank 12"),
        (["--no-enable-lora"], "--enable-lora false and --adapter exclude each other"),
        (["--lora-modules", "x=/y"], "-- --lora-modules and --adapter exclude each other"),
    ],
)
def test_options_that_leave_no_room_are_said(folder: Path, options: list[str], said: str):
    with pytest.raises(OptionError) as caught:
        options_of(folder, [str(folder / "mine"), str(folder / "other")], *options)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        (["mine", "x/mine"], "the name 'mine' is another adapter's"),
        (["a=mine", "a=other"], "the name 'a' is another adapter's"),
        (["base=mine"], "the name 'base' is the model's"),
        (["two-stage=mine"], "the name 'two-stage' is a strategy's"),
        (["a:b=mine"], "'a:b' is not a name"),
        (["a@b=mine"], "'a@b' is not a name"),
        ([f"a{n}=mine" for n in range(MOST_ADAPTERS + 1)], "65 adapters; a server has at most 64"),
        (["nowhere"], "is not a folder here"),
        (["wide"], "the model's hidden size is 8"),
        (["deep"], "the model has layers 0 to 1"),
        (["strange"], "changes a module that the model does not have"),
        (["high"], "the rank is 1024; vLLM takes at most 512"),
    ],
)
def test_mistakes_with_adapters_show_before_the_engine_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, specs: list[str], said: str
):
    monkeypatch.chdir(folder)
    write_adapter(folder / "wide", modules={"self_attn.q_proj": (16, 8)})
    write_adapter(folder / "deep", layers=[7])
    write_adapter(folder / "strange", modules={"self_attn.z_proj": (8, 8)})
    write_adapter(folder / "high", rank=1024)
    with pytest.raises(LocalempError) as caught:
        prepare(pipeline_of(folder), [], specs)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("value", ["1", "true"])
def test_adapters_that_clients_could_replace_are_refused(value: str):
    environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": value}
    check_environment(environment)
    check_environment({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0"}, ["mine"])
    with pytest.raises(OptionError, match="clients could replace an adapter"):
        check_environment(environment, ["mine"])


def test_a_model_that_runs_elsewhere_has_adapters_of_its_own(folder: Path):
    pipeline = Pipeline(RunConfig(model="llama", base_url="http://127.0.0.1:1/v1"))
    with pytest.raises(OptionError, match="runs on a server, which has adapters of its own") as caught:
        prepare(pipeline, [], [str(folder / "mine")])
    assert "give the server's name of the adapted model as --model" in caught.value.hint


def test_settings_carry_names_and_hashes_and_no_path(folder: Path):
    pipeline = pipeline_of(folder)
    config = RunConfig(model="base", adapter=str(folder / "mine"))
    found = prepare(pipeline, [], [str(folder / "mine")])
    sent = ServeSettings.of("base", config, strategies=STRATEGIES, adapters=found)
    again = ServeSettings.from_env(sent.to_env())
    assert again.adapters == {"mine": found[0].sha256}
    assert list(again.names) == list(ModelNames("base", ("mine",), STRATEGIES))
    assert str(folder) not in str(sent.to_env())
    with pytest.raises(OptionError, match="cannot be read: adapters"):
        ServeSettings.from_env(
            {"LOCALEMP_SERVE": json.dumps({"model": "m", "adapters": {str(n): "" for n in range(65)}})}
        )

"""Flows of the operator's own as models: `localemp serve --flow ./mine.toml`."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

import httpx
import openai
import pytest
from asgi_client import ask
from command import Localemp
from model_app import ModelApp, served
from patience import patience
from ports import free_port
from prometheus_client import REGISTRY

from localemp.errors import LocalempError, OptionError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.serving.flows import LARGEST_FLOWS, MOST_FLOWS, offered_strategies, register_flows
from localemp.serving.middleware import StrategyMiddleware
from localemp.serving.settings import ServeSettings
from localemp.serving.vllm.command import prepare
from localemp.strategies.registry import PARTS, all_strategies

pytestmark = pytest.mark.usefixtures("parts_as_before")

TALK: Any = [{"role": "user", "content": "say: Good\n\nMy dog is well."}]
MOOD = """
about = "the mood first, then the reply"

[[stages]]
name = "mood"
ask = "Is the mood one of: {labels}?"
labels = ["Good", "Bad"]

[[stages]]
name = "reply"
ask = "The mood is {mood}."
"""
FACTS = """
about = "the reply, given what is known"

[[stages]]
name = "reply"
ask = "The speaker feels {emotion}: {situation}"
"""
FORM = """
about = "the reply, given the mood"

[[stages]]
name = "reply"
ask = "They feel {emotion}."
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with flows."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"mood": MOOD, "facts": FACTS, "formed": MOOD, "formed.given-emotion": FORM}.items():
        (tmp_path / f"{name}.toml").write_text(text, "utf-8")
    return tmp_path


@pytest.fixture
def model() -> ModelApp:
    return ModelApp(("tiny@mine",))


@pytest.fixture
def app(model: ModelApp, folder: Path) -> StrategyMiddleware:
    """As in a process of its own: the settings come from the environment, and the files are gone."""
    names = "two-stage,few-shot+./mood.toml,facts,formed"
    offered, texts = offered_strategies(names, ["mood.toml", "facts.toml", str(folder / "formed.toml")])
    config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", shots=2)
    sent = ServeSettings.of("tiny", config, strategies=offered, flows=texts).to_env()
    assert str(folder) not in str(sent)
    for file in folder.iterdir():
        file.unlink()
    settings = ServeSettings.from_env(sent).model_copy(update={"adapters": {"mine": "a" * 64}})
    return StrategyMiddleware(model.app, settings)


def traced(client: openai.OpenAI, model: str, **options: Any) -> Any:
    return client.chat.completions.create(
        model=model, messages=TALK, extra_body={"localemp": {"trace": True, **options}}
    )


def test_the_list_has_flows_with_their_line(client: openai.OpenAI):
    listed = {entry.id: entry.model_dump() for entry in client.models.list()}
    assert [name for name in listed if "@" not in name] == [
        "tiny", "tiny:two-stage", "tiny:few-shot+mood", "tiny:facts", "tiny:formed", "tiny:mood"
    ]  # fmt: skip
    assert listed["tiny@mine:mood"]["description"] == "the mood first, then the reply"
    assert listed["tiny:few-shot+mood"]["description"].endswith("(section 3.2); the mood first, then the reply")
    assert listed["tiny:two-stage"]["description"] == "feeling and situation first, then the reply (section 3.3.2)"
    assert "description" not in listed["tiny"]


@pytest.mark.parametrize("name", ["tiny:mood", "tiny@mine:mood", "tiny:mood+few-shot"])
def test_a_flow_is_a_model_with_the_trace_of_all_stages(client: openai.OpenAI, model: ModelApp, name: str):
    answer = traced(client, name)
    assert answer.choices[0].message.content == "Good"
    first, last = model.asked
    assert first["messages"][-1]["content"] == f"{TALK[0]['content']}\n\nIs the mood one of: Good, Bad?"
    assert last["messages"][-1]["content"] == f"{TALK[0]['content']}\n\nThe mood is Good."
    assert {asked["model"] for asked in model.asked} == {name.partition(":")[0]}
    stages = answer.localemp["stages"]
    assert [(stage["name"], stage["answer"]) for stage in stages] == [("mood", "Good"), ("reply", None)]
    assert answer.localemp["strategy"] == ("few-shot+mood" if "few-shot" in name else "mood")
    assert len(answer.localemp["exemplars"]) == (2 if "few-shot" in name else 0)


def test_a_stream_brings_the_last_stage_and_the_trace(client: openai.OpenAI, model: ModelApp):
    answer = client.chat.completions.create(
        model="tiny:mood", messages=TALK, stream=True, extra_body={"localemp": {"trace": True}}
    )
    *words, trace = list(answer)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in words) == "Good"
    assert {chunk.model for chunk in words} == {"tiny:mood"}
    assert [stage["answer"] for stage in trace.localemp["stages"]] == ["Good", None]
    assert [bool(asked.get("stream")) for asked in model.asked] == [False, True]


def test_facts_that_a_flow_shows_come_with_the_request(client: openai.OpenAI, model: ModelApp):
    traced(client, "tiny:facts", emotion="proud", situation="I won.")
    assert model.asked[0]["messages"][-1]["content"].endswith("The speaker feels proud: I won.")


@pytest.mark.parametrize(
    ("name", "options", "param", "said"),
    [
        ("facts", {}, "localemp.emotion", "the strategy facts needs the dialogue's emotion: send 'localemp': {'emot"),
        ("facts", {"emotion": "proud"}, "localemp.situation", "the strategy facts needs the dialogue's situation"),
        ("mood", {"emotion": "sad"}, "localemp.emotion", "'emotion' is for two-stage, and flows that show it"),
        ("formed", {"situation": "I won."}, "localemp", "--given situation: formed.toml has no form for it"),
    ],
    ids=["none", "one", "not shown", "no form"],
)
def test_facts_that_do_not_fit_are_a_400(client: openai.OpenAI, model: ModelApp, name, options, param, said):
    with pytest.raises(openai.BadRequestError) as caught:
        traced(client, f"tiny:{name}", **options)
    assert (caught.value.param, said in caught.value.message) == (param, True), caught.value.message
    assert model.asked == []


def test_forms_for_given_facts_travel_with_their_flow(client: openai.OpenAI, model: ModelApp):
    answer = traced(client, "tiny:formed", emotion="proud")
    assert [stage["name"] for stage in answer.localemp["stages"]] == ["reply"]
    assert model.asked[0]["messages"][-1]["content"].endswith("They feel proud.")
    assert len(traced(client, "tiny:formed").localemp["stages"]) == 2


HOSTILE = [
    "./mood.toml", "mood.toml", "/etc/passwd", "../../../etc/passwd", "~/.ssh/id_rsa", "few-shot+./mood.toml",
    "os:system", "antigravity:Flow", "./evil.py:Flow", "few-shot+./evil.py:Flow", "formed.given-emotion",
    "mood+mood", "mood+two-stage", "mood+", "+mood", "", "mood:mood", "similar", "similar+mood", "mood\x00", "mood\n",
    "MOOD", "+".join("a" * 90), "file:///etc/passwd", "{mood}", "\ud800",
]  # fmt: skip


async def test_a_clients_name_is_only_looked_up(app: StrategyMiddleware, model: ModelApp, folder: Path):
    for name in ("mood.toml", "passwd"):
        (folder / name).write_text(MOOD, "utf-8")
    (folder / "evil.py").write_text("raise SystemExit\n")
    body = {"messages": TALK, "localemp": {"trace": True}}
    assert (await ask(app, "POST", "/v1/chat/completions", {**body, "model": "tiny:mood"})).status == 200
    asked, touched, watching = len(model.asked), [], True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if watching and event in ("open", "import", "os.listdir", "os.scandir", "compile", "exec"):
            touched.append((event, args))

    sys.addaudithook(hook)
    try:
        for name in HOSTILE:
            for bare in ("tiny", "tiny@mine"):
                answer = await ask(app, "POST", "/v1/chat/completions", {**body, "model": f"{bare}:{name}"})
                error = answer.json()["error"]
                assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model"), name
                assert len(answer.body) < 1000
    finally:
        watching = False
    assert touched == []
    assert len(model.asked) == asked
    counted = {sample.labels.get("strategy") for metric in REGISTRY.collect() for sample in metric.samples}
    assert not counted & set(HOSTILE) - {None}


def test_what_is_offered(folder: Path):
    offered, texts = offered_strategies(None, ["./mood.toml"])
    flow = [name for name in offered if name not in all_strategies()]
    assert [name for name in offered if name not in flow] == list(all_strategies())
    assert flow == [
        "mood", "few-shot+mood", "similar+mood", "knowledge+mood", "few-shot+knowledge+mood", "similar+knowledge+mood"
    ]  # fmt: skip
    assert texts == {"mood": MOOD}
    listed = "zero-shot, similar + ./mood.toml"
    assert offered_strategies(listed, [])[0] == ("zero-shot", "similar+mood")
    assert offered_strategies(listed, ["mood.toml", "./facts.toml"])[0] == (
        "zero-shot",
        "similar+mood",
        "mood",
        "facts",
    )
    assert offered_strategies("mood,facts", ["mood.toml", "facts.toml"])[0] == ("mood", "facts")
    assert set(offered_strategies("formed.toml", [])[1]) == {"formed", "formed.given-emotion"}
    assert offered_strategies(None, []) == (all_strategies(), {}), "registered ones are not offered again by themselves"


@pytest.mark.parametrize(
    ("listed", "paths", "said"),
    [
        (None, ["two-stage"], "--flow two-stage: a flow is a file whose name ends with .toml; the bundled ones are"),
        (None, ["none.toml"], "none.toml: no such file"),
        (None, ["two-stage.toml"], "there is a strategy 'two-stage' already; give the file another name"),
        (None, ["mood.toml", "other/mood.toml"], "mood.toml and other/mood.toml have the same name, 'mood'; rename"),
        (None, ["broken.toml"], "broken.toml"),
        (
            None,
            ["formed.given-emotion.toml"],
            "a flow's name has no dot; forms for given facts are served with formed.toml",
        ),
        (None, ["large.toml"], f"a server takes at most {LARGEST_FLOWS // 1024}"),
        ("mood.toml+two-stage", [], "its parts exclude each other"),
        ("mood", [], "unknown strategy 'mood'"),
        ("", ["mood.toml"], "unknown strategy ''"),
    ],
    ids=["name", "missing", "taken", "same", "broken", "form", "large", "excluded", "unknown", "empty"],
)
def test_what_is_wrong_with_a_flow_is_said_before_anything_starts(folder: Path, listed, paths, said: str):
    (folder / "other").mkdir()
    for name in ("two-stage", "other/mood"):
        (folder / f"{name}.toml").write_text(MOOD, "utf-8")
    (folder / "broken.toml").write_text(MOOD.replace("{mood}", "{mod}"), "utf-8")
    (folder / "large.toml").write_text(MOOD + "#" * LARGEST_FLOWS, "utf-8")
    with pytest.raises(LocalempError) as caught:
        offered_strategies(listed, paths)
    assert said in caught.value.with_hint
    assert caught.value.exit_code == 2


def test_a_server_has_a_limited_number_of_flows(folder: Path):
    paths = [f"flow-{number}.toml" for number in range(MOST_FLOWS + 1)]
    for path in paths:
        (folder / path).write_text(MOOD, "utf-8")
    with pytest.raises(OptionError, match=f"{MOST_FLOWS + 1} flows; a server has at most {MOST_FLOWS}"):
        offered_strategies(None, paths)
    offered, texts = offered_strategies(None, paths[:-1])
    settings = ServeSettings.of("tiny", RunConfig(), strategies=offered, flows=texts)
    assert settings == ServeSettings.from_env(settings.to_env())


def test_a_flow_is_read_once_and_stays_as_it_was(folder: Path):
    _, texts = offered_strategies(None, ["mood.toml"])
    part = PARTS["mood"]
    register_flows(texts)
    assert PARTS["mood"] is part, "as in a server that runs in the command's own process"
    with pytest.raises(OptionError, match="there is a strategy 'mood' already"):
        register_flows({"mood": FACTS})


def test_an_adapter_cannot_have_a_flows_name(folder: Path):
    offered, _ = offered_strategies("mood.toml", [])
    pipeline = Pipeline(RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1"))
    with pytest.raises(OptionError, match="the name 'mood' is a strategy's"):
        prepare(pipeline, offered, ["mood=adapters/listener"])


def test_steps_are_counted_by_the_stages_names(url: str, client: openai.OpenAI):
    client.chat.completions.create(model="tiny:mood", messages=TALK)
    labels = {"strategy": "mood", "adapter": "", "step": "mood"}
    assert (REGISTRY.get_sample_value("localemp_step_seconds_count", labels) or 0) >= 1
    assert httpx.get(f"{url}/metrics").status_code == 200


def test_broken_settings_show_no_flow(folder: Path):
    with pytest.raises(OptionError) as caught:
        ServeSettings.from_env({"LOCALEMP_SERVE": json.dumps({"model": "m", "flows": {"mine": ["a secret text"]}})})
    assert "secret" not in str(caught.value)


@pytest.fixture
def process(model: ModelApp, folder: Path) -> Iterator[tuple[str, "Popen[str]"]]:
    """`localemp serve` with a flow, before a server that has the model: its URL, and the process."""
    port = free_port()
    words = ("--flow", "./mood.toml", "--strategies", "two-stage,few-shot+facts.toml", "--shots", "1", "--port", port)
    env = {**os.environ, "OPENAI_API_KEY": "", "LOCALEMP_API_KEY": ""}
    with served(model.app) as upstream:
        command = Localemp(folder).command("serve", "--model", "tiny", "--upstream", f"{upstream}/v1", *words)
        with Popen(command, cwd=folder, env=env, stdout=PIPE, stderr=STDOUT, text=True) as process:
            yield f"http://127.0.0.1:{port}/v1", process
            process.kill()


def test_serve_with_a_flow_as_a_person_starts_it(process: tuple[str, "Popen[str]"], folder: Path, model: ModelApp):
    url, server = process
    assert server.stdout is not None
    said: list[str] = []
    while not said or said[-1] != "Ctrl-C stops.\n":
        said.append(server.stdout.readline())
        assert said[-1], "".join(said)
    assert "  tiny:STRATEGY, with one of: two-stage, few-shot+facts, mood\n" in said
    (folder / "mood.toml").unlink()
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
        whole = traced(client, "tiny:mood")
        stream = client.chat.completions.create(
            model="tiny:mood", messages=TALK, stream=True, extra_body={"localemp": {"trace": True}}
        )
        *words, trace = list(stream)
        traced(client, "tiny:few-shot+facts", emotion="proud", situation="I won.")
    assert whole.choices[0].message.content == "".join(chunk.choices[0].delta.content or "" for chunk in words)
    for told in (whole.localemp, trace.localemp):
        assert [(stage["name"], stage["answer"]) for stage in told["stages"]] == [("mood", "Good"), ("reply", None)]
    assert model.asked[-1]["messages"][-1]["content"].endswith("The speaker feels proud: I won.")
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=patience(30))
    assert server.returncode in (0, 130)

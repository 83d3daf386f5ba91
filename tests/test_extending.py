"""One of each from outside the package: what is registered works everywhere; no module of localemp changes for it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from localemp.cli.main import cli
from localemp.data.readers import READERS, Reader, register_reader
from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion, Engine
from localemp.engines.registry import ENGINES, EngineContext, register_engine
from localemp.errors import DataError, OptionError, UnknownNameError
from localemp.metrics.base import Metric, Rows, Setting, Statistics
from localemp.metrics.registry import METRICS, register_metric
from localemp.metrics.replies import Replies
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import read_records
from localemp.sampling import Sampling
from localemp.serving.middleware import Strategies
from localemp.serving.settings import ServeSettings
from localemp.serving.vllm.command import prepare
from localemp.strategies.base import Draft, Enricher, Exchange, Flow
from localemp.strategies.parts import Part, PartContext
from localemp.strategies.registry import PARTS, all_strategies, register_part
from localemp.utils.option import Option


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """The registries are as they were when the test ends."""
    before = [(registry, dict(registry)) for registry in (ENGINES, METRICS, PARTS, READERS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


def run(*words: object) -> str:
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False).stdout


class EchoEngine(Engine):
    """Says the first line of the last message again, louder."""

    name = "echo"

    def __init__(self, end: str) -> None:
        self.end = end

    @classmethod
    def make(cls, context: EngineContext) -> "EchoEngine":
        return cls(context.profile.request["end"])

    @staticmethod
    def settings(context: EngineContext) -> Mapping[str, Any]:
        return {"end": context.profile.request["end"]}

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return Completion(messages[-1].content.partition("\n")[0] + self.end, "stop")

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name}


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A model that the engine answers for."""
    register_engine("echo", EchoEngine.make, EchoEngine.settings)
    profile = tmp_path / "echo.toml"
    profile.write_text('kind = "chat"\nengine = "echo"\n\n[request]\nend = "!"\n')
    return profile


def test_engine_that_a_profile_chooses(echo, tmp_path):
    run("generate", "--model", echo, "--data", "samples", "--limit", 2, "--out", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["settings"]["engine"], manifest["settings"]["end"]) == ("echo", "!")
    assert all(record["reply"].endswith("!") for record in read_records(tmp_path / "run"))
    assert "Hello.!" in run("respond", "--model", echo, "Hello.")
    assert "hosted" in run("models", "show", echo)


def test_an_engine_cannot_be_registered_twice_and_an_unknown_one_is_refused(echo, tmp_path):
    with pytest.raises(OptionError, match="'echo' already exists"):
        register_engine("echo", EchoEngine.make)
    echo.write_text(echo.read_text().replace("echo", "ecko"))
    with pytest.raises(UnknownNameError, match="unknown engine 'ecko'"):
        Pipeline(RunConfig(model=str(echo))).engine()
    with pytest.raises(OptionError, match="'ecko' cannot be served"):
        prepare(Pipeline(RunConfig(model=str(echo))), ["zero-shot"])


class Lines(Reader):
    """A text file: each line is what a speaker says."""

    endings = (".txt",)

    def read(self, split: str, instances: str) -> list[Dialogue]:
        lines = Path(self.source).read_text("utf-8").splitlines()
        return [Dialogue(f"line {number}", (line,)) for number, line in enumerate(lines, 1)]


class Greetings(Reader):
    """A named source."""

    names = ("greetings",)

    def read(self, split: str, instances: str) -> list[Dialogue]:
        return [Dialogue("a", ("Hello.",), reference="Good morning.")]


def test_reader_of_files_of_another_kind_and_one_of_a_named_source(echo, tmp_path):
    register_reader("lines", Lines)
    register_reader("greetings", Greetings)
    (tmp_path / "said.txt").write_text("I lost my job.\nMy dog is ill.\n")
    run("generate", "--model", echo, "--data", tmp_path / "said.txt", "--out", tmp_path / "run")
    replies = {record["id"]: record["reply"] for record in read_records(tmp_path / "run")}
    assert replies == {"line 1": "I lost my job.!", "line 2": "My dog is ill.!"}
    counted = json.loads(run("data", "stats", "greetings", "--json"))
    assert counted["splits"]["test"]["conversations"] == 1
    pipeline = Pipeline(RunConfig(model=str(echo), strategy="few-shot", shots=1, pool="greetings"))
    assert [shown.dialogue.reference for shown in pipeline.strategy.enrichers[0].exemplars] == ["Good morning."]
    (tmp_path / "a.docx").touch()
    with pytest.raises(DataError, match=r"one of \.csv, \.jsonl, \.json, \.parquet, \.txt") as caught:
        load_dialogues(str(tmp_path / "a.docx"))
    assert "greetings" in caught.value.hint


class Questions(Metric):
    """Questions in a reply."""

    name, decimals = "Questions", 1

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def settings(self) -> Mapping[str, Setting]:
        return {"mark": self.mark}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        return Means(np.array([text.count(self.mark) for system in systems for text in system.texts], np.float64))


class Means(Statistics):
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def value(self, rows: Rows) -> float:
        return float(self.values[rows].mean())

    def each(self, rows: Rows) -> np.ndarray:
        return self.values[rows]


def test_metric_with_an_option_of_its_own(echo, tmp_path):
    mark = Option(name="question_mark", default="?", help="What ends a question.")
    register_metric("Questions", lambda context: Questions(context.option("question_mark")), options=[mark])
    runs = [tmp_path / "a", tmp_path / "b"]
    for folder, end in zip(runs, ("?", "!!"), strict=True):
        echo.write_text(f'kind = "chat"\nengine = "echo"\n\n[request]\nend = "{end}"\n')
        run("generate", "--model", echo, "--data", "samples", "--limit", 3, "--out", folder)
    assert "--question-mark" in run("score", "--help")
    assert "Questions" in run("score", *runs, "--no-bertscore")
    kept = json.loads((runs[0] / "scores.json").read_text())["scores"][-1]
    assert (kept["name"], kept["signature"]["mark"]) == ("Questions", "?")
    told = json.loads(run("compare", *runs, "--metric", "Questions", "--question-mark", "!", "--json"))
    (compared,) = told["comparisons"]
    assert (compared["a"], compared["b"], compared["higher_is_better"]) == (0, 2, True)
    assert compared["signature"]["mark"] == "!"
    assert "Questions" in run("report", *runs)


CITY = Option(name="city", default="Oslo", help="weather: where.", in_requests=str)


class Weather(Enricher):
    """Tells the model what the weather is like."""

    def __init__(self, city: str, report: str) -> None:
        self.city, self.report = city, report

    async def enrich(self, draft: Draft) -> Draft:
        return replace(draft, additions=(*draft.additions, f"(In {self.city} it {self.report}.)"))

    def describe(self) -> dict[str, Any]:
        return {"city": self.city}

    def waiting(self) -> dict[str, int]:
        return {"weather": 0}


class Asked:
    """How often the part was fetched and what it looks things up in was made."""

    fetched, made = 0, 0

    def make(self, context: PartContext) -> Weather:
        return Weather(context.option(CITY), context.shared("weather", self.report))

    def report(self) -> str:
        self.made += 1
        return "rains"

    def fetch(self, context: PartContext) -> None:
        self.fetched += 1


@pytest.fixture
def weather() -> Asked:
    """A part that looks something up, with an option of its own."""
    asked = Asked()
    part = Part(about="the weather", place="weather", options=(CITY,), make=asked.make, fetch=asked.fetch)
    register_part("weather", part)
    return asked


class Twice(Flow):
    """Asks, and asks again."""

    async def run(self, exchange: Exchange) -> None:
        first = await exchange.ask("draft")
        await exchange.ask("reply", f"Shorter than: {first}")

    def describe(self) -> dict[str, Any]:
        return {"times": 2}


def test_part_of_strategies_and_a_flow(echo, weather, tmp_path):
    register_part("twice", Part(about="asks twice", place="flow", make=lambda _: Twice()))
    words = ("--model", echo, "--data", "samples", "--strategy", "twice+weather", "--city", "Rome")
    run("generate", *words, "--limit", 2, "--out", tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "manifest.json").read_text())["settings"]
    assert (settings["strategy"], settings["city"], settings["times"]) == ("weather+twice", "Rome", 2)
    for record in read_records(tmp_path / "run"):
        assert [stage["name"] for stage in record["stages"]] == ["draft", "reply"]
        assert "(In Rome it rains.)\n\nShorter than: " in record["stages"][1]["messages"][-1]["content"]
    assert "(In Rome it rains.)" in run("prompts", "show", *words)
    helped = run("generate", "--help")
    assert "weather: where." in helped and "the weather" in helped
    config = RunConfig(model=str(echo), strategy="weather", options={"city": "Lima"})
    assert Pipeline(config).settings([], "test")["city"] == "Lima"
    with pytest.raises(OptionError, match="city applies to weather, but the strategy is zero-shot"):
        _ = Pipeline(replace(config, strategy="zero-shot")).strategy
    with pytest.raises(UnknownNameError, match="unknown setting 'town'"):
        RunConfig(options={"town": "Lima"})
    with pytest.raises(OptionError, match="two options are called 'city'"):
        register_part("news", Part(about="", place="news", options=(Option(name="city"),), make=lambda _: None))


def test_an_option_cannot_take_the_name_of_another(echo):
    register_part("news", Part(about="", place="news", options=(Option(name="limit"),), make=lambda _: None))
    assert RunConfig(options={"limit": "a"}).options["limit"] == "a", "no setting of every run"
    with pytest.raises(OptionError, match="generate has an option 'limit' already"):
        run("generate", "--model", echo)
    register_part("films", Part(about="", place="films", options=(Option(name="seed"),), make=lambda _: None))
    with pytest.raises(OptionError, match="'seed' is a setting of every run"):
        RunConfig()


def test_part_behind_a_server(echo, weather):
    config = RunConfig(model="tiny", base_url="http://127.0.0.1:1/v1", options={"city": "Lima"})
    offered = ("zero-shot", "weather", "weather+two-stage")
    assert set(offered) < set(all_strategies())
    prepare(Pipeline(config), offered)
    assert (weather.fetched, weather.made) == (1, 0)
    settings = ServeSettings.of("tiny", config, strategies=offered, ui=False)
    asked = []

    async def chat(request: Request) -> JSONResponse:
        asked.append(await request.json())
        message = {"role": "assistant", "content": "I am sorry."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice]}
        )

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": "tiny", "object": "model"}]})

    routes = [Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])]
    app = Strategies(Starlette(routes=routes), ServeSettings.from_env(settings.to_env()))
    with TestClient(app, "http://127.0.0.1:8000") as client:
        assert weather.made == 1, "before the first request, once for all strategies"
        listed = [entry["id"] for entry in client.get("/v1/models").json()["data"]]
        assert listed == ["tiny", *(f"tiny:{name}" for name in offered)]

        def ask(strategy: str, **options: Any) -> Any:
            talk = [{"role": "user", "content": "My dog died."}]
            body = {"model": f"tiny:{strategy}", "messages": talk, "localemp": options}
            return client.post("/v1/chat/completions", json=body).json()

        for strategy, options, city in (("weather", {}, "Lima"), ("weather+two-stage", {"city": "Rome"}, "Rome")):
            assert ask(strategy, **options)["choices"][0]["message"]["content"] == "I am sorry."
            assert f"(In {city} it rains.)" in json.dumps(asked[-1])
        refused = ask("zero-shot", city="Rome")["error"]
        assert (refused["param"], refused["message"][:21]) == ("localemp.city", "'city' is for weather")
        assert ask("weather", city=3)["error"]["param"] == "localemp.city"
    assert b'localemp_lookups_waiting{part="weather"} 0.0' in generate_latest()

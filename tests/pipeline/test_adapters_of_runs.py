"""Runs with adapters: what is recorded, what a changed file means, and rows with different adapters on one engine."""

import asyncio
import json
import pickle
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tiny_adapter import write_adapter

from localemp.commands.verify import verify
from localemp.data.subset import Subset
from localemp.engines.adapted import AdaptableEngine
from localemp.engines.base import Completion, Engine, TextScore
from localemp.engines.forwarding import ForwardingEngine
from localemp.engines.registry import ENGINES
from localemp.engines.scripted import Entry, ScriptedEngine
from localemp.engines.vllm.lora import lora_args
from localemp.errors import LocalempError, OptionError, PlanError, RunError
from localemp.experiments.expand import expand
from localemp.experiments.plan import read_plan
from localemp.models.adapters import RANKS, Adapter, find_adapter
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.ray_actor import ActorRow, EngineActor, Share, ShareResult
from localemp.pipeline.recorded import recorded_adapter
from localemp.pipeline.responder import Responder
from localemp.pipeline.schedule import answer_batches
from localemp.pipeline.shared_answers import SharedAnswers, request_key
from localemp.runs.journal import read_manifest
from localemp.runs.run import read_records
from localemp.sampling import Sampling


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("mine", "yours")):
        write_adapter(tmp_path / name, seed=seed)
    entries: list[Mapping[str, Any]] = [
        {"adapter": "mine", "reply": "Mine."},
        {"adapter": "yours", "reply": "Yours."},
        {"reply": "Plain."},
    ]
    (tmp_path / "script.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return tmp_path


def config(adapter: str | None = None, **settings: Any) -> RunConfig:
    return RunConfig(script=Path("script.jsonl"), adapter=adapter, **settings)


def replies(folder: Path) -> set[str]:
    return {record["reply"] for record in read_records(folder)}


async def answer(*configs: RunConfig) -> list[Batch]:
    root = Pipeline(configs[0])
    batches = [Batch(root.sharing(each), subset=Subset(3), name=f"row {number}") for number, each in enumerate(configs)]
    with ExitStack() as stack:
        for batch in batches:
            stack.enter_context(batch.open())
        await answer_batches(batches, Path("engine.log"))
    return batches


async def test_rows_with_different_adapters_share_one_engine():
    batches = await answer(config(), config("mine"), config("yours"), config("mine", strategy="two-stage"))
    assert len({batch.pipeline.engine_key for batch in batches}) == 1
    assert [replies(batch.folder) for batch in batches] == [{"Plain."}, {"Mine."}, {"Yours."}, {"Mine."}]
    sessions = [read_manifest(batch.folder)["sessions"][-1] for batch in batches]
    assert [session.get("adapter", {}).get("name") for session in sessions] == [None, "mine", "yours", "mine"]
    assert [batch.folder.name.rsplit("-", 1)[0] for batch in batches] == [
        "scripted-zero-shot", "scripted-mine-zero-shot", "scripted-yours-zero-shot", "scripted-mine-two-stage",
    ]  # fmt: skip


async def test_the_same_request_with_the_same_adapter_is_asked_once():
    adapters = [find_adapter(name) for name in ("mine", "yours")]
    engine = ScriptedEngine([Entry(adapter="mine", reply="Mine."), Entry(reply="Other.")], adapters=adapters)
    shared, sampling = SharedAnswers(engine), Sampling(max_tokens=5)
    said = [
        await shared.asking(str(number), adapter).chat([], sampling)
        for number, adapter in enumerate((*adapters, None, *adapters, None))
    ]
    assert [each.text for each in said] == ["Mine.", "Other.", "Other."] * 2
    assert [each.asked_by for each in said] == ["", "", "", "0", "1", "2"]
    assert len(engine.calls) == 3
    assert len({request_key([], sampling, adapter) for adapter in (None, *adapters)}) == 3


async def test_what_is_recorded_and_what_a_changed_file_means(place):
    (batch,) = await answer(config("one=mine"))
    manifest = read_manifest(batch.folder)
    adapter = find_adapter("mine")
    told = {name: value for name, value in manifest["settings"].items() if "adapter" in name}
    assert told == {"adapter": "one", "adapter_rank": 4, "adapter_sha256": adapter.sha256}
    assert manifest["sessions"][0]["adapter"] == {
        "name": "one", "reference": "mine", "base": "someone/tiny", "rank": 4, "targets": ["down_proj", "q_proj"],
        "sha256": adapter.sha256,
    }  # fmt: skip
    write_adapter(place / "mine", seed=7)
    with pytest.raises(RunError, match=r"adapter_sha256: .* in the run, .* now"):
        Batch(Pipeline(config("one=mine")), subset=Subset(3), folder=batch.folder).open()
    assert Batch(Pipeline(config("one=mine")), subset=Subset(3)).folder != batch.folder


def test_without_an_adapter_nothing_is_recorded_that_was_not_before():
    settings = Pipeline(config()).model_settings()
    assert list(settings) == ["model", "engine"]
    assert Pipeline(config("none")).model_settings() == settings
    assert RunConfig(adapter="none") == RunConfig()


async def test_a_run_is_verified_with_its_adapter_by_its_name_or_from_another_place(place, monkeypatch):
    (batch,) = await answer(config("one=mine"))
    told = {"sample": 2, "batch_sizes": [1], "script": place / "script.jsonl"}
    (place / "script.jsonl").write_text('{"adapter": "one", "reply": "Mine."}\n{"reply": "Plain."}\n')
    assert recorded_adapter(read_manifest(batch.folder)) == "one=mine"
    made = await asyncio.to_thread(verify, batch.folder, **told)
    assert (made.anyway, made.different) == ([], 2), "the script did not know the name when the run was made"
    (place / "elsewhere").mkdir()
    (place / "mine").rename(place / "elsewhere" / "moved")
    with pytest.raises(OptionError, match="--adapter mine is not a folder here"):
        await asyncio.to_thread(verify, batch.folder, **told)
    made = await asyncio.to_thread(verify, batch.folder, adapter="elsewhere/moved", **told)
    assert made.anyway == [], "it is the same adapter, whatever its name"
    with pytest.raises(RunError, match=r"adapter_sha256: .* in the run"):
        await asyncio.to_thread(verify, batch.folder, adapter="one=yours", **told)


async def test_single_replies_have_the_adapter():
    async with Responder(config("mine")) as responder:
        assert (await responder("I lost my job.")).reply == "Mine."


def test_what_takes_no_adapter_says_so(monkeypatch):
    class Plain(Engine):
        name = "plain"

        async def chat(self, messages: Any, sampling: Any) -> Any:
            raise NotImplementedError

        def describe(self) -> dict[str, Any]:
            return {}

    monkeypatch.setattr("localemp.engines.registry.ENGINES", dict(ENGINES))
    with pytest.raises(OptionError, match="runs on a server, which has adapters of its own"):
        Pipeline(RunConfig(base_url="http://127.0.0.1:9/v1", model="m", adapter="mine")).model_settings()
    with pytest.raises(OptionError, match="runs on a server"):
        Pipeline(RunConfig(model="gpt-4o", adapter="mine")).check_options()
    with pytest.raises(OptionError, match="takes no adapters"):
        Plain().adapted(find_adapter("mine"))
    assert Plain().adapted(None).name == "plain"
    with pytest.raises(OptionError, match="was made without the adapter mine"):
        ScriptedEngine([], adapters=[find_adapter("yours")]).adapted(find_adapter("mine"))
    with pytest.raises(OptionError, match="is not a name"):
        RunConfig(adapter="a b=mine")


async def test_an_actor_of_a_cluster_answers_each_row_with_its_adapter(place):
    dialogues = Pipeline(config()).dialogues("test")[:2]

    async def answers(*adapters: str | None) -> list[ShareResult]:
        rows = [
            ActorRow(f"row {number}", each, Pipeline(each).settings(dialogues, "test"), dialogues[0])
            for number, each in enumerate(map(config, adapters))
        ]
        actor = await asyncio.to_thread(EngineActor, pickle.loads(pickle.dumps(rows)), place)
        shares = [{"share": pickle.dumps(Share(number, dialogues))} for number in range(len(rows))]
        return [pickle.loads((await actor(share))["answers"]) for share in shares]

    results = await answers("mine", None, "yours")
    assert [result.stopped or result.failed for result in results] == [None] * 3
    assert [{record["reply"] for record in result.records} for result in results] == [{"Mine."}, {"Plain."}, {"Yours."}]
    assert [result.engine.get("adapter", {}).get("name") for result in results] == ["mine", None, "yours"]
    (alone,) = await answers("yours")
    assert {record["reply"] for record in alone.records} == {"Yours."}


async def test_a_node_with_another_file_of_the_adapter_refuses_its_row(place):
    dialogues = Pipeline(config()).dialogues("test")[:2]
    made_from = [ActorRow("", config("mine"), Pipeline(config("mine")).settings(dialogues, "test"), dialogues[0])]
    write_adapter(place / "mine", seed=7)
    actor = await asyncio.to_thread(EngineActor, made_from, place)
    result = pickle.loads((await actor({"share": pickle.dumps(Share(0, dialogues))}))["answers"])
    assert "adapter_sha256" in result.failed.message


class Recording(AdaptableEngine):
    """Writes down what it is asked."""

    name = "recording"

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        super().__init__(adapters)
        self.heard: list[tuple[Any, ...]] = []

    async def chat(self, messages: Any, sampling: Any, adapter: Adapter | None = None) -> Completion:
        self.heard.append(("chat", adapter))
        return Completion("Oh.", "stop")

    async def score(self, messages: Any, text: str, adapter: Adapter | None = None) -> TextScore:
        self.heard.append(("score", adapter))
        return TextScore(-1.0, 1)

    def describe(self) -> dict[str, Any]:
        self.heard.append(("describe",))
        return {"engine": self.name}

    def check(self) -> None:
        self.heard.append(("check",))

    async def start(self) -> None:
        self.heard.append(("start",))
        self.concurrency = 7

    async def close(self) -> None:
        self.heard.append(("close",))

    async def reset_prefix_cache(self) -> bool:
        self.heard.append(("reset_prefix_cache",))
        return True


async def test_a_view_of_an_engine_passes_everything_on():
    public = {name for name in vars(Engine) if not name.startswith("_")} - {"concurrency", "finds_again"}
    assert public == {"chat", "score", "adapted", *(vars(ForwardingEngine).keys() & public)}
    mine, yours = find_adapter("mine"), find_adapter("yours")
    engine = Recording([mine, yours])
    view, shared = engine.adapted(mine), SharedAnswers(engine).asking("me", yours)
    for each in (view, shared):
        each.check()
        await each.start()
        assert (each.concurrency, each.describe()["adapter"]["name"]) == (7, "mine" if each is view else "yours")
        assert (await each.score([], "Oh."), await each.reset_prefix_cache()) == (TextScore(-1.0, 1), True)
        await each.chat([], Sampling(max_tokens=5))
        await each.close()
    told = ["check", "start", "describe", "score", "reset_prefix_cache", "chat", "close"]
    assert engine.heard == [
        (name, adapter) if name in ("chat", "score") else (name,) for adapter in (mine, yours) for name in told
    ]
    assert view.adapted(None) is engine
    await view.adapted(yours).chat([], Sampling(max_tokens=5))
    assert engine.heard[-1] == ("chat", yours)


def test_arguments_of_vllm(tmp_path):
    small = find_adapter("mine")
    large = find_adapter(str(write_adapter(tmp_path / "large", rank=33)))
    many = [find_adapter(str(write_adapter(tmp_path / f"a{seed}", seed=seed))) for seed in range(9)]
    assert lora_args([], {"max_loras": 3}, on_cpu=True) == {}
    told = {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": 8}
    assert lora_args([small], {}, on_cpu=False) == told
    extension = {"worker_extension_cls": "localemp.engines.vllm.cpu_lora.FasterLoRA"}
    assert lora_args([small], {}, on_cpu=True) == told | extension
    assert lora_args([small, large], {}, on_cpu=False)["max_lora_rank"] == 64
    assert lora_args(many, {}, on_cpu=False) == told | {"max_loras": 8, "max_cpu_loras": 9}
    own = {"max_loras": 2, "worker_extension_cls": "mine.Extension", "max_lora_rank": 512}
    assert lora_args([small], own, on_cpu=True) == {"enable_lora": True, "max_cpu_loras": 2}
    with pytest.raises(OptionError, match="the adapter large has rank 33"):
        lora_args([small, large], {"max_lora_rank": 32}, on_cpu=False)
    with pytest.raises(OptionError, match="exclude each other"):
        lora_args([small], {"enable_lora": False}, on_cpu=False)
    assert RANKS[-1] == 512


def test_a_grid_of_adapters_beside_the_plan(place, monkeypatch):
    (place / "plans").mkdir()
    text = """
        [[rows]]
        strategy = ["zero-shot", "two-stage"]
        adapter = ["../mine", "second=../yours", "none", "org/listener"]
        [[rows]]
        name = "{adapter} with {strategy}"
        strategy = "few-shot"
        adapter = "mine=../mine"
    """
    (place / "plans" / "p.toml").write_text(text)
    rows = expand(read_plan("plans/p.toml"), settings={"script": "script.jsonl"})
    assert [row.row for row in rows[:4]] == [
        f"zero-shot, adapter={name}" for name in ("mine", "second", "none", "listener")
    ]
    assert rows[-1].row == "mine with few-shot"
    adapters = [row.config.adapter for row in rows]
    assert adapters[:4] == ["plans/../mine", "second=plans/../yours", None, "org/listener"]
    assert adapters[-1] == "mine=plans/../mine"
    (place / "plans" / "p.toml").write_text('[[rows]]\nadapter = "a b=mine"\n')
    with pytest.raises(PlanError, match=r"row 1, adapter: .* is not a name"):
        read_plan("plans/p.toml")


def test_the_option_of_commands(localemp, place):
    done = localemp("respond", "--script", "script.jsonl", "--adapter", "mine", "I lost my job.")
    assert done.stdout == "Mine.\n"
    done = localemp("generate", "--script", "script.jsonl", "--adapter", "mine", "--adapter", "yours")
    assert done.returncode == 2
    assert "a run has one adapter. `localemp experiment` compares several" in done.stderr
    assert "`localemp serve` serves several" in done.stderr
    done = localemp("generate", "--base-url", "http://127.0.0.1:9/v1", "--adapter", "mine")
    assert done.returncode == 2
    assert "give the server's name of the adapted model as --model" in done.stderr
    done = localemp("generate", "--script", "script.jsonl", "--adapter", "nothing")
    assert (done.returncode, "is not a folder here" in done.stderr) == (2, True)
    localemp("generate", "--script", "script.jsonl", "--adapter", "mine", "--limit", "1")
    assert "scripted@mine" in localemp("runs", "list").stdout


def test_an_estimate_knows_that_adapters_share_nothing(localemp):
    (Path("p.toml")).write_text(
        '[[rows]]\nname = "a"\nadapter = "mine"\n[[rows]]\nname = "b"\nadapter = "yours"\n[[rows]]\nname = "c"\n'
    )
    done = localemp("experiment", "p.toml", "--script", "script.jsonl", "--estimate", "--json", "--limit", "2")
    rows = json.loads(done.stdout)["rows"]
    assert [row["calls"] for row in rows] == [2, 2, 2]


def test_of_two_names_for_nothing_the_error_is_ours():
    with pytest.raises(LocalempError):
        find_adapter("\x00")

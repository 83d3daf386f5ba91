"""Several batches on one engine: in which order they are answered, what they share, and what fails alone."""

import asyncio
import json
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localemp.dialogue import Dialogue, Message
from localemp.engines.base import TURN, Completion, Engine
from localemp.engines.planner import Planner
from localemp.engines.registry import ENGINES, register_engine
from localemp.errors import EngineError, FatalEngineError, OptionError, PromptTooLongError
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.context_bound import ContextBound
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.schedule import answer_batches
from localemp.runs.run import read_records
from localemp.sampling import Sampling
from localemp.strategies.base import CountTokens, Draft, Enricher, Exemplar
from localemp.strategies.parts import Part
from localemp.strategies.registry import PARTS, register_part
from localemp.strategies.similar import Similar
from localemp.utils.paths import resource


class Recorder(Engine):
    """Answers with the number of the call; everything that it is asked is kept.

    Attributes:
        calls: Messages and turn of every call, in order.
        fail: Raises what a call should fail with.
        most: Most calls at once.
    """

    name = "recorder"
    concurrency = 4

    def __init__(self) -> None:
        self.calls: list[tuple[list[Message], int]] = []
        self.fail: Any = lambda prompt: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.answered = asyncio.Event()
        self.check: Any = lambda messages, sampling: None
        self.contexts: list[int] = []
        self.started = self.closed = False
        self.now = self.most = 0

    async def start(self) -> None:
        self.started = True

    async def close(self) -> None:
        self.closed, self.started = True, False

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.calls.append((list(messages), TURN.get()))
        number = len(self.calls)
        self.check(messages, sampling)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            self.fail("\n".join(message.content for message in messages))
        finally:
            self.now -= 1
            self.answered.set()
        return Completion(f"Reply {number}.", "stop", 10, 3, cost=0.5)

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A registered engine that a profile in the current folder names."""
    before = [(registry, dict(registry)) for registry in (ENGINES, PARTS)]
    made = Recorder()
    register_engine("recorder", lambda context: made)
    (tmp_path / "m.toml").write_text('name = "m"\nkind = "chat"\nengine = "recorder"\nmodel = "m"\n')
    monkeypatch.chdir(tmp_path)
    yield made
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


def stories(path: Path, count: int, same: bool = False) -> Path:
    lines = [
        {"id": f"d{n}", "turns": [f"Story {0 if same else n}."], "emotion": "sad", "situation": f"It was day {n}."}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def batches_of(*rows: dict[str, Any], count: int = 3, same: bool = False, folder: str = "rows") -> list[Batch]:
    data = stories(Path("data.jsonl"), count, same)
    first = Pipeline(RunConfig())
    made = []
    for number, row in enumerate(rows):
        config = RunConfig(**{"model": "m.toml", "data": str(data), **row})
        made.append(Batch(first.sharing(config), folder=Path(folder) / f"r{number}", name=f"row {number}"))
    return made


async def answer(batches: Sequence[Batch], on_progress: Any = lambda progress: None) -> None:
    with ExitStack() as stack:
        for batch in batches:
            stack.enter_context(batch.open())
        await answer_batches(batches, Path("engine.log"), on_progress)


def replies(batch: Batch) -> dict[str, str]:
    return {record["id"]: record.get("reply", "") for record in read_records(batch.folder)}


async def test_rows_share_one_engine_and_each_has_its_own_run(engine):
    batches = batches_of({}, {"strategy": "two-stage"})
    shown = []
    await answer(batches, shown.append)
    assert engine.closed
    assert [len(replies(batch)) for batch in batches] == [3, 3]
    assert [(batch.tally.done, batch.tally.calls, batch.error) for batch in batches] == [(3, 3, None), (3, 6, None)]
    answered = [(each.row, each.done, each.total) for each in shown if each.task == "Answering"]
    assert sorted(answered) == [(f"row {row}", done, 3) for row in range(2) for done in range(4)]
    assert [each.task for each in shown if not each.row] == ["Starting recorder (m)"]


def kind(messages: Sequence[Message]) -> str:
    """Return which call it is by its prompt."""
    if "Instance 1:" in messages[0].content:
        return "few-shot"
    if "think step by step" in messages[-1].content:
        return "feeling"
    return "second" if len(messages) > 2 else "zero-shot"


async def test_rows_with_more_stages_come_first_and_a_chain_keeps_its_turn(engine):
    engine.concurrency = 2
    few = {"strategy": "few-shot", "pool": "bundled", "shots": 1}
    await answer(batches_of(few, {"strategy": "two-stage"}, count=4))
    turns: dict[str, list[int]] = {"few-shot": [], "feeling": [], "second": []}
    for messages, turn in engine.calls:
        turns[kind(messages)].append(turn)
    assert turns["feeling"] == [1, 2, 3, 4]
    assert sorted(turns["second"]) == [1, 2, 3, 4]
    assert turns["few-shot"] == [5, 6, 7, 8]
    assert engine.most == 2


async def test_rows_whose_prompts_begin_alike_take_turns(engine):
    engine.concurrency = 1
    few = {"strategy": "few-shot", "pool": "bundled", "shots": 1}
    await answer(batches_of({}, few, {"strategy": "two-stage"}, few | {"strategy": "few-shot+two-stage"}, count=2))
    assert [kind(messages) for messages, _ in engine.calls[:6]] == ["feeling", "second", "zero-shot"] * 2
    stories = [re.findall(r"Story \d", messages[1].content)[0] for messages, _ in engine.calls]
    assert stories == ["Story 0"] * 3 + ["Story 1"] * 3 + ["Story 0"] * 2 + ["Story 1"] * 2 + ["Story 0", "Story 1"]


async def test_the_next_row_fills_the_places_that_the_last_replies_of_a_row_leave(engine):
    engine.concurrency = 3
    await answer(batches_of({}, {"variant": "released"}, count=4))
    assert engine.most == 3
    assert [turn for _, turn in engine.calls] == list(range(1, 9))


async def test_an_identical_request_is_asked_once_and_said(engine):
    batches = batches_of({}, {"keep_thinking": True})
    await answer(batches)
    assert len(engine.calls) == 3
    assert replies(batches[0]) == replies(batches[1])
    first, second = (batch.tally for batch in batches)
    assert (first.calls + second.calls, first.shared + second.shared) == (3, 3)
    assert (first.cost + second.cost, first.prompt_tokens + second.prompt_tokens) == (1.5, 30)
    stages = [record["stages"][0] for batch in batches for record in read_records(batch.folder)]
    assert sorted(stage["asked_by"] for stage in stages if "asked_by" in stage) == [f"row 0: d{n}" for n in range(3)]


async def test_without_sharing_no_line_has_the_field(engine):
    batches = batches_of({})
    await answer(batches)
    assert "asked_by" not in (batches[0].folder / "responses.jsonl").read_text()


async def test_sampled_replies_and_a_single_batch_share_nothing(engine):
    await answer(batches_of({"temperature": 1.0}, {"temperature": 1.0, "keep_thinking": True}))
    assert len(engine.calls) == 6
    await answer(batches_of({}, same=True, folder="alone"))
    assert len(engine.calls) == 9


async def test_a_failure_is_not_shared(engine):
    failures = iter([EngineError("busy"), EngineError("busy"), EngineError("busy")])

    def fail(prompt: str) -> None:
        if (error := next(failures, None)) is not None:
            raise error

    engine.fail = fail
    batches = batches_of({}, {"keep_thinking": True})
    await answer(batches)
    assert sum(batch.tally.failed for batch in batches) == 3
    assert sum(batch.tally.done for batch in batches) == 3
    assert sum(batch.tally.shared for batch in batches) == 0


async def test_a_row_whose_disk_is_full_stops_no_other(engine):
    batches = batches_of({}, {"strategy": "two-stage"})
    with ExitStack() as stack:
        runs = [stack.enter_context(batch.open()) for batch in batches]
        runs[1].close()  # no line can be written any more
        await answer_batches(batches, Path("engine.log"))
    assert batches[0].error is None
    assert len(replies(batches[0])) == 3
    assert batches[1].error is not None
    assert engine.closed


class Broken(Enricher):
    """Cannot look up the second dialogue."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def enrich(self, draft: Draft) -> Draft:
        if draft.dialogue.id == "d1":
            raise self.error
        return draft

    def describe(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("error", "told"), [(OptionError("no weather"), "no weather"), (KeyError("city"), "KeyError: 'city'")]
)
async def test_a_lookup_that_fails_stops_its_row_only(engine, error, told):
    register_part("broken", Part(about="", place="x", make=lambda context: Broken(error)))
    batches = batches_of({"strategy": "broken"}, {})
    await answer(batches)
    assert str(batches[0].error) == told
    assert batches[1].error is None
    assert len(replies(batches[1])) == 3
    with pytest.raises(type(error)):
        await answer(batches_of({"strategy": "broken"}))


async def test_a_fatal_error_ends_all_rows_but_those_that_are_done(engine):
    engine.concurrency = 1

    def fail(prompt: str) -> None:
        if len(engine.calls) == 5:
            raise FatalEngineError("out of memory")

    engine.fail = fail
    few = {"strategy": "few-shot", "pool": "bundled", "shots": 1}
    batches = batches_of({}, {"variant": "released"}, few)
    await answer(batches)
    assert [batch.error and str(batch.error) for batch in batches] == [None, "out of memory", "out of memory"]
    assert [len(replies(batch)) for batch in batches] == [3, 1, 0]
    assert engine.closed


async def test_a_cancelled_schedule_keeps_what_is_written_and_closes_the_engine(engine):
    engine.concurrency = 2
    batches = batches_of({}, {"strategy": "two-stage"})

    def stop_at_two(progress: Any) -> None:
        if progress.task == "Answering" and progress.done == 2:
            engine.gate.clear()
            task.cancel()

    task = asyncio.ensure_future(answer(batches, stop_at_two))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.closed
    assert sum(len(replies(batch)) for batch in batches) >= 2


@pytest.mark.parametrize("answered", range(3))
async def test_a_callback_that_raises_whenever_it_is_called_keeps_no_engine_open(sized, answered):
    def refuse(progress: Any) -> None:
        is_late = progress.task == "Answering" and progress.done > answered
        if is_late or progress.task.startswith("Stopping"):
            raise ZeroDivisionError

    await answer(batches_of({}, {"strategy": "two-stage"}), refuse)
    assert sized.closed


async def test_a_single_batch_raises_what_stops_it(engine):
    def fail(prompt: str) -> None:
        raise FatalEngineError("wrong key")

    engine.fail = fail
    with pytest.raises(FatalEngineError, match="wrong key"):
        await answer(batches_of({}))
    assert engine.closed


@pytest.fixture
def sized(engine, monkeypatch) -> Recorder:
    """The same engine for a model with a tokenizer here; it refuses what does not fit the context that it is given.

    Its attribute `contexts` has the context of every start.
    """
    contexts: list[int] = []

    def make(context: Any) -> Recorder:
        contexts.append(context.context_length())

        def check(messages: Sequence[Message], sampling: Sampling) -> None:
            tokens = len(context.tokenizer().encode(messages))
            if tokens + sampling.max_tokens > contexts[-1]:
                raise PromptTooLongError(tokens, sampling.max_tokens, contexts[-1])

        engine.check = check
        return engine

    register_engine("sized", make)
    profile = resource("models", "smollm2-plain.toml").read_text().replace('engine = "vllm"', 'engine = "sized"')
    Path("m.toml").write_text(f'name = "m"\n{profile}')
    engine.contexts = contexts
    return engine


class Slow(Enricher):
    """Looks nothing up before the engine has answered another row; then it adds words.

    Args:
        engine: The engine.
        told: Words that it says it adds at most; None if it does not say.
        added: Words that it adds.
    """

    def __init__(self, engine: Recorder, told: int | None, added: int) -> None:
        self.engine, self.told, self.added = engine, told, added
        self.prepared: list[str] = []

    async def prepare(self, dialogues: Sequence[Dialogue]) -> None:
        assert not self.engine.started
        self.prepared += [dialogue.id for dialogue in dialogues]

    def longest(self, draft: Draft, count: CountTokens) -> Draft | None:
        assert list(count(["Hello."])) == [2]
        return None if self.told is None else replace(draft, additions=(" word" * self.told,))

    async def enrich(self, draft: Draft) -> Draft:
        if self.told is not None:
            async with asyncio.timeout(60):
                await self.engine.answered.wait()
        return replace(draft, additions=(" word" * self.added,))

    def describe(self) -> dict[str, Any]:
        return {}


def slow_part(engine: Recorder, told: int | None, added: int) -> Slow:
    slow = Slow(engine, told, added)
    register_part("slow", Part(about="", place="x", make=lambda context: slow))
    return slow


@pytest.mark.parametrize("told", [30, None])
async def test_lookups_are_made_while_other_rows_are_answered_if_their_length_is_known(sized, told):
    slow = slow_part(sized, told, added=30)
    batches = batches_of({}, {"strategy": "slow"})
    await answer(batches)
    assert [batch.error for batch in batches] == [None, None]
    assert slow.prepared == (["d0", "d1", "d2"] if told else [])
    alone = batches_of({"strategy": "slow"}, folder="alone")
    slow.told = None
    await answer(alone)
    together, exact = sized.contexts
    assert exact <= together <= exact + 16


async def test_no_exemplar_is_dropped_because_a_bound_was_too_low(sized):
    slow_part(sized, told=1, added=100)
    batches = batches_of({}, {"strategy": "slow+few-shot", "pool": "bundled", "shots": 1}, {"strategy": "two-stage"})
    await answer(batches)
    assert [batch.error for batch in batches] == [None] * 3
    records = read_records(batches[1].folder)
    assert [record["stages"][0]["exemplars_dropped"] for record in records] == [0, 0, 0]
    assert len(sized.contexts) == 2
    assert sized.contexts[0] < sized.contexts[1]
    assert [batch.tally.done for batch in batches] == [3, 3, 3]


async def test_a_context_that_the_user_chose_stays(sized):
    slow_part(sized, told=1, added=5000)
    limit = {"engine_args": {"max_model_len": 400}}
    batches = batches_of(limit, {"strategy": "slow", **limit})
    await answer(batches)
    assert len(sized.contexts) == 1
    assert (batches[0].tally.done, batches[1].tally.failed) == (3, 3)


@pytest.mark.parametrize("told", [30, None])
async def test_an_observer_sees_all_before_the_engine_starts_or_when_it_is_looked_up(sized, told):
    slow_part(sized, told, added=30)
    seen: list[tuple[str, str, int]] = []

    class Observer:
        def planned(self, batch: Batch, draft: Draft, calls: Sequence[Any], outcome: Any) -> None:
            assert told is not None or not sized.contexts
            seen.append((batch.name, draft.dialogue.id, len(calls)))

        def ready(self) -> None:
            seen.append(("ready", "", 0))

    batches = batches_of({"strategy": "slow"}, {"strategy": "two-stage"})
    with ExitStack() as stack:
        for batch in batches:
            stack.enter_context(batch.open())
        await answer_batches(batches, Path("engine.log"), observer=Observer())
    rows = [("row 0", 1), ("row 1", 2)]
    expected = [(name, f"d{n}", calls) for name, calls in (rows[::-1] if told else rows) for n in range(3)]
    assert seen == [*expected, ("ready", "", 0)]


@pytest.mark.parametrize("told", [30, None])
@pytest.mark.parametrize("error", [KeyError("speed"), OptionError("no such cache")])
@pytest.mark.parametrize("step", ["planned", "ready"])
async def test_an_observer_that_fails_stops_no_row(sized, caplog, step, error, told):
    slow_part(sized, told, added=30)
    calls: list[str] = []

    class Observer:
        def planned(self, *planned: Any) -> None:
            self.take("planned")

        def ready(self) -> None:
            self.take("ready")

        def take(self, name: str) -> None:
            calls.append(name)
            if name == step:
                raise error

    batches = batches_of({"strategy": "slow"}, {"strategy": "two-stage"})
    with ExitStack() as stack:
        for batch in batches:
            stack.enter_context(batch.open())
        await answer_batches(batches, Path("engine.log"), observer=Observer())
    assert [(batch.error, len(replies(batch))) for batch in batches] == [(None, 3)] * 2
    assert calls.count(step) == 1
    assert "no estimate" in caplog.text


WORDS = ["I", "the", "dog!!", "…", "naïve", "日本", "\U0001f600" * 2, "supercalifragilistic", "don't", "a" * 20, "?!"]


def write_chatter(path: Path, generator: random.Random, count: int) -> None:
    """Write dialogues of random words, of one to five turns."""
    lines = [
        {
            "id": f"{path.stem}{n}",
            "turns": [" ".join(generator.choices(WORDS, k=generator.randint(1, 30))) for _ in range(turns)],
            "reference": "Oh.",
        }
        for n, turns in enumerate(generator.choices([1, 3, 5], k=count))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("layout", ["chat", "transcript"])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("seed", range(2))
async def test_the_bound_holds_every_prompt(sized, seed, variant, layout):
    generator = random.Random(seed)
    write_chatter(Path("data.jsonl"), generator, 12)
    write_chatter(Path("pool.jsonl"), generator, 40)
    shots = generator.randint(1, 6)
    config = RunConfig(
        model="m.toml", data="data.jsonl", pool="pool.jsonl", variant=variant, layout=layout, shots=shots,
        strategy=f"similar{generator.choice(['', '+two-stage', '+knowledge'])}", encoder="all-minilm-l6-v2",
    )  # fmt: skip
    batch = Batch(Pipeline(config))
    strategy, tokenizer = batch.pipeline.strategy, batch.pipeline.tokenizer
    with batch.open():
        pass
    longest = strategy.longest(Draft(batch.pending[0]), tokenizer.lengths)
    assert longest is not None
    bound = await ContextBound(tokenizer.encode, lambda progress: None).of(batch, longest)
    similar = next(each for each in strategy.enrichers if isinstance(each, Similar))
    planner = Planner(tokenizer.encode, 10**9)
    for dialogue in batch.pending:
        for _ in range(5):
            shown = tuple(Exemplar(each) for each in generator.sample(similar.pool, shots))
            await strategy.respond(replace(longest, dialogue=dialogue, exemplars=shown), planner)
    assert planner.longest <= bound


async def test_a_dialogue_is_looked_up_once_for_all_rows(engine):
    similar = {"strategy": "similar", "pool": "bundled", "encoder": "all-minilm-l6-v2"}
    knowing = {"strategy": "knowledge", "select": "all"}
    rows = [similar | {"shots": 1}, similar | {"shots": 3}, knowing, knowing | {"strategy": "knowledge+two-stage"}]
    batches = batches_of(*rows, count=70)
    encoder = batches[0].pipeline.strategy.enrichers[0].encoder
    texts: list[str] = []
    encode = encoder.encode
    encoder.encode = lambda asked: (texts.extend(asked), encode(asked))[1]
    await answer(batches)
    assert [batch.error for batch in batches] == [None] * 4
    assert sorted(text for text in texts if text.startswith("Story")) == sorted(f"Story {n}." for n in range(70))
    alone = batches_of(similar | {"shots": 3}, count=70, folder="alone")
    await answer(alone)

    def shown(batch: Batch) -> dict[str, list[str]]:
        return {each["id"]: [one["id"] for one in each["exemplars"]] for each in read_records(batch.folder)}

    assert shown(batches[1]) == shown(alone[0])
    assert {name: ids[:1] for name, ids in shown(alone[0]).items()} == shown(batches[0])
    inferred = [{each["id"]: each["inferences"] for each in read_records(batch.folder)} for batch in batches[2:]]
    assert inferred[0] == inferred[1]
    assert all(inferred[0].values())
    knowledge = batches[2].pipeline.strategy.enrichers[0]
    assert knowledge is batches[3].pipeline.strategy.enrichers[0]
    assert knowledge.dialogues == 70


async def test_nothing_is_remembered_where_one_row_is_answered(engine):
    similar = {"strategy": "similar", "pool": "bundled", "encoder": "all-minilm-l6-v2"}
    batches = batches_of(similar)
    await answer(batches)
    assert len(batches[0].pipeline.strategy.enrichers[0].seen.found) == 0

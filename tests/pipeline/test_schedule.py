"""Several batches on one engine: in which order they are answered, what they share, and what fails alone."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from localemp.dialogue import Message
from localemp.engines.base import TURN, Completion, Engine
from localemp.engines.registry import ENGINES, register_engine
from localemp.errors import EngineError, FatalEngineError, OptionError
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.schedule import answer_batches
from localemp.runs.run import read_records
from localemp.sampling import Sampling
from localemp.strategies.base import Draft, Enricher
from localemp.strategies.parts import Part
from localemp.strategies.registry import PARTS, register_part


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
        self.started = self.closed = False
        self.now = self.most = 0

    async def start(self) -> None:
        self.started = True

    async def close(self) -> None:
        self.closed = True

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.calls.append((list(messages), TURN.get()))
        number = len(self.calls)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            self.fail("\n".join(message.content for message in messages))
        finally:
            self.now -= 1
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
    assert engine.started
    assert engine.closed
    assert [len(replies(batch)) for batch in batches] == [3, 3]
    assert [(batch.tally.done, batch.tally.calls, batch.error) for batch in batches] == [(3, 3, None), (3, 6, None)]
    answered = [(each.row, each.done, each.total) for each in shown if each.task == "Answering"]
    assert sorted(answered) == [(f"row {row}", done, 3) for row in range(2) for done in range(1, 4)]
    assert [each.task for each in shown if not each.row] == ["Starting recorder (m)"]


async def test_rows_with_more_stages_come_first_and_a_chain_keeps_its_turn(engine):
    engine.concurrency = 2
    await answer(batches_of({}, {"strategy": "two-stage"}, count=4))
    asked = [("think" in messages[-1].content, len(messages), turn) for messages, turn in engine.calls]
    first_stages = [turn for thinks, _, turn in asked if thinks]
    assert first_stages == [1, 2, 3, 4]
    second_stages = [turn for thinks, length, turn in asked if not thinks and length > 2]
    assert sorted(second_stages) == [1, 2, 3, 4]
    assert [turn for thinks, length, turn in asked if not thinks and length == 2] == [5, 6, 7, 8]
    assert engine.most == 2


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
    batches = batches_of({}, {"variant": "released"}, {"strategy": "two-stage", "given": ("emotion", "situation")})
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


async def test_a_single_batch_raises_what_stops_it(engine):
    def fail(prompt: str) -> None:
        raise FatalEngineError("wrong key")

    engine.fail = fail
    with pytest.raises(FatalEngineError, match="wrong key"):
        await answer(batches_of({}))
    assert engine.closed

"""Answers one or more batches of the same model on one engine, with all of their dialogues in flight together.

A dialogue that has begun keeps its place until its last stage is answered; a free place goes to the next dialogue of
the queue. Rows with more stages come first, so that no long chain is left for the end.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from localemp.engines.base import TURN, Engine
from localemp.engines.planner import PlannedCall, Planner
from localemp.errors import EngineError, FatalEngineError, LocalempError
from localemp.pipeline.batch import Batch
from localemp.pipeline.generate import Tally, answer_one, draft_each, for_all, plan
from localemp.pipeline.shared_answers import SharedAnswers
from localemp.strategies.base import Draft, Response
from localemp.utils.progress import OnProgress, Progress, silent

_log = logging.getLogger(__name__)


class PlanObserver(Protocol):
    """Sees every prompt before the engine starts, for an estimate."""

    def planned(
        self, batch: Batch, draft: Draft, calls: Sequence[PlannedCall], outcome: Response | EngineError
    ) -> None:
        """Take in a dialogue of a batch: its calls and how it ends, in the order in which they will be answered."""

    def ready(self) -> None:
        """Everything is planned; the engine starts next."""


async def answer_batches(
    batches: Sequence[Batch], log: Path, on_progress: OnProgress = silent, observer: PlanObserver | None = None
) -> None:
    """Answer all pending dialogues of opened batches with one engine of this process.

    What goes wrong with one of several batches is its `error`, and stops no other; a failure of the engine is the error
    of every batch that is not finished. The error of a single batch is raised. Finished replies are always written.

    Args:
        batches: Opened batches, all of the same model and with the same settings of the engine.
        log: File for the engine's output.
        on_progress: Called with dialogues looked up, measured and answered, by row, and with the engine's start.
        observer: Sees every prompt before the engine starts.

    Raises:
        FatalEngineError: Of a single batch: the engine cannot start, or no further request can succeed.
        LocalempError: Of a single batch: the run cannot be written, or a dialogue lacks something.
    """
    rows = [_Row(number, batch) for number, batch in enumerate(batches) if batch.pending]
    if not rows:
        return
    try:
        await _Schedule(rows, log, on_progress, observer).answer()
    except Exception as error:
        for row in rows:
            if row.left:
                row.stop(error)
    for row in rows:
        stopped = row.stopped
        if stopped is not None and len(batches) == 1:
            raise stopped
        if stopped is not None and not isinstance(stopped, LocalempError):
            _log.error("%s: %s: %s", row.batch.name, type(stopped).__name__, stopped, exc_info=stopped)


class _Row:
    """A batch and where it stands.

    Attributes:
        number: Its number among the batches.
        batch: The batch.
        left: Dialogues without an outcome.
        stopped: What stopped it.
        place: Its place in the queue.
    """

    def __init__(self, number: int, batch: Batch) -> None:
        self.number, self.batch = number, batch
        self.left = len(batch.pending)
        self.stopped: Exception | None = None
        self.place = number

    def stop(self, error: Exception) -> None:
        """Begin no further dialogue of this row; the first error counts."""
        if self.stopped is None:
            self.stopped = error
            self.batch.error = (
                error if isinstance(error, LocalempError) else LocalempError(f"{type(error).__name__}: {error}")
            )

    @contextmanager
    def limited(self) -> Iterator[None]:
        """What fails inside stops this row only, unless the engine is lost."""
        try:
            yield
        except FatalEngineError:
            raise
        except Exception as error:
            self.stop(error)


class _Waiting(NamedTuple):
    """A drafted dialogue in the queue, in the order of its first three fields."""

    place: int
    dialogue: int
    number: int
    row: _Row | None = None
    draft: Draft | None = None


_END = _Waiting(2**62, 0, 0)


class _Schedule:
    """Answers rows on one engine.

    Args:
        rows: The rows.
        log: File for the engine's output.
        on_progress: Called with progress.
        observer: Sees every prompt before the engine starts.
    """

    def __init__(self, rows: Sequence[_Row], log: Path, on_progress: OnProgress, observer: PlanObserver | None) -> None:
        self.rows, self.log, self.on_progress, self.observer = rows, log, on_progress, observer
        self.pipeline = rows[0].batch.pipeline
        self.queue: asyncio.PriorityQueue[_Waiting] = asyncio.PriorityQueue()
        self.turns = itertools.count(1)
        self.noted: set[str] = set()

    async def answer(self) -> None:
        """Answer everything that is pending.

        Raises:
            FatalEngineError: The engine cannot start, or no further request can succeed.
        """
        context = await self._plan()
        if all(row.stopped for row in self.rows):
            return
        engine = self.pipeline.engine(context, self.log)
        self.on_progress(Progress(f"Starting {engine.name} ({self.pipeline.profile.name})"))
        await engine.start()
        try:
            for row in self.rows:
                self._open_session(row, engine.describe())
            self.queue.put_nowait(_END)
            shared = SharedAnswers(engine) if len(self.rows) > 1 else None

            async def answer(_: int) -> None:
                while (waiting := await self.queue.get()) is not _END:
                    await self._answer(waiting, engine, shared)
                self.queue.put_nowait(_END)  # for the others

            places = min(engine.concurrency, sum(row.left for row in self.rows))
            await for_all(range(places), answer, places)
        finally:
            await engine.close()

    async def _plan(self) -> int | None:
        """Draft all dialogues; return the context that holds every prompt and reply, None if only a server knows."""
        planner, context = self.pipeline.planner(), None
        stages = {row: await _stages(row.batch) for row in self.rows}
        for place, row in enumerate(sorted(self.rows, key=lambda row: -stages[row])):
            row.place = place
        for row in self.rows:
            with row.limited():
                strategy = row.batch.pipeline.strategy
                drafts: list[Draft] = []

                def take(number: int, draft: Draft, row: _Row = row, drafts: list[Draft] = drafts) -> None:
                    drafts.append(draft)
                    self.queue.put_nowait(_Waiting(row.place, number, row.number, row, draft))

                await draft_each(strategy, row.batch.pending, take, self.on_progress, row.batch.name)
                self._note(row.batch)
                if self.pipeline.runs_here or self.observer is not None:
                    on_planned = None if self.observer is None else partial(self.observer.planned, row.batch)
                    await plan(strategy, drafts, planner, self.on_progress, on_planned, row.batch.name)
                    context = planner.context_needed if self.pipeline.runs_here else None
        if self.observer is not None:
            self.observer.ready()
        return context

    def _note(self, batch: Batch) -> None:
        """Keep the notes on how a batch's prompts were built; what rows share is logged once."""
        batch.notes = tuple(batch.pipeline.strategy.notes().values())
        for note in batch.notes:
            if note not in self.noted:
                self.noted.add(note)
                _log.info("note: %s", note)

    def _open_session(self, row: _Row, engine: dict[str, Any]) -> None:
        if row.stopped is not None:
            return
        with row.limited():
            notes = {"notes": list(row.batch.notes)} if row.batch.notes else {}
            row.batch.opened.add_session(row.batch.session({**engine, **notes}))

    async def _answer(self, waiting: _Waiting, engine: Engine, shared: SharedAnswers | None) -> None:
        row, draft = waiting.row, waiting.draft
        assert row is not None and draft is not None
        if row.stopped is not None:
            return
        batch = row.batch
        if batch.tally is None:
            batch.tally = Tally(len(batch.pending))
        TURN.set(next(self.turns))
        asker = engine if shared is None else shared.asking(f"{batch.name}: {draft.dialogue.id}")
        with row.limited():
            record = await answer_one(batch.pipeline.strategy, draft, asker)
            batch.opened.append(record)
            batch.tally.add(record)
            batch.tally.ended = time.perf_counter()
            row.left -= 1
            self.on_progress(batch.tally.progress(row=batch.name))


async def _stages(batch: Batch) -> int:
    """Return how many calls the first dialogue takes."""
    with suppress(Exception):  # it fails again where its error is recorded
        return len((await batch.pipeline.strategy.respond(Draft(batch.pending[0]), Planner(None, filler="a"))).stages)
    return 1

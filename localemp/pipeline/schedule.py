"""Answers one or more batches of the same model on one engine, with all of their dialogues in flight together.

A dialogue that has begun keeps its slot until its last stage is answered; a free slot goes to the next dialogue of the
queue. Rows with more stages come first, so that no long chain is left for the end. Of several rows, the context is
bounded before their lookups, which are made while the engine starts and answers other rows.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from localemp.engines.base import TURN, Engine
from localemp.engines.planner import PlannedCall, Planner
from localemp.engines.vllm.process import gpu_in_use
from localemp.errors import EngineError, FatalEngineError, LocalempError
from localemp.models.adapters import Adapter
from localemp.pipeline.batch import Batch
from localemp.pipeline.context_bound import BoundedEngine, ContextBound, ContextTooShortError
from localemp.pipeline.generate import OnPlanned, Tally, answer_one, draft_all, draft_each, for_all, plan
from localemp.pipeline.shared_answers import SharedAnswers
from localemp.runs.bill import Bill
from localemp.runs.session_bill import SessionBill
from localemp.strategies.base import Draft, Response
from localemp.strategies.strategy import Strategy
from localemp.utils.plain_errors import in_words
from localemp.utils.progress import OnProgress, Progress, each_second, silent

_log = logging.getLogger(__name__)
_REMEMBERED = 16_384  # dialogues whose lookups are kept for other rows
_FULL_BATCH = 64


class PlanObserver(Protocol):
    """Sees every prompt, for an estimate: before the engine starts, or when its lookups are made."""

    def planned(
        self, batch: Batch, draft: Draft, calls: Sequence[PlannedCall], outcome: Response | EngineError
    ) -> None:
        """Take in a dialogue of a batch: its calls and how it ends, in the order in which they will be answered."""

    def ready(self) -> None:
        """Everything is planned. Called in a thread."""


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
        observer: Sees every prompt.

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
        positions: The position of each pending dialogue in the data.
        left: Dialogues without an outcome.
        stopped: What stopped it.
        stages: Calls for one dialogue.
        longest: A draft with the longest additions; None if only its lookups tell.
        group: Number of its group; groups are answered one after the other.
        looked_up: Whether its dialogues are drafted before the engine starts.
        session_bill: What the session that is recorded in its run pays; None before.
    """

    def __init__(self, number: int, batch: Batch) -> None:
        self.number, self.batch = number, batch
        self.positions = [batch.positions[dialogue.id] for dialogue in batch.pending]
        self.left = len(batch.pending)
        self.stopped: Exception | None = None
        self.stages = 1
        self.longest: Draft | None = None
        self.group = number
        self.looked_up = True
        self.session_bill: SessionBill | None = None

    @property
    def looks_up(self) -> bool:
        """Whether drafting takes time."""
        return any(enricher.looks_up for enricher in self.strategy.enrichers)

    @property
    def strategy(self) -> Strategy:
        """The batch's strategy."""
        return self.batch.pipeline.strategy

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that its requests have."""
        return self.batch.pipeline.adapter

    def stop(self, error: Exception) -> None:
        """Begin no further dialogue of this row; the first error counts."""
        if self.stopped is None:
            self.stopped = error
            known = error if isinstance(error, LocalempError) else None
            self.batch.error = known or LocalempError(f"{type(error).__name__}: {in_words(error)}")

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
    """A drafted dialogue in the queue, in the order of the first four fields."""

    group: int
    position: int
    negative_stages: int
    number: int
    row: _Row
    draft: Draft


class _Queue:
    """The drafted dialogues that wait for a free slot."""

    def __init__(self) -> None:
        self._waiting: asyncio.PriorityQueue[tuple[Any, ...]] = asyncio.PriorityQueue()

    def put(self, row: _Row, number: int, draft: Draft) -> None:
        """Add a dialogue by its number among the pending ones of a row.

        Rows without exemplars take turns, dialogue by dialogue, because their prompts begin with the same task and
        dialogue; a row with exemplars shares at most these, and stays together.
        """
        self.put_back(_Waiting(row.group, row.positions[number], -row.stages, row.number, row, draft))

    def put_back(self, waiting: _Waiting) -> None:
        """Add a dialogue that was in the queue before."""
        self._waiting.put_nowait(waiting)

    def end(self) -> None:
        """Let the queue end when it is empty."""
        self._waiting.put_nowait((float("inf"),))

    async def next(self) -> _Waiting | None:
        """Return the first dialogue that is there, or wait for one; None at the end."""
        waiting = await self._waiting.get()
        if isinstance(waiting, _Waiting):
            return waiting
        self.end()  # for others
        return None


class _Schedule:
    """Answers rows on one engine.

    Args:
        rows: The rows.
        log: File for the engine's output.
        on_progress: Called with progress.
        observer: Sees every prompt.
    """

    def __init__(self, rows: Sequence[_Row], log: Path, on_progress: OnProgress, observer: PlanObserver | None) -> None:
        self.rows, self.log, self.on_progress, self.observer = rows, log, on_progress, observer
        self.pipeline = rows[0].batch.pipeline
        self.planner = self.pipeline.planner()
        self.bounded = False
        self.queue = _Queue()
        self.turns = itertools.count(1)
        self.noted: set[str] = set()
        self.too_long: list[_Waiting] = []

    async def answer(self) -> None:
        """Answer everything that is pending.

        Raises:
            FatalEngineError: The engine cannot start, or no further request can succeed.
        """
        await self._order_rows()
        context = await self._plan()
        looking_up = asyncio.create_task(self._look_up_the_rest())
        try:
            if any(row.stopped is None for row in self.rows):
                await self._answer_with(context)
            if self.too_long:
                await self._answer_with(await self._plan_again())
            await looking_up
        finally:
            looking_up.cancel()
            await asyncio.gather(looking_up, return_exceptions=True)

    async def _order_rows(self) -> None:
        """Find the order of the rows, and which of them may be looked up while others are answered."""
        several = len(self.rows) > 1
        for row in self.rows if several else ():
            row.stages = await _stages(row.batch)
            with row.limited():
                count = self.pipeline.tokenizer.lengths if self.pipeline.runs_here else _characters
                row.longest = await asyncio.to_thread(row.strategy.longest, Draft(row.batch.pending[0]), count)
                row.looked_up = not row.looks_up or (row.longest is None and self.pipeline.runs_here)
                for enricher in row.strategy.enrichers:
                    enricher.remember(_REMEMBERED)
        groups: dict[Any, list[_Row]] = {}
        for row in self.rows:
            alone = row.longest is None or row.longest.exemplars
            groups.setdefault(row.number if alone else repr(row.strategy.prompts.describe()), []).append(row)
        by_stages = sorted(groups.values(), key=lambda rows: -max(row.stages for row in rows))
        for group, rows in enumerate(by_stages):
            for row in rows:
                row.group = group

    async def _plan(self) -> int | None:
        """Return the context that holds every prompt and reply, in tokens; None if only a server knows.

        Rows whose longest additions are unknown are looked up now, and measured exactly. Of the others' lookups, all
        that must be loaded is loaded.
        """
        here = self.pipeline.runs_here
        for row in self.rows:
            if not row.looked_up or row.stopped is not None:
                continue
            with row.limited():
                drafts = await self._look_up(row)
                if here or self.observer is not None:
                    shown = self._shown(row)
                    await plan(row.strategy, drafts, self.planner, self.on_progress, shown, row.batch.name)
        later = [row for row in self.rows if not row.looked_up and row.stopped is None]
        if not later:
            await self._end_observation()
        if here and later:
            assert self.planner.encode is not None
            bound = ContextBound(self.planner.encode, self.on_progress)
            for row in later:
                with row.limited():
                    assert row.longest is not None
                    self.planner.longest = max(self.planner.longest, await bound.of(row.batch, row.longest))
                    self.bounded = "max_model_len" not in self.pipeline.config.engine_args
        for row in later:
            with row.limited():
                await self._load(row)
        return self.planner.context_needed if here else None

    async def _load(self, row: _Row) -> None:
        """Load what lookups need before the engine: two imports at once can fail, and it takes the GPU's memory."""
        for enricher in row.strategy.enrichers:
            await enricher.prepare(row.batch.pending)
        row.strategy.count_anew()
        if gpu_in_use():  # takes the memory that full batches need
            most = sorted(row.batch.pending, key=lambda dialogue: -sum(map(len, dialogue.turns)))[:_FULL_BATCH]
            await draft_all(row.strategy, most)

    async def _look_up(self, row: _Row) -> list[Draft]:
        """Put a row's dialogues into the queue as they are drafted; return the drafts in the order of the dialogues."""
        drafts: dict[int, Draft] = {}

        def take(number: int, draft: Draft) -> None:
            drafts[number] = draft
            self.queue.put(row, number, draft)

        await draft_each(row.strategy, row.batch.pending, take, self.on_progress, row.batch.name)
        self._note(row)
        return [drafts[number] for number in sorted(drafts)]

    async def _look_up_the_rest(self) -> None:
        later = [row for row in self.rows if not row.looked_up and row.stopped is None]

        async def look_up(row: _Row) -> list[Draft]:
            with row.limited():
                return await self._look_up(row)
            return []

        try:
            drafts = await asyncio.gather(*map(look_up, later))
        finally:
            self.queue.end()
        if self.observer is not None and later:
            planner = self.pipeline.planner()
            for row, each in zip(later, drafts, strict=True):
                await plan(row.strategy, each, planner, on_planned=self._shown(row))
            await self._end_observation()

    def _observe(self, step: Callable[[PlanObserver], None]) -> None:
        """Take a step of the observer; one that fails is left out from then on, and stops no row."""
        if self.observer is None:
            return
        try:
            step(self.observer)
        except Exception as error:
            self.observer = None
            unforeseen = None if isinstance(error, LocalempError) else error
            _log.warning("no estimate: %s: %s", type(error).__name__, error, exc_info=unforeseen)

    async def _end_observation(self) -> None:
        """Tell the observer that everything is planned, in a thread: what follows can take seconds."""
        await asyncio.to_thread(self._observe, lambda observer: observer.ready())

    def _shown(self, row: _Row) -> OnPlanned | None:
        """Return what shows the planned dialogues of a row to the observer."""
        if self.observer is None:
            return None
        return lambda *planned: self._observe(lambda observer: observer.planned(row.batch, *planned))

    def _note(self, row: _Row) -> None:
        """Keep the notes on how a row's prompts were built; what rows share is logged once."""
        row.batch.notes = tuple(row.strategy.notes().values())
        for note in row.batch.notes:
            if note not in self.noted:
                self.noted.add(note)
                _log.info("note: %s", note)
        if row.batch.notes and row.session_bill is not None:
            row.batch.opened.change_session({"notes": list(row.batch.notes)})

    async def _answer_with(self, context: int | None) -> None:
        """Answer all dialogues of the queue with an engine that has this context."""
        unfinished = [row for row in self.rows if row.left and row.stopped is None]
        follow = any(not row.looked_up for row in unfinished)
        adapters = [row.adapter for row in unfinished]
        engine = self.pipeline.engine(context, self.log, lookups_follow=follow, adapters=adapters)
        self.on_progress(Progress(f"Starting {engine.name} ({self.pipeline.profile.name})"))
        await engine.start()
        try:
            for row in unfinished:
                self._open_session(row, engine)
            shared = SharedAnswers(engine) if len(self.rows) > 1 else None

            async def answer(_: int) -> None:
                while (waiting := await self.queue.next()) is not None:
                    await self._answer(waiting, engine, shared)

            slots = min(engine.concurrency, sum(row.left for row in unfinished))
            async with each_second(lambda: self._show(unfinished, engine)):
                await for_all(range(slots), answer, slots)
            if self.pipeline.runs_here:
                self.on_progress(Progress(f"Stopping {engine.name} ({self.pipeline.profile.name})"))
        finally:
            await engine.close()
            for row in unfinished:
                self._end_session(row)

    def _show(self, rows: Sequence[_Row], engine: Engine) -> None:
        """Show what the engine waits for, of the rows that wait for it."""
        if status := engine.status():
            for row in rows:
                if row.left and row.stopped is None and (tally := row.batch.tally) is not None:
                    self.on_progress(tally.progress(row=row.batch.name, status=status))

    async def _plan_again(self) -> int:
        """Put back what the engine's context was too short for; return one that is long enough."""
        self.bounded = False
        for waiting in self.too_long:
            await plan(waiting.row.strategy, [waiting.draft], self.planner)
            self.queue.put_back(waiting)
        return self.planner.context_needed

    def _open_session(self, row: _Row, engine: Engine) -> None:
        if row.stopped is None:
            with row.limited():
                notes = {"notes": list(row.batch.notes)} if row.batch.notes else {}
                run, described = row.batch.opened, engine.adapted(row.adapter).describe()
                run.add_session(row.batch.session({**described, **notes}))
                row.session_bill = SessionBill(run, found_again=engine.finds_again)

    def _end_session(self, row: _Row) -> None:
        if row.session_bill is not None:
            with row.limited():
                row.session_bill.end(Bill() if row.batch.tally is None else row.batch.tally.bill)

    async def _answer(self, waiting: _Waiting, engine: Engine, shared: SharedAnswers | None) -> None:
        row, draft = waiting.row, waiting.draft
        if row.stopped is not None:
            return
        batch = row.batch
        if batch.tally is None:
            batch.tally = Tally(len(batch.pending), bill=batch.opened.bill.of_what_follows())
            self.on_progress(batch.tally.progress(row=batch.name))  # the engine is there; its first reply may take long
        TURN.set(next(self.turns))
        name = f"{batch.name}: {draft.dialogue.id}"
        asker = engine.adapted(row.adapter) if shared is None else shared.asking(name, row.adapter)
        if self.bounded:
            asker = BoundedEngine(asker, self.pipeline.context_length)
        assert row.session_bill is not None, "a row without a session is stopped"
        with row.limited():
            with row.session_bill.account() as account:
                try:
                    record = await answer_one(row.strategy, draft, asker)
                except ContextTooShortError:
                    self.too_long.append(waiting)
                    return
                record = row.session_bill.finished(record, account)
                batch.opened.append(record)
            batch.tally.add(record)
            batch.tally.ended = time.perf_counter()
            row.left -= 1
            self.on_progress(batch.tally.progress(row=batch.name, status=engine.status()))


def _characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


async def _stages(batch: Batch) -> int:
    """Return how many calls the first dialogue takes."""
    with suppress(Exception):  # it fails again where its error is recorded
        return len((await batch.pipeline.strategy.respond(Draft(batch.pending[0]), Planner(None, filler="a"))).stages)
    return 1

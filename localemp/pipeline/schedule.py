"""Answers one or more batches of the same model on one engine, with all of their dialogues in flight together."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from localemp.engines.base import Engine
from localemp.engines.planner import PlannedCall
from localemp.errors import EngineError
from localemp.pipeline.batch import Batch
from localemp.pipeline.generate import Tally, answer_one, draft_all, for_all, plan
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

    Args:
        batches: Opened batches, all of the same model.
        log: File for the engine's output.
        on_progress: Called with dialogues looked up, measured and answered.
        observer: Sees every prompt before the engine starts.

    Raises:
        FatalEngineError: The engine cannot start, or no further request can succeed. Finished replies are written.
        LocalempError: A run cannot be written, or a dialogue lacks something.
    """
    first = batches[0].pipeline
    planner = first.planner()
    context = None
    drafted: list[tuple[Batch, Draft]] = []
    for batch in batches:
        strategy = batch.pipeline.strategy
        drafts = await draft_all(strategy, batch.pending, on_progress)
        batch.notes = tuple(strategy.notes().values())
        for note in batch.notes:
            _log.info("note: %s", note)
        on_planned = None if observer is None else partial(observer.planned, batch)
        if first.runs_here:
            context = await plan(strategy, drafts, planner, on_progress, on_planned)
        elif on_planned is not None:
            await plan(strategy, drafts, planner, on_progress, on_planned)
        drafted += [(batch, draft) for draft in drafts]
    if observer is not None:
        observer.ready()
    engine = first.engine(context, log)
    on_progress(Progress(f"Starting {engine.name} ({first.profile.name})"))
    await engine.start()
    try:
        for batch in batches:
            notes = {"notes": list(batch.notes)} if batch.notes else {}
            batch.opened.add_session(batch.session({**engine.describe(), **notes}))
            batch.tally = Tally(len(batch.pending))
        await _answer(drafted, engine, on_progress)
    finally:
        await engine.close()


async def _answer(drafted: Sequence[tuple[Batch, Draft]], engine: Engine, on_progress: OnProgress) -> None:
    async def answer(item: tuple[Batch, Draft]) -> None:
        batch, draft = item
        assert batch.tally is not None
        record = await answer_one(batch.pipeline.strategy, draft, engine)
        batch.opened.append(record)
        batch.tally.add(record)
        batch.tally.ended = time.perf_counter()
        on_progress(batch.tally.progress(row=batch.name))

    await for_all(drafted, answer, engine.concurrency)

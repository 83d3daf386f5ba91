"""Batch generation: dialogues x strategy x engine -> Run.

Three steps: draft (look up exemplars and inferences in full batches), plan (measure every prompt, so that the engine's
context is no longer than needed), answer (many dialogues in flight). A two-stage dialogue starts its second stage as
soon as the first one ends; the engine's continuous batching does the rest.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from localemp.dialogue import Dialogue
from localemp.engines.base import Engine
from localemp.engines.planner import PlannedCall, Planner
from localemp.errors import DryRunError, EngineError, FatalEngineError, LocalempError
from localemp.runs.bill import Bill, paid_answers
from localemp.runs.run import Run, failure_record, response_record, thinking_tokens
from localemp.strategies.base import Draft, Response
from localemp.strategies.strategy import Strategy
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.together import together

T = TypeVar("T")
# Called with a planned dialogue: its draft, its calls, and how it ends.
OnPlanned = Callable[[Draft, Sequence[PlannedCall], Response | EngineError], None]
_log = logging.getLogger(__name__)
_LOOKUPS_AT_ONCE = 1024


@dataclass(slots=True)
class Tally:
    """Counts of a batch so far.

    Attributes:
        total: Dialogues to answer.
        done: Dialogues answered.
        failed: Dialogues with an error instead.
        calls: Engine calls: one per stage.
        uncounted: Calls without token counts.
        prompt_tokens: Prompt tokens of all other calls.
        completion_tokens: Completion tokens of all other calls.
        thinking_tokens: Those of them that were thinking; None once an answer with thinking has no count of it.
        cached_tokens: Prompt tokens that came from the prefix cache; None if no call reports them.
        bill: What it cost; also replies that failed.
        dropped: Replies for which exemplars were dropped.
        shared: Stages answered by the identical request of another dialogue or row; their tokens and cost are counted
            there.
        started, ended: Times of the first call and the last answer (`time.perf_counter`); ended is None while running.
            Batches that share an engine overlap, so that their seconds do not add up.
    """

    total: int
    done: int = 0
    failed: int = 0
    calls: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    thinking_tokens: int | None = 0
    cached_tokens: int | None = None
    bill: Bill = field(default_factory=Bill)
    dropped: int = 0
    shared: int = 0
    started: float = field(default_factory=time.perf_counter)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the first call to the last answer, or until now."""
        return (self.ended or time.perf_counter()) - self.started

    @property
    def tokens_per_s(self) -> float | None:
        """Completion tokens per second; None if a call has no token counts."""
        return None if self.uncounted else self.completion_tokens / max(self.seconds, 1e-9)

    def progress(self, unit: str = "dialogues", row: str = "", status: str = "") -> Progress:
        """Return the progress of the batch, with speed, failures and what the engine says (`Engine.status`)."""
        if not self.done + self.failed:
            return Progress("Answering", 0, self.total, unit, status, row=row)
        speed = f"{self.done / max(self.seconds, 1e-9):.2f} {unit}/s"
        tokens = "" if self.tokens_per_s is None else f", {self.tokens_per_s:.0f} tokens/s"
        failed = f", {self.failed} failed" if self.failed else ""
        finished, detail = self.done + self.failed, speed + tokens + failed + (f", {status}" if status else "")
        return Progress("Answering", finished, self.total, unit, detail, row, self.failed)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one line of a run or a judge; the tokens of shared answers count once."""
        stages = record.get("stages", ())
        if "error" in record:
            self.failed += 1
        else:
            self.done += 1
            self.dropped += any(stage["exemplars_dropped"] for stage in stages)
            self.shared += sum(bool(stage.get("asked_by")) for stage in stages)
        for answer, _ in paid_answers(record):
            self._count(answer)
        self.bill.take(record)

    @property
    def cost(self) -> float | None:
        """US dollars; None if an answer has no known price."""
        return self.bill.cost

    def _count(self, answer: Mapping[str, Any]) -> None:
        self.calls += 1
        prompt, completion = answer.get("prompt_tokens"), answer.get("completion_tokens")
        if prompt is None or completion is None:
            self.uncounted += 1
        else:
            self.prompt_tokens += prompt
            self.completion_tokens += completion
        counted = thinking_tokens(answer)
        known = self.thinking_tokens is not None and counted is not None
        self.thinking_tokens = (self.thinking_tokens or 0) + (counted or 0) if known else None
        if (cached := answer.get("cached_tokens")) is not None:
            self.cached_tokens = (self.cached_tokens or 0) + cached


async def draft_all(strategy: Strategy, dialogues: Sequence[Dialogue], on_progress: OnProgress = silent) -> list[Draft]:
    """Look up exemplars and inferences for all dialogues, in order; `strategy.notes()` then reports what was cut.

    Raises:
        LocalempError: A dialogue lacks something that the strategy needs; the engine has not been called yet.
    """
    drafts: dict[int, Draft] = {}
    await draft_each(strategy, dialogues, drafts.__setitem__, on_progress)
    return [drafts[number] for number in range(len(dialogues))]


async def draft_each(
    strategy: Strategy,
    dialogues: Sequence[Dialogue],
    take: Callable[[int, Draft], None],
    on_progress: OnProgress = silent,
    row: str = "",
) -> None:
    """Do the same, and pass each draft on as soon as it is there.

    Args:
        strategy: The strategy.
        dialogues: The dialogues.
        take: Called with the number of the dialogue and its draft.
        on_progress: Called with the dialogues looked up.
        row: The row's name, for progress.

    Raises:
        LocalempError: As in `draft_all`.
    """
    done = 0

    async def look_up(item: tuple[int, Dialogue]) -> None:
        nonlocal done
        take(item[0], await strategy.draft(item[1], log=False))
        done += 1
        on_progress(Progress("Looking up", done, len(dialogues), "dialogues", row=row))

    await for_all(list(enumerate(dialogues)), look_up, _LOOKUPS_AT_ONCE)


async def plan(
    strategy: Strategy,
    drafts: Sequence[Draft],
    planner: Planner,
    on_progress: OnProgress = silent,
    on_planned: OnPlanned | None = None,
    row: str = "",
) -> int:
    """Return the context for the longest prompt and its reply, in tokens; prompts that never fit are ignored.

    If a strategy's own code cannot be run without a model, that is all of the model's context.

    Args:
        strategy: The strategy.
        drafts: The drafts, in the order in which they will be answered.
        planner: Measures their prompts.
        on_progress: Called with dialogues measured.
        on_planned: Called with every dialogue, for an estimate.
        row: The row's name, for progress.
    """
    stopped: DryRunError | None = None
    for number, draft in enumerate(drafts, 1):
        calls = planner.calls = [] if on_planned is not None else None
        outcome: Response | EngineError
        try:
            outcome = await strategy.respond(draft, planner)
        except EngineError as error:  # too long or rejected: it fails again when answered, and is recorded then
            outcome = error
            if isinstance(error, DryRunError):
                stopped, planner.longest = error, planner.limit
        if on_planned is not None and calls is not None:
            on_planned(draft, calls, outcome)
        on_progress(Progress("Measuring", number, len(drafts), "dialogues", row=row))
        if number % 32 == 0:
            await asyncio.sleep(0)  # lets Ctrl-C and the progress display in
    if stopped is not None:
        _log.warning("%s; its later prompts are not measured, and not part of estimates", stopped.message)
    return planner.context_needed


async def answer_all(
    strategy: Strategy,
    drafts: Sequence[Draft],
    engine: Engine,
    run: Run,
    on_progress: OnProgress = silent,
) -> Tally:
    """Answer all dialogues, writing each reply as it finishes. A failed dialogue is recorded and does not stop the run.

    Raises:
        FatalEngineError: No further request can succeed. Finished replies are in the run.
        RunError: The run cannot be written.
    """
    tally = Tally(len(drafts))

    async def answer(draft: Draft) -> None:
        record = await answer_one(strategy, draft, engine)
        run.append(record)
        tally.add(record)
        on_progress(tally.progress())

    await for_all(drafts, answer, engine.concurrency)
    tally.ended = time.perf_counter()
    return tally


async def answer_one(strategy: Strategy, draft: Draft, engine: Engine) -> dict[str, Any]:
    """Answer one dialogue; return the run's line with its reply, or with its error.

    Raises:
        FatalEngineError: No further request can succeed.
        LocalempError: The error is not limited to this dialogue.
    """
    try:
        return response_record(await strategy.respond(draft, engine))
    except Exception as error:
        return failed_alone(draft.dialogue.id, error)


def failed_alone(name: str, error: Exception) -> dict[str, Any]:
    """Return the line of a failure that is limited to one dialogue; an unexpected exception is also logged.

    Args:
        name: Id of the dialogue or item.
        error: The exception; raised again if it is not limited to this item.
    """
    if isinstance(error, FatalEngineError):
        raise error
    if not isinstance(error, EngineError):
        if isinstance(error, LocalempError):
            raise error
        # An unexpected answer must not stop a run of thousands; a general fault would show at once.
        _log.error("%s: %s: %s", name, type(error).__name__, error, exc_info=error)
    return failure_record(name, error)


async def for_all(items: Sequence[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Process all items concurrently, at most `at_once`, started in order; the first exception stops everything."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    await together(worker() for _ in range(min(at_once, len(items))))

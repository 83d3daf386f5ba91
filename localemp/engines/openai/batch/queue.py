"""Collects requests into batches, brings these to their end, and hands out the answers.

When no further request has come for a short while, those that have come become a batch; so do those that fill the most
that a service takes. A request that is in a batch of an earlier process waits for that one.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from localemp.engines.openai.batch.lines import NotAnsweredError
from localemp.engines.openai.batch.service import Service, growing
from localemp.engines.openai.batch.store import BatchStore
from localemp.engines.openai.batch.stored_batch import Draft, StoredBatch
from localemp.engines.openai.batch.submission import SmallerBatchError, Submission
from localemp.errors import EngineError, FatalEngineError, LocalempError, RunError
from localemp.utils.formatting import count
from localemp.utils.plain_errors import in_words

_log = logging.getLogger(__name__)
MOST_REQUESTS = 50_000
"""The most requests of a batch at OpenAI's service."""

_NOTED_AFTER = 1.0  # seconds; whoever is told of a failure has written it down by then


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The most that a service takes in one batch.

    Attributes:
        requests: Number of requests.
        size: Size of the file, in bytes.
    """

    requests: int = MOST_REQUESTS
    size: int = 200 * 10**6


class BatchQueue:
    """The requests that wait for answers from one service.

    Args:
        store: The batches on disk, open.
        service: The service.
        limits: What it takes in one batch.
    """

    def __init__(self, store: BatchStore, service: Service, limits: BatchLimits) -> None:
        self._store, self._service, self._limits = store, service, limits
        self._most = limits.size  # bytes; less if the service's queue has no room for so many
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._draft: Draft | None = None
        self._last = 0.0  # when the last request came
        self._lulls = self._new_lulls()
        self._submissions: dict[str, Submission] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: Exception | None = None

    def put(self, name: str, line: bytes) -> asyncio.Future[None]:
        """Add a request; its answer is in the store when the result is there.

        The result raises NotAnsweredError if the batch ended without an answer, SmallerBatchError if it was never
        asked because the batch was too large, and another EngineError if the service refuses it.

        Args:
            name: Its id.
            line: Its line in a file; not kept in memory.

        Raises:
            EngineError: It is too long for a file, or no further request can succeed.
            RunError: It cannot be written.
        """
        if self._stopped is not None:
            raise self._stopped
        if len(line) > self._limits.size:
            raise EngineError(f"a request of {len(line):,} bytes is too long for a batch", "omit --batch")
        if (batch := self._store.active.get(name)) is not None:
            self._submit(batch)
        else:
            self._add(name, line)
        future = self._waiting[name] = asyncio.get_running_loop().create_future()
        return future

    def report(self, name: str) -> None:
        """Note that a failure is passed on, see `BatchStore.report`."""
        self._store.report(name)
        asyncio.get_running_loop().call_later(_NOTED_AFTER, self._note_reports)

    def _note_reports(self) -> None:
        with suppress(RunError):  # a disk that is full stops what follows; here, a failure is passed on twice
            self._store.flush()

    def status(self) -> str:
        """Return in a few words how the first batch stands that has not ended; empty if there is none."""
        submissions = list(self._submissions.values())
        for number, submission in enumerate(submissions, 1):
            if submission.batch.state.step != "fetched":
                which = "batch" if len(submissions) == 1 else f"batch {number} of {len(submissions)}"
                return f"{which}: {submission.status()}"
        return ""

    async def close(self) -> None:
        """Stop waiting. Batches go on at the service; requests that are in none are forgotten."""
        tasks = list(self._tasks)
        self._abandon()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _add(self, name: str, line: bytes) -> None:
        draft = self._draft
        if draft is not None and (len(draft.ids) >= self._limits.requests or draft.size + len(line) > self._most):
            self._end_draft(draft)
        if self._draft is None:
            self._draft = self._store.draft()
            self._start(self._end_in_a_lull(self._draft))
        self._draft.add(name, line)
        self._last = time.monotonic()

    async def _end_in_a_lull(self, draft: Draft) -> None:
        if all(each.batch.state.step == "fetched" for each in self._submissions.values()):
            self._lulls = self._new_lulls()
        lull = next(self._lulls)
        left = lull
        while left > 0:
            await asyncio.sleep(left)
            left = self._last + lull - time.monotonic()
        if self._draft is draft:
            self._end_draft(draft)

    def _new_lulls(self) -> Iterator[float]:
        """Return the waits for further requests: longer each time, for requests that come one by one for long."""
        return growing(self._service.timing.lull, self._service.timing.longest_lull, 2.0)

    def _end_draft(self, draft: Draft) -> None:
        self._draft = None
        self._submit(self._store.end(draft))

    def _submit(self, batch: StoredBatch) -> None:
        if batch.name not in self._submissions:
            submission = self._submissions[batch.name] = Submission(batch, self._service)
            self._start(self._complete(submission))

    async def _complete(self, submission: Submission) -> None:
        batch = submission.batch
        names = batch.ids
        errors = await submission.complete()
        found = submission.found
        self._store.fetched(batch, found)
        rest = errors.get("")
        if isinstance(rest, SmallerBatchError):
            self._most = max(1, min(self._most, batch.state.size) // 2)
        missing = []
        for name in names:
            if name not in found.places:
                missing.append(name)
            elif (future := self._waiting.pop(name, None)) is not None and not future.done():
                future.set_result(None)
        if isinstance(rest, FatalEngineError):
            raise rest
        if missing:
            told = f"{count(len(missing), 'request')} of it without an answer"
            _log.info("%s %s: %s", batch.name, batch.state.status or "was not created", told)
        for name in missing:
            if (future := self._waiting.pop(name, None)) is not None and not future.done():
                future.set_exception(errors.get(name) or rest or NotAnsweredError("no answer"))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task whose failure ends the session."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            known = isinstance(error, LocalempError)
            self._stopped = error if known else FatalEngineError(f"{type(error).__name__}: {in_words(error)}")
            self._abandon()
            waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(self._stopped)

    def _abandon(self) -> None:
        """Send nothing more: what is in no batch is forgotten, and batches stay as they are."""
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        if self._draft is not None:
            self._draft.discard()
            self._draft = None

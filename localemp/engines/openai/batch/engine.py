"""Engine for hosted models that are asked through the Batch API of their service."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.answers import Answers
from localemp.engines.openai.batch.api import BatchAPI
from localemp.engines.openai.batch.lines import content_hash, read_answer, request_line
from localemp.engines.openai.batch.queue import MOST_REQUESTS, BatchLimits, BatchQueue
from localemp.engines.openai.batch.service import Service, Timing, growing
from localemp.engines.openai.batch.store import BatchStore
from localemp.engines.openai.batch.stored_batch import asked_in
from localemp.engines.openai.batch.submission import SmallerBatchError
from localemp.engines.openai.engine import PATHS, OpenAIEngine
from localemp.engines.openai.failures import is_retryable, refused_parameter
from localemp.errors import EngineError, FatalEngineError
from localemp.protocol.errors import ResponseError
from localemp.sampling import Sampling

MOST_BATCHES = 3
"""The most batches that a request is put into while it gets no answer, or one that may be better later."""

_log = logging.getLogger(__name__)
_TIER = "batch"
_TRIES = 4  # to find out whether the server has the API


class OpenAIBatchEngine(OpenAIEngine):
    """Asks a service through its Batch API: answers come within a day, at a lower price.

    Requests are collected until no more come, and become a batch (`queue.py`). A request is found again by what it
    asks: one that an earlier process asked is not asked again, whether it is answered, under way, or only prepared.
    What an answer means, which parameters are dropped and which errors are fatal is as in `OpenAIEngine`.

    A request without an answer (the batch expired or failed) or with a transient error is put into another batch, up to
    `MOST_BATCHES` in all. If a batch is cancelled while this waits for it, its answers are handed out, and the session
    ends; what is missing is asked when there is another one.
    """

    concurrency = MOST_REQUESTS

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        folder: Path | None,
        concurrency: int | None = None,
        limits: BatchLimits | None = None,
        timing: Timing | None = None,
        **options: Any,
    ) -> None:
        """Create an engine; no request is sent, and nothing is written, before `start`.

        Args:
            model: Name of the model on the server.
            base_url: URL of the server, as of `OpenAIEngine`.
            folder: The folder of a run, an experiment or a judge; the batches are kept in it. None if there is none,
                then the engine does not start.
            concurrency: Most requests that wait for answers; None for as many as one batch takes.
            limits: What the service takes in one batch; by default what OpenAI's does.
            timing: How long is waited for what; by default what suits batches of hours.
            **options: Further arguments of `OpenAIEngine`.

        Raises:
            LocalempError: As of `OpenAIEngine`.
        """
        limits, timing = limits or BatchLimits(), timing or Timing()
        # A batch is a tier of its own; requests are the same whatever another one is asked for.
        extra = {name: value for name, value in (options.get("extra_body") or {}).items() if name != "service_tier"}
        options["extra_body"] = extra
        super().__init__(model, base_url, concurrency=concurrency or limits.requests, **options)
        self._reader = replace(self._reader, tier=_TIER)
        self._endpoint = f"{self._target.server.batch_prefix}{PATHS[self.api]}"
        self._api = BatchAPI(self._connection)
        self._has_folder, self._timing = folder is not None, timing
        self._store = BatchStore(folder or Path(), self.base_url, self._endpoint, model, extra)
        service = Service(self._api, self.base_url, lambda error: self._explained(error, 0), timing)
        self._queue = BatchQueue(self._store, service, limits)
        self._asked: Counter[str] = Counter()
        self._taken_up: set[str] = set()

    async def start(self) -> None:
        """Check the server, and find the batches of earlier processes.

        Raises:
            FatalEngineError: As of `OpenAIEngine`, or the server has no Batch API.
            RunError: Another process waits for the same batches, or a file is damaged.
        """
        if not self._has_folder:
            raise FatalEngineError(
                "--batch is for what is kept in a folder: answers come within a day, and must be found again",
                "omit --batch",
            )
        await super().start()
        if missing := await self._missing():
            raise FatalEngineError(
                f"{self.base_url} has no Batch API: it does not know {missing}",
                f"omit --batch to ask one by one, or {self._target.url_hint}",
            )
        await asyncio.to_thread(self._store.open)

    async def _missing(self) -> str:
        """Return what the server lacks of the API; it is asked again where it may just be busy."""
        tries, pauses = 0, growing(self._timing.poll, self._timing.longest_poll, 2.0)
        while True:
            tries += 1
            try:
                return await self._api.missing()
            except ResponseError as error:
                if tries == _TRIES or not is_retryable(error, ()):
                    wrong = self._explained(error, 0)
                    raise FatalEngineError(wrong.message, wrong.hint or "omit --batch to ask one by one") from error
            await self._sleep(next(pauses))

    async def close(self) -> None:
        """Stop waiting, and close the connections; batches go on at the service."""
        await self._queue.close()
        if told := self._store.under_way():
            _log.info("%s", told)
        self._store.close()
        await super().close()

    def status(self) -> str:
        """Return in a few words how the first batch stands that has not ended."""
        return self._queue.status()

    def describe(self) -> dict[str, Any]:
        """Return everything that affects replies, for the manifest; never the key."""
        return {**super().describe(), "batch": True}

    def kept_requests(self) -> Iterator[tuple[Sequence[str], int]]:
        """Yield texts and most tokens of the answers of each request that earlier processes left under way."""
        for batch in dict.fromkeys(self._store.active.values()):
            yield from asked_in(batch.requests)

    def keeps(self, messages: Sequence[Message], sampling: Sampling, number: int) -> bool:
        """Return whether an earlier process left a request under way, once for each; for a budget."""
        if not self._store.active:
            return False
        asked = content_hash(self._endpoint, self._requests.body(messages, sampling, number)[0])
        name = f"{asked}-{self._asked[asked] + 1}"
        if name not in self._store.active or name in self._taken_up:
            return False
        self._taken_up.add(name)
        return True

    async def _send(self, build: Callable[[], Mapping[str, Any]]) -> Answers:
        """Return the answers to a request, from a batch of this process or an earlier one; raises the last error."""
        body = build()
        name = self._name(body)
        line, batches = self._store.read(name), 0
        while True:
            try:
                if line is None:
                    batches += 1
                    line = await self._line(name, body)
                return replace(read_answer(line), batch_id=name, seconds=self._store.seconds(name))
            except ResponseError as error:
                line = None
                self._connection.hide_key(error)
                if not is_retryable(error, body):
                    if refused_parameter(error) not in body:
                        self._queue.report(name)
                    raise
                if batches == MOST_BATCHES:
                    raise EngineError(
                        f"{self.base_url} did not answer in {batches} batches: {error.message}",
                        "--retry-errors asks again",
                    ) from error

    async def _line(self, name: str, body: Mapping[str, Any]) -> bytes:
        """Put a request into a batch, and return the line of its answer.

        Raises:
            NotAnsweredError: The batch ended without one.
        """
        while True:
            try:
                await self._queue.put(name, request_line(name, self._endpoint, body))
            except SmallerBatchError:
                continue  # its batch was not accepted, and later ones are smaller
            line = self._store.read(name)
            assert line is not None, "the queue says that it is there"
            return line

    def _name(self, body: Mapping[str, Any]) -> str:
        """Return the id of a request: what it asks, and how often that was asked before by this process."""
        asked = content_hash(self._endpoint, body)
        self._asked[asked] += 1
        return f"{asked}-{self._asked[asked]}"

    def _completions(
        self, asked: tuple[Answers, tuple[str, ...]], messages: Sequence[Message], sampling: Sampling, begun: float
    ) -> list[Completion]:
        """Return what was answered; what has no text is asked anew if it is asked again."""
        name = asked[0].batch_id
        try:
            found = super()._completions(asked, messages, sampling, begun)
        except EngineError:
            self._queue.report(name)
            raise
        if not any(each.text.strip() for each in found):
            self._queue.report(name)
        return found

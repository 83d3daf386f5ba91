"""One batch on its way: its file is uploaded, the batch is created, polled until it ends, and its answers are fetched.

Each step is written down when it is done. Whether a step was done whose answer was lost is asked of the service before
it is taken again, so that no request is asked twice.
"""

import asyncio
import logging
import re
import time

from localemp.engines.openai.batch.api import Problem, RemoteBatch
from localemp.engines.openai.batch.lines import AnswerFile, NotAnsweredError
from localemp.engines.openai.batch.service import Service, growing
from localemp.engines.openai.batch.stored_batch import Kind, StoredBatch
from localemp.engines.openai.failures import is_retryable
from localemp.errors import EngineError, FatalEngineError
from localemp.protocol.errors import MalformedResponseError, ResponseError, ServerError
from localemp.utils.text import for_terminal

_log = logging.getLogger(__name__)
_NO_ANSWER = "the batch has no answer to it"
_MOST_TRIES = 5  # for answers that the service has announced
_BYTES_A_TOKEN = 4
_PART = 0.25  # of the service's queue; a batch with fewer tokens waits for room in it
_FEW = 100  # requests; fewer are not divided if the service does not say how many tokens it takes
_LONGEST_PAUSE = 600.0  # seconds that a service may ask to wait, and between tries to find room in its queue
_LIMIT = re.compile(r"[Ll]imit: ([\d,]{1,20}) enqueued")
_PASSING = ("internal", "server_error", "timeout", "rate_limit", "unavailable")


class SmallerBatchError(NotAnsweredError):
    """The service takes no batch of this size, so that its requests must be asked in smaller ones."""


class Submission:
    """Brings one batch to its end.

    Args:
        batch: The batch, at whatever step.
        service: The service.

    Attributes:
        found: The answers and failures that were fetched.
    """

    def __init__(self, batch: StoredBatch, service: Service) -> None:
        self.batch, self._service = batch, service
        self._polls = growing(service.timing.poll, service.timing.longest_poll, 1.25)
        self._tries = 0  # tries to fetch answers that were announced
        self._was_active = not batch.in_doubt  # whether it was seen before anyone cancelled it
        self._trouble = ""
        self._waits = ""
        self.found = AnswerFile()

    async def complete(self) -> dict[str, Exception]:
        """Take all steps that are left.

        Returns:
            The errors of single requests, by their ids; under "" that of all others that have no answer.

        Raises:
            FatalEngineError: The service refuses the batch, or has been silent for too long.
            RunError: A file cannot be written or read.
        """
        errors: dict[str, Exception] = {}
        silent_since: float | None = None
        pauses = growing(self._service.timing.poll, self._service.timing.longest_poll, 2.0)
        while self.batch.state.step != "fetched":
            try:
                errors = await self._next_step()
            except SmallerBatchError as error:
                errors = {"": error}
                self.batch.save("fetched", note=error.message)
            except ResponseError as error:
                now = time.monotonic()
                silent_since = now if silent_since is None else silent_since
                if not is_retryable(error, ()) or now - silent_since > self._service.timing.silence:
                    raise self._fatal(error) from error
                if not self._trouble:
                    self._trouble = f"the service has not answered since {_clock_time(time.time())}: {error.message}"
                    _log.warning("%s: %s; trying again", self.batch.name, for_terminal(error.message))
                await asyncio.sleep(max(next(pauses), min(error.retry_after or 0.0, _LONGEST_PAUSE)))
            else:
                silent_since, self._trouble = None, ""
                pauses = growing(self._service.timing.poll, self._service.timing.longest_poll, 2.0)
        return errors or {"": NotAnsweredError(_NO_ANSWER)}

    def status(self) -> str:
        """Return in a few words how it stands."""
        if self._trouble:
            return self._trouble
        state = self.batch.state
        if self._waits:
            return self._waits
        if state.step in ("prepared", "uploaded"):
            return f"{'uploading' if state.step == 'prepared' else 'creating'} {state.requests:,} requests"
        words = state.status.replace("_", " ") if state.step == "created" else "fetching the answers"
        done = (state.completed or 0) + (state.failed or 0)
        since = "" if state.created is None else f", since {_clock_time(state.created)}"
        return f"{words}, {done:,} of {state.requests:,}{since}"

    async def _next_step(self) -> dict[str, Exception]:
        batch = self.batch
        match batch.state.step:
            case "prepared":
                await self._upload()
            case "uploaded":
                await self._create()
            case "created":
                return await self._wait_for_end()
            case "ended":
                return await self._fetch()
        return {}

    async def _upload(self) -> None:
        batch, api = self.batch, self._service.api
        name, state = f"{batch.name}.jsonl", batch.state
        file = ""
        if batch.in_doubt:
            if (remote := await api.find(batch.name, "", state.prepared, state.past)) is not None:
                batch.save(file=remote.input_file)
                self._note(remote)
                return
            file = await api.find_file(name, state.prepared)
        batch.in_doubt = True
        try:
            file = file or await api.upload(batch.requests, name)
        except ServerError as error:
            if error.status == 413 and state.requests > 1:
                raise SmallerBatchError(error.message) from error
            raise
        batch.in_doubt = False
        batch.save("uploaded", file=file)

    async def _create(self) -> None:
        """Create the batch, and wait until the service has checked it: then it is known whether there was room."""
        batch = self.batch
        async with self._service.gate:
            begun = time.monotonic()
            for pause in growing(self._service.timing.poll, _LONGEST_PAUSE, 2.0):
                problem = await self._try_to_create()
                if problem is None:
                    return
                if self._is_too_big(problem):
                    raise SmallerBatchError(problem.message)
                if self._service.in_progress - {batch.name}:
                    begun = time.monotonic()
                elif time.monotonic() - begun > self._service.timing.silence:
                    raise FatalEngineError(
                        f"{self._service.url} has no room for the batch {batch.name}: {problem.message}",
                        "run the same command again when other batches have ended",
                    )
                _log.info("%s: the service has no room for it: %s", batch.name, for_terminal(problem.message))
                await self._wait_for_room(pause)

    async def _try_to_create(self) -> Problem | None:
        """Create the batch once, or go back to its upload; return what the service says if it has no room for it."""
        batch, api, state = self.batch, self._service.api, self.batch.state
        remote = await api.find(batch.name, state.file, state.prepared, state.past) if batch.in_doubt else None
        if remote is None and not await self._is_there():
            batch.save("prepared", file="")
            return None
        batch.in_doubt = True
        try:
            remote = remote or await api.create(state.file, state.endpoint, batch.name)
        except ServerError as error:
            problem = Problem(error.code, error.message, None)
            if not _is_full(problem):
                raise
            batch.in_doubt = False
            return problem
        self._note(remote)
        while remote.status == "validating":
            await asyncio.sleep(next(self._polls))
            remote = await self._poll()
        return self._without_room(remote)

    async def _is_there(self) -> bool:
        """Wait until the service can use the uploaded file; return False if an earlier process's file is gone."""
        try:
            is_ready = await self._service.api.is_ready(self.batch.state.file)
            while not is_ready:
                await asyncio.sleep(next(self._polls))
                is_ready = await self._service.api.is_ready(self.batch.state.file)
        except ServerError as error:
            if error.status not in (404, 405, 501):
                raise
            return not self.batch.in_doubt  # not every server describes single files
        return True

    async def _wait_for_room(self, pause: float) -> None:
        """Wait until a batch of ours has ended, or some time has passed: others use the same queue."""
        self._waits = "waiting for room in the service's queue"
        self._service.ended.clear()
        waits = [asyncio.ensure_future(self._service.ended.wait()), asyncio.ensure_future(asyncio.sleep(pause))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waits = ""
            for wait in waits:
                wait.cancel()

    def _is_too_big(self, problem: Problem) -> bool:
        """Return whether the batch should be divided, rather than wait for room."""
        if self._service.in_progress - {self.batch.name}:
            return False
        state, found = self.batch.state, _LIMIT.search(problem.message)
        if found is None:
            return state.requests > _FEW
        return state.requests > 1 and state.size / _BYTES_A_TOKEN > _PART * int(found[1].replace(",", "") or 0)

    async def _wait_for_end(self) -> dict[str, Exception]:
        remote = await self._poll()
        while not remote.has_ended:
            await asyncio.sleep(next(self._polls))
            remote = await self._poll()
        if remote.status == "failed":
            return {} if self._without_room(remote) is not None else self._refused(remote)
        self._tries += 1
        silent = remote.completed is None and remote.status == "completed" and not remote.error_file
        if (remote.completed or silent) and not remote.output_file:
            told = "the batch has ended, and the service does not name its answers"
            if self._tries <= _MOST_TRIES:
                raise MalformedResponseError(told)
            raise self._lost(told)
        self._tries = 0
        self.batch.note(remote, "ended")
        return {}

    async def _poll(self) -> RemoteBatch:
        remote = await self._service.api.get(self.batch.state.batch)
        self._note(remote)
        return remote

    def _note(self, remote: RemoteBatch) -> None:
        self.batch.note(remote, "created")
        self._was_active = self._was_active or not (remote.has_ended or remote.status == "cancelling")
        if remote.has_ended:
            self._service.in_progress.discard(self.batch.name)
            self._service.ended.set()
        elif remote.status != "validating":
            self._service.in_progress.add(self.batch.name)

    def _without_room(self, remote: RemoteBatch) -> Problem | None:
        """Go back to the uploaded file if the service had no room for the batch; return what it says."""
        problem = next(filter(_is_full, remote.problems), None) if remote.status == "failed" else None
        if problem is not None:
            past = [*self.batch.state.past, remote.id]
            self.batch.save("uploaded", past=past, batch="", status="", note=problem.message)
            self.batch.in_doubt = False
        return problem

    async def _fetch(self) -> dict[str, Exception]:
        batch, api, state = self.batch, self._service.api, self.batch.state
        files: tuple[tuple[Kind, str], ...] = (("output", state.output_file), ("errors", state.error_file))
        for kind, file in files:  # in this order: once failures are here, answers are
            if file:
                with batch.fetching(kind) as path:
                    await api.download(file, path)
        self.found = await asyncio.to_thread(batch.answers, log=self._tries == 0)
        announced = min((state.completed or 0) + (state.failed or 0), state.requests)
        self._tries += 1
        if (number := len(self.found.places)) < announced:
            told = f"{batch.name}: {number:,} of {announced:,} answers can be read"
            if self._tries < _MOST_TRIES:
                raise MalformedResponseError(told)
            if state.completed and not number:
                raise self._lost(told)
            _log.warning("%s; the others are asked again", told)
        errors = self._missing()
        batch.save("fetched")
        return errors

    def _lost(self, told: str) -> FatalEngineError:
        """Return the error for answers that the service has billed, and that cannot be had: none is asked again."""
        self.batch.save("created")
        return FatalEngineError(
            f"{self._service.url}: {told}",
            "the same command fetches them when the service has them; remove "
            f"{for_terminal(str(self.batch.folder))} to ask its requests again, which are then paid again",
        )

    def _missing(self) -> dict[str, Exception]:
        """Return the errors of the requests without an answer."""
        state, name = self.batch.state, self.batch.name
        if state.status == "cancelled" and self._was_active:
            return {
                "": FatalEngineError(
                    f"the batch {name} was cancelled at {self._service.url}",
                    "what was answered before is kept; the same command asks for the rest",
                )
            }
        words = {"expired": "the batch expired", "cancelled": "the batch was cancelled"}
        return {"": NotAnsweredError(words.get(state.status, _NO_ANSWER))}

    def _refused(self, remote: RemoteBatch) -> dict[str, Exception]:
        """Return the errors of a batch that the service found invalid: of single lines, or of all."""
        problems = remote.problems
        self.batch.save("fetched")
        message = problems[0].message if problems else "the service gave no reason"
        if not problems or any(word in problems[0].code for word in _PASSING):
            return {"": NotAnsweredError(f"the batch failed: {message}")}
        ids = self.batch.ids
        lines = {each.line: each for each in problems if each.line is not None and 0 < each.line <= len(ids)}
        if len(lines) == len(problems) and len(lines) < len(ids):
            blamed: dict[str, Exception] = {
                ids[line - 1]: EngineError(f"{self._service.url} refuses the request in a batch: {each.message}")
                for line, each in lines.items()
            }
            return {**blamed, "": NotAnsweredError(f"the batch failed because of other requests: {message}")}
        raise FatalEngineError(
            f"{self._service.url} refuses the batch {self.batch.name}: {message}",
            "nothing of it was asked; correct what it says, and run the same command again",
        )

    def _fatal(self, error: ResponseError) -> FatalEngineError:
        """Return the error that ends the session: the service refuses a step, or has been silent for too long."""
        state, wrong = self.batch.state, self._service.explain(error)
        if state.step == "ended":
            self.batch.save("created")  # its files may have other names later
        if isinstance(error, ServerError) and error.status == 404 and state.is_under_way:
            return FatalEngineError(
                f"{self._service.url} does not have the batch {self.batch.name} ({state.batch}) or its files any more: "
                f"{error.message}",
                f"use the key that it was made with, or remove {for_terminal(str(self.batch.folder))} to ask its "
                "requests again, which are then paid again",
            )
        return FatalEngineError(wrong.message, wrong.hint)


def _is_full(problem: Problem) -> bool:
    return problem.code == "token_limit_exceeded" or "enqueued token limit" in problem.message.lower()


def _clock_time(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(seconds))

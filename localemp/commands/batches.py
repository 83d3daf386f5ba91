"""`batches`: what a service does with the batches of a run, an experiment or a judge; and cancelling them.

Nothing in the folder is changed, so that this works while another process waits for the same batches.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from localemp.engines.openai.batch.api import BatchAPI, RemoteBatch
from localemp.engines.openai.batch.state import BatchState
from localemp.engines.openai.batch.stored_batch import StoredBatch, stored_batches
from localemp.engines.openai.connection import Connection
from localemp.engines.openai.failures import explain
from localemp.engines.openai.servers import OTHER, server_at
from localemp.engines.openai.target import OPENAI_URL, URL_VARIABLE, Target, shown_url
from localemp.errors import EngineError, OptionError
from localemp.protocol.errors import ResponseError, ServerError
from localemp.utils.asynchronous import run_here
from localemp.utils.files import is_folder
from localemp.utils.paths import StrPath
from localemp.utils.text import for_terminal

_log = logging.getLogger(__name__)
_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How a batch stands.

    Attributes:
        name: Its name, here and at the service.
        id: The service's id of it; empty if there is none yet.
        server, model: What is asked.
        status: The service's word ("in_progress"); "prepared" or "uploaded" before it is created; "not taken" if the
            service had no room for it; "damaged" if its state cannot be read.
        fetched: Whether all that it has is here.
        requests: Number of its requests.
        completed, failed: How many of them were answered and have failed; None if unknown.
        created: When, in seconds since 1970; None if unknown.
        note: Why it failed.
    """

    name: str
    id: str
    server: str
    model: str
    status: str
    fetched: bool
    requests: int
    completed: int | None
    failed: int | None
    created: float | None
    note: str = ""


def list_batches(folder: StrPath, *, base_url: str | None = None) -> list[BatchStatus]:
    """Return how the batches of a folder stand, oldest first, as the service says now.

    Where it cannot be asked, what is known from before is returned, and a warning is logged.

    Args:
        folder: The folder of a run, an experiment or a judge.
        base_url: The server; by default the one that was asked, with the key of the environment.

    Raises:
        OptionError: There is no such folder.
    """
    return run_here(_each(folder, base_url, cancel=False), "use another thread")


def cancel_batches(folder: StrPath, *, base_url: str | None = None) -> list[BatchStatus]:
    """Cancel what the service still works on; return how all batches of a folder stand then.

    What is answered by then is kept, billed, and used by the next `generate` of the run.

    Args:
        folder: The folder of a run, an experiment or a judge.
        base_url: The server; by default the one that was asked, with the key of the environment.

    Raises:
        OptionError: There is no such folder.
        EngineError: The service cannot be asked.
    """
    return run_here(_each(folder, base_url, cancel=True), "use another thread")


async def _each(folder: StrPath, base_url: str | None, cancel: bool) -> list[BatchStatus]:
    path = Path(folder)
    if not is_folder(path):
        raise OptionError(f"{path} is not a folder", "give the folder of a run, as `localemp generate` names it")
    found: list[BatchStatus] = []
    wrong: EngineError | None = None
    async with AsyncExitStack() as stack:
        services = _Services(base_url, stack)
        for batch in stored_batches(path):
            known = _known(batch)
            if batch.state.step == "fetched" or not (batch.state.server or base_url):
                found.append(known)
                continue
            try:
                remote = await _ask(batch, services, cancel)
            except EngineError as error:
                remote = None
                if cancel and wrong is None:
                    wrong = error
                else:
                    _log.warning("%s: %s", batch.name, error.message)
            found.append(known if remote is None else _told(known, remote))
    if cancel and wrong is not None:  # raised only now, so that one batch does not keep the others from it
        raise wrong
    return found


def _known(batch: StoredBatch) -> BatchStatus:
    state: BatchState = batch.state
    status = state.status if state.step in ("created", "ended", "fetched") else state.step
    return BatchStatus(
        batch.name,
        state.batch,
        state.server,
        state.model,
        (status or "not taken") if state.server else "damaged",
        state.step == "fetched",
        state.requests,
        state.completed,
        state.failed,
        state.created or state.prepared,
        state.note,
    )


def _told(known: BatchStatus, remote: RemoteBatch) -> BatchStatus:
    return replace(
        known,
        id=remote.id,
        status=remote.status,
        completed=remote.completed,
        failed=remote.failed,
        created=remote.created or known.created,
        note="; ".join(problem.message for problem in remote.problems[:3]),
    )


class _Services:
    """The services of a folder's batches, with one connection each.

    Args:
        base_url: The server to ask; None for the one that was asked.
        stack: Closes the connections.
    """

    def __init__(self, base_url: str | None, stack: AsyncExitStack) -> None:
        self._base_url, self._stack = base_url, stack
        self._apis: dict[str, BatchAPI] = {}

    def of(self, state: BatchState) -> tuple[Target, BatchAPI]:
        """Return what is asked about a batch, and its files and batches.

        Raises:
            EngineError: It is a server that only the folder names.
        """
        if self._base_url is None and not _is_familiar(state.server):
            raise EngineError(
                f"the batch was made at {for_terminal(state.server)}, says the folder; your key is not sent there",
                "give the address with --base-url if it is right",
            )
        url = self._base_url or state.server
        target = Target.resolve(state.model, url, None, named=self._base_url is not None)
        if url not in self._apis:
            connection = Connection(target, _TIMEOUT)
            self._stack.push_async_callback(connection.close)
            self._apis[url] = BatchAPI(connection)
        return target, self._apis[url]


async def _ask(batch: StoredBatch, services: _Services, cancel: bool) -> RemoteBatch | None:
    """Return how the service says that a batch stands, once it is cancelled; None if it was never created."""
    state = batch.state
    target, api = services.of(state)
    with _explained(target):
        if state.batch:
            remote = await api.get(state.batch)
        else:
            found = await api.find(batch.name, state.file, state.prepared, state.past)
            if found is None:
                return None
            remote = found
        if not cancel or remote.has_ended or remote.status == "cancelling":
            return remote
        try:
            return await api.cancel(remote.id)
        except ServerError as error:
            if error.status == 409:  # it ended meanwhile
                return await api.get(remote.id)
            raise


def _is_familiar(url: str) -> bool:
    """Return whether a server may be asked that a folder names, which somebody else may have made."""
    usual = os.environ.get(URL_VARIABLE) or OPENAI_URL
    return (
        url == shown_url(usual)
        or server_at(url) is not OTHER
        or urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    )


@contextmanager
def _explained(target: Target) -> Iterator[None]:
    try:
        yield
    except ResponseError as error:
        raise explain(error, target, 0, None, known=True, answered=True) from error

"""The service's Batch API: files and batches, each call one try over a `Connection`.

    POST /files, GET /files, GET /files/ID, GET /files/ID/content
    POST /batches, GET /batches, GET /batches/ID, POST /batches/ID/cancel

Nothing that a server sends is trusted: ids are quoted where they become part of a path, lists are read for a limited
number of pages, and what is missing or invalid is unknown.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from localemp.engines.openai.connection import Connection
from localemp.engines.openai.failures import WebPageError
from localemp.protocol.completions import decode
from localemp.protocol.errors import MalformedResponseError, ServerError
from localemp.utils.files import open_regular
from localemp.utils.text import one_line

WINDOW = "24h"
"""The time within which a batch is answered, or expires; the only one that OpenAI's service knows."""
MARK = "localemp"
"""The key of a batch's metadata that has its name."""
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""The statuses of batches that do not change any more."""

_MISSING = (404, 405, 501)
_PAGE, _MOST_PAGES = 100, 1000
_DAY = 86400  # seconds by which the service's clock may differ from ours
_LONGEST_ID = 200
_NOT_READY = ("pending", "running", "notrunning")  # statuses of files; Azure checks them before they can be used
_ENDINGS = ("completed_at", "expired_at", "cancelled_at", "failed_at")


@dataclass(frozen=True, slots=True)
class Problem:
    """What the service says is wrong with a file of requests.

    Attributes:
        code: A word, such as "token_limit_exceeded"; empty if not given.
        message: The reason, in one line.
        line: Number of the line that it is about, from 1; None for all.
    """

    code: str
    message: str
    line: int | None


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as the service describes it.

    Attributes:
        id: Its id.
        status: "validating", "in_progress", "finalizing", "cancelling", or one of `ENDED`.
        name: The name that we gave it; empty for others' batches.
        input_file, output_file, error_file: Ids of its files; empty if there is none.
        total, completed, failed: Numbers of its requests; None if not given.
        created, ended: Seconds since 1970; None if not given.
        problems: Why it failed.
    """

    id: str
    status: str
    name: str = ""
    input_file: str = ""
    output_file: str = ""
    error_file: str = ""
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    created: int | None = None
    ended: int | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be answered."""
        return self.status in ENDED


class BatchAPI:
    """The files and batches of one service; every method raises what `Connection.post` raises.

    Args:
        connection: The connection to it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def missing(self) -> str:
        """Return which of the two collections the server does not have; empty if it has both."""
        for path in ("/batches", "/files"):
            try:
                await self._connection.get(path, _object, {"limit": 1})
            except WebPageError:
                return path
            except ServerError as error:
                if error.status in _MISSING or error.inside:
                    return path
                if error.status != 400:  # a server that has it may refuse the parameter
                    raise
        return ""

    async def upload(self, path: Path, name: str) -> str:
        """Upload a file of requests; return its id."""
        with open_regular(path) as file:
            return await self._connection.upload("/files", {"purpose": "batch"}, name, file, _file_id)

    async def is_ready(self, file: str) -> bool:
        """Return whether an uploaded file can be used.

        Raises:
            ServerError: The service found it to be unusable.
        """
        value = await self._connection.get(f"/files/{quote(file, safe='')}", _object)
        status = str(value.get("status") or "").lower()
        if status == "error":
            raise ServerError.parse({"message": value.get("status_details") or "the file cannot be used"}, 400)
        return status not in _NOT_READY

    async def find_file(self, name: str, since: float) -> str:
        """Return the id of the file with a name, uploaded after a time; empty if there is none."""
        async for value in self._entries("/files", since, {"purpose": "batch"}):
            if value.get("filename") == name and str(value.get("status") or "").lower() != "error":
                return _id(value)
        return ""

    async def create(self, file: str, endpoint: str, name: str) -> RemoteBatch:
        """Let the requests of a file be answered."""
        body = {
            "input_file_id": file,
            "endpoint": endpoint,
            "completion_window": WINDOW,
            "metadata": {MARK: name},
        }
        return self._shown(await self._connection.post("/batches", body, _remote))

    async def find(self, name: str, file: str, since: float, past: Collection[str]) -> RemoteBatch | None:
        """Return the batch of a name, or of a file of requests, unless it is one of the past ones."""
        async for value in self._entries("/batches", since):
            found = read_batch(value)
            ours = found.name == name or (file and found.input_file == file)
            if ours and found.id not in past:
                return self._shown(found)
        return None

    async def get(self, batch: str) -> RemoteBatch:
        """Return how a batch stands."""
        return self._shown(await self._connection.get(f"/batches/{quote(batch, safe='')}", _remote))

    async def cancel(self, batch: str) -> RemoteBatch:
        """Cancel a batch; what is answered by then can be fetched when its status is "cancelled"."""
        return self._shown(await self._connection.post(f"/batches/{quote(batch, safe='')}/cancel", {}, _remote))

    async def download(self, file: str, path: Path) -> None:
        """Fetch a file of answers, line by line as the service sends it, into a new file."""
        with path.open("xb") as target:
            await self._connection.download(f"/files/{quote(file, safe='')}/content", target)

    def _shown(self, batch: RemoteBatch) -> RemoteBatch:
        """Mask the key in what the service says about a batch."""
        said = (replace(each, message=self._connection.without_key(each.message)) for each in batch.problems)
        return replace(batch, problems=tuple(said))

    async def _entries(
        self, path: str, since: float, query: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the entries of a list, newest first, until those that are older than a time."""
        after: dict[str, str] = {}
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            page, more = await self._connection.get(path, _page, {"limit": _PAGE, **(query or {}), **after})
            new = [entry for entry in page if _id(entry) not in seen]
            for entry in new:
                yield entry
            if not (more and new) or _are_older(new, since - _DAY):
                return
            seen.update(map(_id, new))
            after = {"after": _id(new[-1])}
        raise MalformedResponseError(f"the list {path} does not end")


def read_batch(value: Mapping[str, Any]) -> RemoteBatch:
    """Parse a batch."""
    metadata, counts = _mapping(value.get("metadata")), _mapping(value.get("request_counts"))
    status = str(value.get("status") or "").lower().replace("canceled", "cancelled").replace("canceling", "cancelling")
    return RemoteBatch(
        _id(value),
        one_line(status, 40),
        str(metadata.get(MARK) or ""),
        input_file=read_id(value.get("input_file_id")),
        output_file=read_id(value.get("output_file_id")),
        error_file=read_id(value.get("error_file_id")),
        total=_count(counts.get("total")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        created=_count(value.get("created_at")),
        ended=next((time for name in _ENDINGS if (time := _count(value.get(name)))), None),
        problems=tuple(_problems(value.get("errors"))),
    )


def _problems(value: Any) -> list[Problem]:
    listed = _mapping(value).get("data") if isinstance(value, Mapping) else value
    found = []
    for each in listed[:1000] if isinstance(listed, list) else ():
        if isinstance(each, Mapping):
            message = one_line(str(each.get("message") or "the service gave no reason"), 300)
            found.append(Problem(read_id(each.get("code")), message, _count(each.get("line"))))
    return found


def _object(content: bytes) -> Mapping[str, Any]:
    value = decode(content)
    if isinstance(value, Mapping) and value.get("error"):
        raise ServerError.parse(value["error"])
    if not isinstance(value, Mapping):
        raise MalformedResponseError(f"not an object: {one_line(str(value))}")
    return value


def _remote(content: bytes) -> RemoteBatch:
    found = read_batch(_object(content))
    if not found.id or not found.status:
        raise MalformedResponseError(f"not a batch: {one_line(content[:800].decode('utf-8', 'replace'))}")
    return found


def _file_id(content: bytes) -> str:
    if not (found := _id(_object(content))):
        raise MalformedResponseError(f"not a file: {one_line(content[:800].decode('utf-8', 'replace'))}")
    return found


def _page(content: bytes) -> tuple[list[Mapping[str, Any]], bool]:
    value = _object(content)
    listed = value.get("data")
    if not isinstance(listed, list):
        raise MalformedResponseError(f"not a list: {one_line(content[:800].decode('utf-8', 'replace'))}")
    entries = [entry for entry in listed if isinstance(entry, Mapping) and _id(entry)]
    return entries, value.get("has_more") is not False  # where it is missing, the next page may be empty


def _are_older(entries: Sequence[Mapping[str, Any]], time: float) -> bool:
    """Return whether all that follows in a list is older than a time: these entries are, the newest of them first."""
    ages = [age for entry in entries if (age := _count(entry.get("created_at"))) is not None]
    newest_first = all(age >= later for age, later in pairwise(ages))
    return len(ages) == len(entries) and newest_first and ages[0] < time


def _id(value: Mapping[str, Any]) -> str:
    return read_id(value.get("id"))


def read_id(value: Any) -> str:
    """Return an id of the service's, or another short word; empty if the value is not one."""
    plain = isinstance(value, str) and len(value) <= _LONGEST_ID and value.isprintable()
    return value if plain and value not in (".", "..") else ""  # which would be another path


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None

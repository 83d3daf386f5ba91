"""What is kept of batches in a folder, so that a process that is killed finds them again.

    batches/
        localemp-OWNER-RANDOM/     a batch, by the name that it has at the service
            requests.jsonl         the requests
            state.json             the last step that was taken; written after each step
            output.jsonl           the answers
            errors.jsonl           the failures
            reported               ids of the failures that were passed on, which are asked anew if they are asked again

OWNER is a hash of what an engine asks and where, since several engines may keep their batches in one folder. No file
has a key, or a part of an address that may hold one.
"""

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from localemp.engines.openai.batch.api import RemoteBatch, read_id
from localemp.engines.openai.batch.lines import AnswerFile, Place, content_hash, request_id, texts_and_limit
from localemp.errors import RunError
from localemp.utils.append_log import whole_lines
from localemp.utils.files import MAKE_ROOM, open_regular, remove_partial, write_errors, write_json
from localemp.utils.formatting import count
from localemp.utils.json_reader import JSONError, load_object
from localemp.utils.lines import LongLineError, read_lines
from localemp.utils.locks import LockedError, lock
from localemp.utils.redaction import redact_text
from localemp.utils.text import for_terminal
from localemp.utils.validation import Lenient, format_validation_error

FOLDER = "batches"
"""Name of the folder, inside of a run's or another one."""

Step = Literal["prepared", "uploaded", "created", "ended", "fetched"]
Kind = Literal["output", "errors"]


_WRITABLE = "let it be written to, then run the same command again"
_log = logging.getLogger(__name__)
_PREFIX, _OWNER_DIGITS = "localemp", 8
_STATE, _REQUESTS, _OUTPUT, _ERRORS, _REPORTED = (
    "state.json",
    "requests.jsonl",
    "output.jsonl",
    "errors.jsonl",
    "reported",
)


def _checked_id(value: str) -> str:
    if value != read_id(value):
        raise ValueError("not an id")
    return value


_Number = Annotated[int, Field(ge=0, lt=2**53)]
_Id = Annotated[str, AfterValidator(_checked_id)]


class BatchState(Lenient):
    """What is known of a batch.

    Attributes:
        step: The last step: its requests are in a file; the file is at the service; so is a batch of it; that batch
            will change no more; all that it has is here.
        server, endpoint, model: What is asked.
        requests, size: The number of requests, and the bytes of their file.
        prepared: When the file was written, in seconds since 1970.
        file, batch: Their ids at the service; empty before there are any.
        past: Ids of batches of the same file that the service had no room for.
        status: The service's word for how the batch stands.
        completed, failed: Number of requests that were answered and that failed, as the service says.
        created, ended: When, as the service says, in seconds since 1970.
        output_file, error_file: Ids of the files of answers and of failures; empty if there is none.
        note: Why the batch failed.
    """

    format: Literal[1] = 1
    step: Step = "prepared"
    server: str = ""
    endpoint: str = ""
    model: str = ""
    requests: _Number = 0
    size: _Number = 0
    prepared: float = Field(0.0, ge=0, lt=2**53)
    file: _Id = ""
    batch: _Id = ""
    past: list[_Id] = Field(default_factory=list)
    status: str = ""
    completed: _Number | None = None
    failed: _Number | None = None
    created: _Number | None = None
    ended: _Number | None = None
    output_file: _Id = ""
    error_file: _Id = ""
    note: str = ""

    @model_validator(mode="after")
    def _has_its_ids(self) -> "BatchState":
        if (self.step == "uploaded" and not self.file) or (self.step in ("created", "ended") and not self.batch):
            raise ValueError(f"it is {self.step}, but has no id")
        return self

    @property
    def is_under_way(self) -> bool:
        """Whether the service may be answering it, or has answers that are not here yet."""
        return self.step in ("uploaded", "created", "ended")


class StoredBatch:
    """One batch and its files.

    Args:
        folder: Its folder, which has its name.
        state: How it stands.
        tried: Whether an earlier try of the next step may have succeeded without our knowing.

    Attributes:
        ids: The ids of its requests, in the order of the file; empty once all is fetched.
    """

    def __init__(self, folder: Path, state: BatchState, tried: bool = True) -> None:
        self.folder, self.state, self.tried = folder, state, tried
        self.ids: list[str] = []

    @property
    def name(self) -> str:
        """Its name at the service."""
        return self.folder.name

    @property
    def requests(self) -> Path:
        """The file of requests."""
        return self.folder / _REQUESTS

    def save(self, step: Step | None = None, **changes: Any) -> None:
        """Change the state, here and on disk.

        Raises:
            RunError: It cannot be written.
        """
        self.state = self.state.model_copy(update={**changes, **({"step": step} if step else {})})
        with _write_errors(self.folder):
            write_json(self.folder / _STATE, self.state.model_dump())

    def note(self, remote: RemoteBatch, step: Step) -> None:
        """Keep what the service says about it, unless that is known."""
        changes = {
            "batch": remote.id,
            "status": remote.status,
            "completed": remote.completed,
            "failed": remote.failed,
            "created": remote.created,
            "ended": remote.ended,
            "output_file": remote.output_file,
            "error_file": remote.error_file,
            "note": redact_text("; ".join(problem.message for problem in remote.problems[:3])),
        }
        if step != self.state.step or any(getattr(self.state, name) != value for name, value in changes.items()):
            self.save(step, **changes)

    @contextlib.contextmanager
    def fetching(self, kind: Kind) -> Iterator[Path]:
        """Give the path that a file is fetched to; it becomes the file when the block ends without an error."""
        target = self.folder / (_OUTPUT if kind == "output" else _ERRORS)
        partial = target.with_suffix(".part")
        with _write_errors(self.folder):
            partial.unlink(missing_ok=True)  # of an earlier try, or a link in a folder that somebody else made
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(target)

    def answers(self, log: bool = False) -> AnswerFile:
        """Read where the answers and the failures are that were fetched.

        Args:
            log: Whether lines that are not answers to what was asked are named in a warning.

        Raises:
            RunError: A file cannot be read.
        """
        asked = set(self.ids) or None
        found = AnswerFile()
        for path in (self.folder / _ERRORS, self.folder / _OUTPUT):
            if not path.is_file():
                continue
            with _read_errors(path):
                one = AnswerFile.read(path, asked)
            found.places |= one.places
            found.lines += one.lines
            if log and one.number_odd:
                told = "; ".join(one.odd) + ("; ..." if one.number_odd > len(one.odd) else "")
                _log.warning("%s: %s left out: %s", path, count(one.number_odd, "line"), told)
        return found

    def reported(self) -> set[str]:
        """Return the ids of the failures that were passed on."""
        with _read_errors(path := self.folder / _REPORTED):
            return {line.decode("utf-8", "replace").strip() for _, _, line in whole_lines(path)}


class Draft:
    """The requests that will be the next batch; they are written as they come, and not kept in memory.

    Args:
        folder: Its folder; created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: list[str] = []
        self.size = 0
        with _write_errors(folder):
            folder.mkdir(parents=True)
            self._file = (folder / _REQUESTS).with_suffix(".part").open("wb")

    def add(self, name: str, line: bytes) -> None:
        """Add a request.

        Raises:
            RunError: It cannot be written.
        """
        with _write_errors(self.folder):
            self._file.write(line)
        self.ids.append(name)
        self.size += len(line)

    def end(self, state: Mapping[str, Any]) -> StoredBatch:
        """Make a batch of them, which a rerun will find."""
        with _write_errors(self.folder):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            Path(self._file.name).replace(self.folder / _REQUESTS)
        facts = {**state, "requests": len(self.ids), "size": self.size, "prepared": time.time()}
        batch = StoredBatch(self.folder, BatchState.model_validate(facts), tried=False)
        batch.ids = self.ids
        batch.save()
        return batch

    def discard(self) -> None:
        """Remove what was written."""
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class BatchStore:
    """The batches of one engine in a folder, locked against other processes while it is open.

    Args:
        folder: The folder of a run, an experiment or a judge.
        server: The address of the service, for display.
        endpoint: The path that is asked, such as "/v1/chat/completions".
        model: The model.
        extra: Further fields of all requests.

    Attributes:
        places: Where the answer to each request is that can be given out.
        active: The batches that are not fetched yet, by the ids of their requests.
    """

    def __init__(self, folder: Path, server: str, endpoint: str, model: str, extra: Mapping[str, Any]) -> None:
        self.folder = folder / FOLDER
        self._facts = {"server": server, "endpoint": endpoint, "model": model}
        self._owner = f"{_PREFIX}-{content_hash(server + endpoint, {'model': model, **extra})[:_OWNER_DIGITS]}"
        self.places: dict[str, Place] = {}
        self.active: dict[str, StoredBatch] = {}
        self._seconds: dict[Path, float] = {}
        self._reports: dict[Path, list[str]] = {}
        self._lock = -1

    def open(self) -> None:
        """Lock the batches, and find those of earlier processes.

        Raises:
            RunError: Another process has them, or a file cannot be read.
        """
        with _write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / f".{self._owner}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                lock(self._lock, wait=False)
            except LockedError as error:
                self.close()
                raise RunError(f"{self.folder}: another localemp waits for these batches", "wait for it") from error
        found = [self._found(folder) for folder in self.folder.glob(f"{self._owner}-*") if folder.is_dir()]
        for batch in sorted(filter(None, found), key=lambda each: each.state.prepared):
            if batch.state.step == "fetched":
                reported = batch.reported()
                self._take_in(batch, {name: at for name, at in batch.answers().places.items() if name not in reported})
            else:
                batch.ids = _read_ids(batch.requests)
                self.active |= {name: batch for name in batch.ids if name not in self.active}

    def _found(self, folder: Path) -> StoredBatch | None:
        """Return the batch of an earlier process; None if that was killed before there was one."""
        fetched = any((folder / name).is_file() for name in (_OUTPUT, _ERRORS))
        if not (folder / _REQUESTS).is_file() and not fetched:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        remove_partial(folder, _STATE)
        try:
            return StoredBatch(folder, read_state(folder))
        except RunError as error:
            # Its name is enough to find it at the service.
            _log.warning("%s; the batch is looked for by its name", error.message)
            size, begun = (at.st_size, at.st_mtime) if (at := _stat(folder / _REQUESTS)) else (0, time.time())
            facts = {"step": "fetched" if fetched else "prepared", "size": size, "prepared": begun}
            return StoredBatch(folder, BatchState.model_validate(self._facts | facts))

    def draft(self) -> Draft:
        """Begin a further batch."""
        return Draft(self.folder / f"{self._owner}-{secrets.token_hex(6)}")

    def end(self, draft: Draft) -> StoredBatch:
        """Make a batch of what was drafted."""
        batch = draft.end(self._facts)
        self.active |= dict.fromkeys(batch.ids, batch)
        return batch

    def fetched(self, batch: StoredBatch, found: AnswerFile) -> None:
        """Take in what was fetched of a batch."""
        self._take_in(batch, found.places)
        for name in batch.ids:
            self.active.pop(name, None)
        batch.ids = []

    def _take_in(self, batch: StoredBatch, places: Mapping[str, Place]) -> None:
        self.places |= places
        if batch.state.created is not None and batch.state.ended is not None:
            self._seconds[batch.folder] = float(max(0, batch.state.ended - batch.state.created))

    def seconds(self, name: str) -> float | None:
        """Return how long the batch took that answered a request, as the service says; None if it does not."""
        place = self.places.get(name)
        return None if place is None else self._seconds.get(place.path.parent)

    def read(self, name: str) -> bytes | None:
        """Return the line of the answer to a request; None if there is none.

        Raises:
            RunError: It cannot be read.
        """
        if (place := self.places.get(name)) is None:
            return None
        with _read_errors(place.path):
            return place.read()

    def report(self, name: str) -> None:
        """Note that a request's failure was passed on: it is asked anew if it is asked again, by this process or later.

        That is kept with the next call of `flush`, which comes after the failure is in a run.
        """
        if (place := self.places.pop(name, None)) is not None:
            self._reports.setdefault(place.path.parent, []).append(name)

    def under_way(self) -> str:
        """Return in words what the service goes on with, see `under_way`; empty before the batches are open."""
        return under_way(self.folder.parent) if self._lock >= 0 else ""

    def flush(self) -> None:
        """Keep what was reported."""
        reports, self._reports = self._reports, {}
        for folder, names in reports.items():
            with _write_errors(folder), (folder / _REPORTED).open("a", encoding="utf-8") as file:
                file.writelines(f"{name}\n" for name in names)

    def close(self) -> None:
        """Let other processes have the batches. May be called twice."""
        self.flush()
        if self._lock >= 0:
            descriptor, self._lock = self._lock, -1
            os.close(descriptor)


def read_state(folder: Path) -> BatchState:
    """Read the state of a batch from its folder.

    Raises:
        RunError: There is none, or it is damaged.
    """
    path = folder / _STATE
    try:
        return BatchState.model_validate(load_object(path))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing") from error
    except (OSError, JSONError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {format_validation_error(error)}") from error


def stored_batches(folder: Path) -> list[StoredBatch]:
    """Return all batches of a run's or another folder, oldest first; a damaged one has only its name."""
    found = []
    for place in (folder / FOLDER).glob(f"{_PREFIX}-*"):
        if (place / _REQUESTS).is_file():
            try:
                found.append(StoredBatch(place, read_state(place)))
            except RunError as error:
                _log.warning("%s", error.message)
                found.append(StoredBatch(place, BatchState(prepared=place.stat().st_mtime)))
    return sorted(found, key=lambda batch: (batch.state.prepared, batch.name))


def under_way(folder: Path, command: str = "the same command") -> str:
    """Return in words which batches of a folder the service goes on with, and what takes them up; empty without any."""
    number = sum(batch.state.is_under_way for batch in stored_batches(folder))
    if not number:
        return ""
    told = "1 batch goes on at the service" if number == 1 else f"{number} batches go on at the service"
    which = "it" if number == 1 else "them"
    return (
        f"{told}: {command} takes {which} up, and `localemp batches cancel {for_terminal(str(folder))}` cancels {which}"
    )


def _read_ids(path: Path) -> list[str]:
    """Return the ids of a file of requests.

    Raises:
        RunError: It is damaged: without its ids, its requests would be asked and paid again.
    """
    ids = []
    with _read_errors(path), open_regular(path) as file:
        for number, line in enumerate(read_lines(file), 1):
            try:
                ids.append(request_id(line))
            except ValueError as error:
                raise RunError(
                    f"{path}, line {number}: {error}",
                    f"remove {path.parent} to ask its requests again; what the service has answered of it is lost",
                ) from error
    return ids


def asked_in(path: Path) -> Iterator[tuple[Sequence[str], int]]:
    """Yield the texts of each request of a file, and the most tokens of its answers, all together.

    Raises:
        RunError: It cannot be read.
    """
    with _read_errors(path), open_regular(path) as file:
        for line in read_lines(file):
            yield texts_and_limit(line)


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return path.stat()
    return None


@contextlib.contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except LongLineError as error:
        raise RunError(f"{path}, line {error.line}: {error}") from error


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    with write_errors(lambda message, hint: RunError(f"{folder}: {message}", hint), _WRITABLE, MAKE_ROOM):
        yield

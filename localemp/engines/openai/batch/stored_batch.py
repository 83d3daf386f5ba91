"""One batch in its folder, so that a process that is killed finds it again.

    localemp-OWNER-RANDOM/     a batch, by the name that it has at the service
        requests.jsonl         the requests
        state.json             the last step that was taken; written after each step
        output.jsonl           the answers
        errors.jsonl           the failures
        reported               ids of the failures that were passed on, which are asked anew if they are asked again

No file has a key, or a part of an address that may hold one.
"""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from localemp.engines.openai.batch.api import RemoteBatch
from localemp.engines.openai.batch.lines import AnswerFile, request_id, texts_and_limit
from localemp.engines.openai.batch.state import STATE, BatchState, Step, read_state
from localemp.errors import RunError
from localemp.utils.append_log import whole_lines
from localemp.utils.files import MAKE_ROOM, open_regular, remove_partial, write_errors, write_json
from localemp.utils.formatting import count
from localemp.utils.lines import LongLineError, read_lines
from localemp.utils.redaction import redact_text
from localemp.utils.text import for_terminal

FOLDER = "batches"
"""Name of the folder of batches, inside of a run's or another one."""
PREFIX = "localemp"
"""What the name of each batch begins with."""

Kind = Literal["output", "errors"]

_log = logging.getLogger(__name__)
_WRITABLE = "let it be written to, then run the same command again"
_REQUESTS, _OUTPUT, _ERRORS, _REPORTED = "requests.jsonl", "output.jsonl", "errors.jsonl", "reported"


class StoredBatch:
    """One batch and its files.

    Args:
        folder: Its folder, which has its name.
        state: How it stands.
        in_doubt: Whether an earlier try of the next step may have succeeded without our knowing.

    Attributes:
        ids: The ids of its requests, in the order of the file; empty once all is fetched.
    """

    def __init__(self, folder: Path, state: BatchState, in_doubt: bool = True) -> None:
        self.folder, self.state, self.in_doubt = folder, state, in_doubt
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
        with writing(self.folder):
            write_json(self.folder / STATE, self.state.model_dump())

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
        with writing(self.folder):
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
            with read_errors(path):
                one = AnswerFile.read(path, asked)
            found.places |= one.places
            found.lines += one.lines
            if log and one.number_odd:
                told = "; ".join(one.odd) + ("; ..." if one.number_odd > len(one.odd) else "")
                _log.warning("%s: %s left out: %s", path, count(one.number_odd, "line"), told)
        return found

    def reported(self) -> set[str]:
        """Return the ids of the failures that were passed on."""
        with read_errors(path := self.folder / _REPORTED):
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
        with writing(folder):
            folder.mkdir(parents=True)
            self._file = (folder / _REQUESTS).with_suffix(".part").open("wb")

    def add(self, name: str, line: bytes) -> None:
        """Add a request.

        Raises:
            RunError: It cannot be written.
        """
        with writing(self.folder):
            self._file.write(line)
        self.ids.append(name)
        self.size += len(line)

    def end(self, state: Mapping[str, Any]) -> StoredBatch:
        """Make a batch of them, which a rerun will find."""
        with writing(self.folder):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            Path(self._file.name).replace(self.folder / _REQUESTS)
        facts = {**state, "requests": len(self.ids), "size": self.size, "prepared": time.time()}
        batch = StoredBatch(self.folder, BatchState.model_validate(facts), in_doubt=False)
        batch.ids = self.ids
        batch.save()
        return batch

    def discard(self) -> None:
        """Remove what was written."""
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def find_batch(folder: Path, facts: Mapping[str, Any]) -> StoredBatch | None:
    """Return the batch of an earlier process; None if that was killed before there was one.

    Args:
        folder: Its folder; removed if there is none.
        facts: What is known of it if its state is damaged.
    """
    fetched = any((folder / name).is_file() for name in (_OUTPUT, _ERRORS))
    if not (folder / _REQUESTS).is_file() and not fetched:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    remove_partial(folder, STATE)
    try:
        return StoredBatch(folder, read_state(folder))
    except RunError as error:
        # Its name is enough to find it at the service.
        _log.warning("%s; the batch is looked for by its name", error.message)
        size, begun = (at.st_size, at.st_mtime) if (at := _stat(folder / _REQUESTS)) else (0, time.time())
        known = {"step": "fetched" if fetched else "prepared", "size": size, "prepared": begun}
        return StoredBatch(folder, BatchState.model_validate({**facts, **known}))


def add_reported(folder: Path, names: Iterable[str]) -> None:
    """Note in a batch's folder that the failures of some requests were passed on.

    Raises:
        RunError: It cannot be written.
    """
    with writing(folder):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(folder / _REPORTED, flags, 0o666), "a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in names)


def stored_batches(folder: Path, owner: str = PREFIX) -> list[StoredBatch]:
    """Return all batches of a run's or another folder, oldest first; a damaged one has only its name.

    Args:
        folder: The folder.
        owner: What their names begin with, for those of one engine.
    """
    found = []
    for place in (folder / FOLDER).glob(f"{owner}-*"):
        if (place / _REQUESTS).is_file():
            try:
                found.append(StoredBatch(place, read_state(place)))
            except RunError as error:
                _log.warning("%s", error.message)
                found.append(StoredBatch(place, BatchState(prepared=place.stat().st_mtime)))
    return sorted(found, key=lambda batch: (batch.state.prepared, batch.name))


def under_way(folder: Path, command: str = "the same command", owner: str = PREFIX) -> str:
    """Return in words which batches of a folder the service goes on with, and what takes them up; empty without any.

    Args:
        folder: The folder of a run, an experiment or a judge.
        command: What takes them up, in words.
        owner: What their names begin with, for those of one engine.
    """
    number = sum(batch.state.is_under_way for batch in stored_batches(folder, owner))
    if not number:
        return ""
    told = "1 batch goes on at the service" if number == 1 else f"{number} batches go on at the service"
    which = "it" if number == 1 else "them"
    return (
        f"{told}: {command} takes {which} up, and `localemp batches cancel {for_terminal(str(folder))}` cancels {which}"
    )


def read_ids(path: Path) -> list[str]:
    """Return the ids of a file of requests.

    Raises:
        RunError: It is damaged: without its ids, its requests would be asked and paid again.
    """
    ids = []
    with read_errors(path), open_regular(path) as file:
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
    with read_errors(path), open_regular(path) as file:
        for line in read_lines(file):
            yield texts_and_limit(line)


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return path.stat()
    return None


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Raise a RunError where the file cannot be read."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except LongLineError as error:
        raise RunError(f"{path}, line {error.line}: {error}") from error


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise a RunError where something in the folder cannot be written."""
    with write_errors(lambda message, hint: RunError(f"{folder}: {message}", hint), _WRITABLE, MAKE_ROOM):
        yield

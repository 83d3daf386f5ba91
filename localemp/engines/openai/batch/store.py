"""The batches of one engine in a folder: which answers are there, and which requests are under way.

    batches/
        .localemp-OWNER.lock       held by the process that waits for them
        localemp-OWNER-RANDOM/     a batch, see `stored_batch.py`

OWNER is a hash of what an engine asks and where, since several engines may keep their batches in one folder.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localemp.engines.openai.batch.lines import AnswerFile, Place, content_hash
from localemp.engines.openai.batch.stored_batch import (
    FOLDER,
    PREFIX,
    Draft,
    StoredBatch,
    add_reported,
    find_batch,
    read_errors,
    read_ids,
    under_way,
    writing,
)
from localemp.errors import RunError
from localemp.utils.locks import LockedError, lock

_OWNER_DIGITS = 8


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
        self._owner = f"{PREFIX}-{content_hash(server + endpoint, {'model': model, **extra})[:_OWNER_DIGITS]}"
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
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(self.folder / f".{self._owner}.lock", flags, 0o600)
            try:
                lock(self._lock, wait=False)
            except LockedError as error:
                self.close()
                raise RunError(f"{self.folder}: another localemp waits for these batches", "wait for it") from error
        folders = filter(Path.is_dir, self.folder.glob(f"{self._owner}-*"))
        found = [find_batch(folder, self._facts) for folder in folders]
        for batch in sorted(filter(None, found), key=lambda each: each.state.prepared):
            if batch.state.step == "fetched":
                reported = batch.reported()
                self._take_in(batch, {name: at for name, at in batch.answers().places.items() if name not in reported})
            else:
                batch.ids = read_ids(batch.requests)
                self.active |= {name: batch for name in batch.ids if name not in self.active}

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
        with read_errors(place.path):
            return place.read()

    def report(self, name: str) -> None:
        """Note that a request's failure was passed on: it is asked anew if it is asked again, by this process or later.

        That is kept with the next call of `flush`, which comes after the failure is in a run.
        """
        if (place := self.places.pop(name, None)) is not None:
            self._reports.setdefault(place.path.parent, []).append(name)

    def under_way(self) -> str:
        """Return in words which of this engine's batches the service goes on with; empty before they are open."""
        return under_way(self.folder.parent, owner=self._owner) if self._lock >= 0 else ""

    def flush(self) -> None:
        """Keep what was reported."""
        reports, self._reports = self._reports, {}
        for folder, names in reports.items():
            add_reported(folder, names)

    def close(self) -> None:
        """Let other processes have the batches. May be called twice."""
        self.flush()
        if self._lock >= 0:
            descriptor, self._lock = self._lock, -1
            os.close(descriptor)

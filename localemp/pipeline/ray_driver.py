"""Answers one or more batches of the same model on a Ray cluster (`ray_cluster.py`).

The actors only answer: this process alone writes the runs.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from localemp.errors import FatalEngineError, LocalempError
from localemp.pipeline.batch import Batch
from localemp.pipeline.generate import Tally
from localemp.pipeline.ray_actor import ShareResult
from localemp.pipeline.ray_cluster import Cluster
from localemp.utils.formatting import count
from localemp.utils.progress import OnProgress, Progress, silent

_log = logging.getLogger(__name__)


def answer_batches_on_cluster(
    batches: Sequence[Batch], address: str, actors: int | None, log: Path, on_progress: OnProgress = silent
) -> None:
    """Answer all pending dialogues of opened batches with engines on a Ray cluster, each engine for all batches.

    A batch that cannot be written, or that a node cannot answer, gets its `error`; the others go on.

    Args:
        batches: Opened batches, all of the same model.
        address: The cluster, as `Cluster` takes it.
        actors: Number of engines; None for as many as the cluster holds.
        log: File for Ray's output.
        on_progress: Called with the start, and with dialogues answered.

    Raises:
        FatalEngineError: The cluster does not respond, or no further request can succeed. Finished replies are written.
    """
    waiting = [batch for batch in batches if batch.pending]
    if not waiting:
        return
    first = waiting[0].pipeline
    with Cluster(address, log) as cluster:
        most = sum(len(batch.pending) for batch in waiting)
        actors = min(actors or cluster.actors_for(first.config), most)
        rows: list[_Row] = []
        with closing(cluster.answers(waiting, actors)) as answers:
            on_progress(Progress(f"Starting {count(actors, 'engine')} on Ray ({first.profile.name})"))
            try:
                for part in answers:
                    if not rows:
                        began = time.perf_counter() - part.seconds
                        where = {**cluster.describe(), "actors": actors}
                        rows += [_Row(batch, where, began) for batch in waiting]
                    row = rows[part.row]
                    row.take(part)
                    on_progress(row.tally.progress(row=row.batch.name))
                    if part.stopped is not None:
                        raise part.stopped
                    if all(batch.error for batch in waiting):
                        break
            finally:
                for row in rows:
                    row.note()


class _Row:
    """A batch while its shares come back.

    Args:
        batch: The batch.
        where: Cluster and number of engines, for the manifest.
        began: When the first engine was ready (`time.perf_counter`).
    """

    def __init__(self, batch: Batch, where: Mapping[str, Any], began: float) -> None:
        self.batch, self._where = batch, where
        self.tally = batch.tally = Tally(len(batch.pending), started=began)
        self._left = {dialogue.id for dialogue in batch.pending}
        self._engines: list[str] = []
        self._notes: dict[str, Mapping[str, str]] = {}

    def take(self, part: ShareResult) -> None:
        """Write the replies of a share; what keeps it from that is the batch's error."""
        try:
            self._write(part)
        except LocalempError as error:
            self.batch.error = self.batch.error or error
        if part.failed is not None:
            self.batch.error = self.batch.error or self._named(part.failed)

    def note(self) -> None:
        """Record and log what was cut when prompts were built."""
        several = len(self._notes) > 1
        told = [(note, who) for who, notes in self._notes.items() for note in notes.values()]
        texts = [note for note, _ in told]
        # What every engine says alike, as of the training dialogues, is said once.
        notes = dict.fromkeys(
            f"{note} ({who})" if several and texts.count(note) < len(self._notes) else note for note, who in told
        )
        self.batch.notes = tuple(notes)
        for note in notes:
            _log.info("note: %s", note)
        if notes and self._engines:
            try:
                self.batch.opened.change_session({"notes": list(notes)})
            except LocalempError as error:
                self.batch.error = self.batch.error or error

    def _write(self, part: ShareResult) -> None:
        run = self.batch.opened
        if part.engine and part.who not in self._engines:
            if not self._engines:
                run.add_session(self.batch.session({**part.engine, **self._where}))
            self._engines.append(part.who)
            run.change_session({"engines": self._engines})
        self._notes[part.who] = part.notes
        for record in part.records:
            if record["id"] in self._left:  # Ray may repeat a task; each reply is written once
                self._left.remove(record["id"])
                run.append(record)
                self.tally.add(record)
                self.tally.ended = time.perf_counter()

    def _named(self, error: FatalEngineError) -> FatalEngineError:
        """Return an actor's error with the row's name."""
        if not self.batch.name:
            return error
        named = FatalEngineError(f"{self.batch.name}: {error.message}", error.hint)
        named.exit_code = error.exit_code
        return named

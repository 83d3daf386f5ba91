"""Answers one or more batches of the same model on a Ray cluster (`ray_cluster.py`).

The actors only answer: this process alone writes the runs.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from localemp.errors import FatalEngineError, LocalempError, OptionError
from localemp.pipeline.batch import Batch
from localemp.pipeline.generate import Tally
from localemp.pipeline.ray_actor import ShareResult
from localemp.pipeline.ray_cluster import Cluster
from localemp.utils.formatting import count
from localemp.utils.option import check_at_least
from localemp.utils.progress import OnProgress, Progress, silent

_log = logging.getLogger(__name__)


def check_actors(address: str | None, actors: int | None) -> None:
    """Check the arguments about a cluster, before anything is loaded.

    Raises:
        OptionError: There are actors without a cluster, or fewer than one.
    """
    if actors is not None and address is None:
        raise OptionError("--actors says how many engines a Ray cluster runs", "add --ray ADDRESS, or leave it out")
    check_at_least(1, actors=actors)


def answer_batches_on_cluster(
    batches: Sequence[Batch], address: str, actors: int | None, log: Path, on_progress: OnProgress = silent
) -> None:
    """Answer all pending dialogues of opened batches with engines on a Ray cluster, each engine for all batches.

    What goes wrong with one of several batches is its `error`, and stops no other: a run that cannot be written, a node
    with other settings. A failure of the cluster or an engine is the error of every batch that is not finished. The
    error of a single batch is raised. Finished replies are always written.

    Args:
        batches: Opened batches, all of the same model and with the same settings of the engine.
        address: The cluster, as `Cluster` takes it.
        actors: Number of engines; None for as many as the cluster holds.
        log: File for Ray's output.
        on_progress: Called with the start, and with dialogues answered, by row.

    Raises:
        FatalEngineError: Of a single batch: the cluster does not respond, or no further request can succeed.
        LocalempError: Of a single batch: the run cannot be written, or a dialogue lacks something.
    """
    rows = [_Row(batch) for batch in batches if batch.pending]
    if not rows:
        return
    try:
        _answer(rows, address, actors, log, on_progress)
    except LocalempError as error:
        for row in rows:
            row.fail(error)
    if len(batches) == 1 and batches[0].error is not None:
        raise batches[0].error


def _answer(rows: Sequence["_Row"], address: str, actors: int | None, log: Path, on_progress: OnProgress) -> None:
    """Answer until everything is answered, every row has failed, or no engine can go on.

    Raises:
        FatalEngineError: The cluster does not respond, or no further request can succeed.
    """
    batches = [row.batch for row in rows]
    first = batches[0].pipeline
    with Cluster(address, log) as cluster:
        actors = min(actors or cluster.actors_for(first.config), sum(len(batch.pending) for batch in batches))
        facts = {**cluster.describe(), "actors": actors}
        with closing(cluster.answers(batches, actors)) as answers:
            on_progress(Progress(f"Starting {count(actors, 'engine')} on Ray ({first.profile.name})"))
            try:
                for part in answers:
                    row = rows[part.row]
                    on_progress(row.take(part, facts).progress(row=row.batch.name))
                    if part.stopped is not None:
                        raise part.stopped
                    if all(row.batch.error for row in rows):
                        return
            finally:
                for row in rows:
                    row.note()


class _Row:
    """A batch while its shares come back.

    Attributes:
        batch: The batch.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._left = {dialogue.id for dialogue in batch.pending}
        self._engines: list[str] = []
        self._notes: dict[str, Mapping[str, str]] = {}
        self._noted_at: dict[str, float] = {}

    def fail(self, error: LocalempError) -> None:
        """Take an error as the batch's, unless it has one, or is finished."""
        if self._left and self.batch.error is None:
            self.batch.error = error

    def take(self, part: ShareResult, facts: Mapping[str, Any]) -> Tally:
        """Write the replies of a share; what keeps it from that is the batch's error.

        Args:
            part: The share.
            facts: Cluster and number of engines, for the manifest.
        """
        if self.batch.tally is None:
            self.batch.tally = Tally(len(self.batch.pending), started=time.perf_counter() - part.seconds)
        try:
            self._write(part, facts, self.batch.tally)
        except LocalempError as error:
            self.fail(error)
        if part.failed is not None:
            self.fail(self._named(part.failed))
        return self.batch.tally

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

    def _write(self, part: ShareResult, facts: Mapping[str, Any], tally: Tally) -> None:
        run = self.batch.opened
        if part.engine and part.who not in self._engines:
            if not self._engines:
                run.add_session(self.batch.session({**part.engine, **facts}))
            self._engines.append(part.who)
            run.change_session({"engines": self._engines})
        if part.seconds >= self._noted_at.get(part.who, 0.0):  # shares may come back in another order
            self._notes[part.who], self._noted_at[part.who] = part.notes, part.seconds
        for record in part.records:
            if record["id"] in self._left:  # Ray may repeat a task; each reply is written once
                run.append(record)
                self._left.remove(record["id"])
                tally.add(record)
                tally.ended = time.perf_counter()

    def _named(self, error: FatalEngineError) -> FatalEngineError:
        """Return an actor's error with the row's name."""
        if not self.batch.name:
            return error
        named = FatalEngineError(f"{self.batch.name}: {error.message}", error.hint)
        named.exit_code = error.exit_code
        return named

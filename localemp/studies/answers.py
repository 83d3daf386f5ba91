"""The answers of people and from imported files: one SQLite file, safe for many threads and processes at once.

Rows are never changed: a changed answer is a new row, the newest counts, and older ones are kept with their time. With
WAL and synchronous=FULL an answer is on disk when `put` returns; it survives a kill and a power cut, unless the disk
itself confirms writes too early.
"""

import json
import shlex
import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from localemp.errors import OptionError, RunError
from localemp.studies.answers_integrity import check_rows, stored_fingerprint
from localemp.studies.database import connect, next_step, transaction
from localemp.studies.raters import OWNER, Rater, RaterRole, clean_name, new_token, token_hash
from localemp.studies.study import Study
from localemp.studies.votes import Vote, check_vote
from localemp.utils.text import one_line

T = TypeVar("T")

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (one INTEGER PRIMARY KEY CHECK (one = 1), made_of TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, token_sha256 TEXT UNIQUE, UNIQUE (kind, name)
);
CREATE TABLE IF NOT EXISTS given (
    id INTEGER PRIMARY KEY AUTOINCREMENT, rater INTEGER NOT NULL REFERENCES raters, item TEXT NOT NULL,
    aspect TEXT NOT NULL, reply TEXT NOT NULL, value NOT NULL, first TEXT NOT NULL, seconds REAL, at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS newest ON given (rater, item, aspect, reply, id);
"""
# An answer that is sent again, because its confirmation was lost, is not counted twice.
_PUT = """
INSERT INTO given (rater, item, aspect, reply, value, first, seconds, at)
SELECT :rater, :item, :aspect, :reply, :value, :first, :seconds, :at WHERE :value IS NOT (
    SELECT value FROM given WHERE rater = :rater AND item = :item AND aspect = :aspect AND reply = :reply
    ORDER BY id DESC LIMIT 1
)
"""
_GIVEN = "SELECT name, item, aspect, value, reply, first, kind, seconds, at, given.id AS number FROM given"
# With max() in it, SQLite takes the other columns from the row that has the maximum.
_NEWEST = _GIVEN.replace("given.id", "max(given.id)")


@dataclass(frozen=True, slots=True)
class TimedVote:
    """A vote with its time.

    Attributes:
        vote: What was said.
        seconds: Between seeing the item and answering; None where that is not known.
        at: Time, UTC, ISO 8601.
    """

    vote: Vote
    seconds: float | None
    at: str


class AnswerStore:
    """The store of a study's answers.

    Args:
        path: The file; made where it does not exist, for its owner alone to read.
        study: What is answered.

    Raises:
        RunError: The file cannot be used, or the study was changed after rating began.
    """

    def __init__(self, path: Path, study: Study) -> None:
        self.path, self.study = path, study
        self._made_of = study.fingerprint
        self._threads, self._open = threading.local(), list[sqlite3.Connection]()
        self._use(self._check_study)
        self._use(lambda connection: check_rows(connection, path, study))

    # Raters.

    def add_rater(self, name: str, kind: RaterRole = "person") -> str:
        """Add a rater.

        Returns:
            The token that their link ends in. It cannot be had again: only its hash is kept.

        Raises:
            OptionError: The name is not valid, or it is taken.
        """
        name = OWNER if kind == "owner" else clean_name(name)

        def write(connection: sqlite3.Connection) -> str:
            with transaction(connection):
                known, has_link = _known(connection, name, kind)
                if has_link or known not in (None, name):
                    hint = "open the link that you were given, or choose another name"
                    raise OptionError(f"the name {known!r} is taken", hint)
                _check_not_imported(connection, name, kind)
                return _give_token(connection, name, kind)

        return self._use(write)

    def make_links(self, names: Sequence[str], renew: Collection[str] = ()) -> dict[str, str | None]:
        """Make link tokens for the owner and some raters, for all of them or for none.

        Args:
            names: Raters who get one, unless they have one.
            renew: Raters, or the owner, who get a new link; their old one stops working.

        Returns:
            Name -> token; None where the old one stays.

        Raises:
            OptionError: A name is not valid, too similar to another, or unknown.
        """
        wanted = dict.fromkeys([OWNER, *map(clean_name, names)])
        again = {OWNER if name.casefold() == OWNER else clean_name(name) for name in renew}

        def write(connection: sqlite3.Connection) -> dict[str, str | None]:
            made: dict[str, str | None] = {}
            with transaction(connection):
                for name in dict.fromkeys([*wanted, *sorted(again)]):
                    kind: RaterRole = "owner" if name == OWNER else "person"
                    known, has_link = _known(connection, name, kind)
                    if known is None and name not in wanted:
                        raise OptionError(f"no rater is called {name!r}", f"--raters {shlex.quote(name)} makes one")
                    if known not in (None, name):
                        hint = f"write {shlex.quote(str(known))}, or choose another name"
                        raise OptionError(f"{name!r} is too much like {known!r}", hint)
                    if known is None:
                        _check_not_imported(connection, name, kind)
                    made[name] = _give_token(connection, name, kind) if name in again or not has_link else None
            return made

        return self._use(write)

    def rater_of(self, token: str) -> Rater | None:
        """Return the rater of a token; None if it is unknown."""
        query = "SELECT name, kind FROM raters WHERE token_sha256 = ?"
        row = self._use(lambda connection: connection.execute(query, (token_hash(token),)).fetchone())
        return Rater(*row) if row else None

    # Answers.

    def put(self, vote: Vote, seconds: float | None = None) -> None:
        """Store an answer; it is on disk when this returns.

        Raises:
            OptionError: The vote cannot belong to the study.
            RunError: It cannot be kept, or the study was changed after rating began.
        """
        self.put_all([vote], [seconds])

    def put_all(self, votes: Sequence[Vote], seconds: Sequence[float | None] | None = None) -> None:
        """Store answers, all of them or none; new raters are added.

        Raises:
            OptionError: A vote cannot belong to the study.
            RunError: They cannot be kept, or the study was changed after rating began.
        """
        for vote in votes:
            check_vote(self.study, vote)
        taken = seconds or [None] * len(votes)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")

        def write(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.execute("INSERT OR IGNORE INTO study VALUES (1, ?)", (json.dumps(self._made_of),))
                self._check_study(connection)
                numbers = {who: _number_of(connection, *who) for who in {(vote.kind, vote.rater) for vote in votes}}
                connection.executemany(
                    _PUT,
                    [
                        {
                            "rater": numbers[vote.kind, vote.rater],
                            "item": vote.item,
                            "aspect": vote.aspect,
                            "reply": vote.reply,
                            "value": vote.value,
                            "first": vote.first,
                            "seconds": spent,
                            "at": now,
                        }
                        for vote, spent in zip(votes, taken, strict=True)
                    ],
                )

        self._use(write)

    def votes(self) -> list[Vote]:
        """Return the newest answer to each question, in the order given."""
        return [given.vote for given in self.timed_votes()]

    def timed_votes(self, rater: Rater | None = None) -> list[TimedVote]:
        """Return the newest answers with their times, of one rater or of all."""
        where = "" if rater is None else "WHERE kind = :kind AND name = :name"
        query = (
            f"{_NEWEST} JOIN raters ON raters.id = rater {where} GROUP BY rater, item, aspect, reply ORDER BY number"
        )
        return self._read(query, rater)

    def history(self) -> list[TimedVote]:
        """Return all answers ever given, including those changed later."""
        return self._read(f"{_GIVEN} JOIN raters ON raters.id = rater ORDER BY number", None)

    def progress(self) -> dict[str, int]:
        """Return how many items each person has completed; 0 for those who have not begun."""
        rated = self.study.manifest.scale is not None
        aspects = len(self.study.manifest.aspects)
        whole = {item.id: aspects * (len(item.replies) if rated else 1) for item in self.study.items}
        names = "SELECT name FROM raters WHERE kind = 'person' ORDER BY id"
        counts = (
            "SELECT name, item, count(*) FROM (SELECT DISTINCT rater, item, aspect, reply FROM given) "
            "JOIN raters ON raters.id = rater WHERE kind = 'person' GROUP BY rater, item"
        )
        done = {name: 0 for (name,) in self._use(lambda connection: connection.execute(names).fetchall())}
        for name, item, answered in self._use(lambda connection: connection.execute(counts).fetchall()):
            done[name] = done.get(name, 0) + (answered == whole[item])
        return done

    def close(self) -> None:
        """Close the file; the last to do so leaves one file, without SQLite's -wal and -shm."""
        while self._open:
            self._open.pop().close()
        self._threads = threading.local()

    def _read(self, query: str, rater: Rater | None) -> list[TimedVote]:
        named = {"kind": rater.kind, "name": rater.name} if rater else {}
        rows = self._use(lambda connection: connection.execute(query, named).fetchall())
        return [TimedVote(Vote(*row[:7]), *row[7:9]) for row in rows]

    def _check_study(self, connection: sqlite3.Connection) -> None:
        before = stored_fingerprint(connection, self.path)
        if before is None:
            return
        if changed := [name for name, value in self._made_of.items() if before.get(name) != value]:
            raise RunError(
                f"{self.study.folder}: the study was changed after rating began ({', '.join(changed)}): "
                "answers would belong to another one",
                "restore its files, or make a new study",
            )

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on this thread's connection."""
        try:
            connection = getattr(self._threads, "connection", None)
            if connection is None:
                connection = self._threads.connection = connect(self.path, _SCHEMA, _VERSION)
                self._open.append(connection)
            return work(connection)
        except (sqlite3.Error, OSError, UnicodeError) as error:  # SQLite's messages may quote damaged text
            said = one_line(str(error))
            raise RunError(f"{self.path}: answers cannot be kept or read: {said}", next_step(error)) from error


def _known(connection: sqlite3.Connection, name: str, kind: RaterRole) -> tuple[str | None, bool]:
    """Return the stored spelling of a name, ignoring case, and whether it has a link."""
    rows = connection.execute("SELECT name, token_sha256 FROM raters WHERE kind = ?", (kind,)).fetchall()
    alike: list[tuple[str | None, bool]] = [
        (known, token is not None) for known, token in rows if known.casefold() == name.casefold()
    ]
    return max(alike, key=lambda row: row[0] == name, default=(None, False))


def _check_not_imported(connection: sqlite3.Connection, name: str, kind: RaterRole) -> None:
    rows = connection.execute("SELECT name FROM raters WHERE kind = 'import'").fetchall()
    if kind == "person" and name.casefold() in [known.casefold() for (known,) in rows]:
        raise OptionError(
            f"answers of {name!r} were imported, and would count as a second person's", "choose another name"
        )


def _give_token(connection: sqlite3.Connection, name: str, kind: RaterRole) -> str:
    token = new_token()
    number = _number_of(connection, kind, name)
    connection.execute("UPDATE raters SET token_sha256 = ? WHERE id = ?", (token_hash(token), number))
    return token


def _number_of(connection: sqlite3.Connection, kind: str, name: str) -> int:
    connection.execute("INSERT OR IGNORE INTO raters (kind, name) VALUES (?, ?)", (kind, name))
    number: int = connection.execute("SELECT id FROM raters WHERE kind = ? AND name = ?", (kind, name)).fetchone()[0]
    return number

"""What COMET said, kept for good, so that nothing is ever inferred twice. Owns SQLite.

One file in localemp's cache, written to by as many processes as like. An answer is found by everything that decides it:
the settings (checkpoint's hash, how it is asked and decoded), the event's text, and the relation.

A file that a crash damaged is moved aside. What can still be read in it goes into a new one.
"""

import contextlib
import fcntl
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from localemp.commonsense.relations import Answer, Beam
from localemp.errors import LocalempError
from localemp.paths import cache_dir

T = TypeVar("T")
Row = tuple[str, str, str, str, int]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS answers (
    settings INTEGER NOT NULL, event TEXT NOT NULL, relation TEXT NOT NULL, beams TEXT NOT NULL, cut INTEGER NOT NULL,
    PRIMARY KEY (settings, event, relation)
) WITHOUT ROWID;
"""
_ROWS = """
SELECT json, event, relation, beams, cut FROM answers CROSS JOIN settings ON settings.id = answers.settings
ORDER BY answers.settings {0}, event {0}, relation {0}
"""
# SQLite's names for what more patience or another disk does not mend.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PATIENCE = 60.0

_log = logging.getLogger(__name__)


class InferenceCache:
    """Answers of COMET on disk. One thread at a time may use an instance; any number of processes may use the file.

    Args:
        path: The file; made where it does not exist. By default in localemp's cache.

    Raises:
        LocalempError: The file cannot be opened or made (a full disk, no permission).
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_dir("commonsense", "inferences.sqlite")
        self._connection: sqlite3.Connection | None = None
        self._whole(lambda connection: None)

    def get(self, settings: Mapping[str, Any], events: Iterable[str], relations: Sequence[str]) -> dict[str, Answer]:
        """What is known of these events. An answer holds only those of the relations that are known."""
        asked = list(events)
        return self._whole(lambda connection: _read(connection, _text_of(settings), asked, frozenset(relations)))

    def put(self, settings: Mapping[str, Any], answers: Mapping[str, Answer]) -> None:
        """Keep the answers to these events, all of them or, where that fails, none.

        Raises:
            LocalempError: The file cannot be written.
        """
        key = _text_of(settings)
        rows = [
            (key, event, relation, _text_of([[beam.text, beam.score] for beam in beams]), answer.cut)
            for event, answer in answers.items()
            for relation, beams in answer.beams.items()
        ]
        self._whole(lambda connection: _write(connection, rows))

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _whole(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the file, if need be after it was repaired."""
        try:
            try:
                return work(self._open())
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self.close()
                self._repair()
                return work(self._open())
        except (sqlite3.Error, OSError) as error:
            raise LocalempError(
                f"inferences cannot be kept in {self.path}: {error}",
                "make room there, or set LOCALEMP_CACHE to a folder that can be written",
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._connection = _connect(self.path)
        return self._connection

    def _repair(self) -> None:
        """Move a damaged file aside and save what can be read, unless another process has done so by now."""
        with self._alone():
            if _is_sound(self.path):
                return
            aside = _free_name(self.path)
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + ending).rename(aside.with_name(aside.name + ending))
            saved = 0
            fresh = _connect(self.path)
            try:
                for rows in _salvage(aside):
                    saved += len(rows)
                    _write(fresh, rows)
            finally:
                fresh.close()
        kept = f"{saved} answer{'' if saved == 1 else 's'} could be saved from it"
        _log.warning("%s was damaged and is now %s; %s", self.path, aside.name, kept)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _connect(path: Path) -> sqlite3.Connection:
    # Used by the micro-batcher's thread, opened and closed by another; never by two at once.
    connection = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
    connection.text_factory = _decoded
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _read(connection: sqlite3.Connection, key: str, events: list[str], relations: frozenset[str]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    row = connection.execute("SELECT id FROM settings WHERE json = ?", (key,)).fetchone()
    for event in events if row else ():
        rows = connection.execute(
            "SELECT relation, beams, cut FROM answers WHERE settings = ? AND event = ?", (row[0], event)
        ).fetchall()
        parsed = {relation: _beams(text) for relation, text, _ in rows if relation in relations}
        if beams := {relation: one for relation, one in parsed.items() if one is not None}:
            found[event] = Answer(beams, rows[0][2])
    return found


def _write(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    with connection:
        connection.executemany("INSERT OR IGNORE INTO settings (json) VALUES (?)", {(row[0],) for row in rows})
        connection.executemany(
            "INSERT OR REPLACE INTO answers SELECT id, ?2, ?3, ?4, ?5 FROM settings WHERE json = ?1", rows
        )


def _salvage(damaged: Path) -> Iterator[list[Row]]:
    """Every answer that can be read, from both ends up to where the damage is; in portions, some of them twice."""
    for direction in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(damaged)) as connection:
            connection.text_factory = _decoded
            cursor = connection.execute(_ROWS.format(direction))
            while rows := _readable(cursor):
                yield rows


def _readable(cursor: sqlite3.Cursor) -> list[Row]:
    """The next rows; those before the damage, where it is among them."""
    rows: list[Row] = []
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in cursor:
            rows.append(row)
            if len(rows) == 1000:
                break
    return [row for row in rows if _is_answer(row)]


def _is_answer(row: Row) -> bool:
    return all(isinstance(text, str) for text in row[:4]) and isinstance(row[4], int) and _beams(row[3]) is not None


def _is_sound(path: Path) -> bool:
    try:
        with contextlib.closing(_connect(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone()[0] == "ok")
    except sqlite3.DatabaseError as error:
        if _is_damage(error):
            return False
        raise


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    return aside


def _beams(text: str) -> tuple[Beam, ...] | None:
    """The beams of a row; None where a crash left something else there."""
    try:
        return tuple(Beam(str(one), score) for one, score in json.loads(text))
    except (ValueError, TypeError):
        return None


def _decoded(text: bytes) -> str:
    """Damaged text must be no error of its own."""
    return text.decode("utf-8", errors="replace")


def _text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

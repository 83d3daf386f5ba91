"""Entries (a key, a value, a checksum over both) in an SQLite file: the statements, and what is sound. Owns SQLite."""

import contextlib
import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

Entries = Iterable[tuple[bytes, bytes]]

FAULTS = (sqlite3.Error, MemoryError, UnicodeDecodeError)
"""What a broken file makes Python raise; the last of an error message that quotes it."""

_VERSION = 1
_COLUMNS = "id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, checksum BLOB NOT NULL"
_TABLE = f"CREATE TABLE answers ({_COLUMNS})"
_PATIENCE = 60.0
# No row is smaller: a broken file that leads in circles is left when it has given more than it can hold.
_SMALLEST_ROW = 48
# How full a file is after values had to go, so that this does not happen again at once.
_FILLED = 0.9


def connect(place: Path | str) -> sqlite3.Connection:
    """A connection to a file, or to one named by a URI; nothing is looked at."""
    # Used by the micro-batcher's thread, opened and closed by another; never by two at once.
    connection = sqlite3.connect(place, timeout=_PATIENCE, check_same_thread=False, uri=isinstance(place, str))
    # Damaged text must be no error of its own.
    connection.text_factory = bytes
    return connection


def connect_to_write(path: Path) -> sqlite3.Connection:
    """A connection to a file of this version; an empty one becomes that.

    Raises:
        sqlite3.DatabaseError: It is something else.
    """
    connection = connect(path)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heeded before the first table only
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cell_size_check = ON")
        if not _tables(connection) and _number(connection, "user_version") == 0:
            connection.executescript(f"BEGIN; {_TABLE}; PRAGMA user_version = {_VERSION}; COMMIT;")
        check_version(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check_version(connection: sqlite3.Connection) -> None:
    """See that the file has the table that this version writes.

    Raises:
        sqlite3.DatabaseError: It has not.
    """
    if _number(connection, "user_version") != _VERSION or _tables(connection).get(b"answers") != _TABLE.encode():
        raise sqlite3.DatabaseError("it is no file of this version")


def is_former(connection: sqlite3.Connection) -> bool:
    """Whether version 0.1 wrote the file, which kept no checksums."""
    return _number(connection, "user_version") == 0 and {b"settings", b"answers"} <= _tables(connection).keys()


def passes_check(connection: sqlite3.Connection) -> bool:
    """Whether SQLite finds nothing wrong with the file; it does not look at values."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == b"ok")
    except FAULTS:
        return False


def read(connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """The values of these keys whose checksums fit."""
    found = {}
    for key in keys:
        row = connection.execute("SELECT value, checksum FROM answers WHERE key = ?", (key,)).fetchone()
        if row and isinstance(row[0], bytes) and row[1] == _checksum(key, row[0]):
            found[key] = row[0]
    return found


def insert(connection: sqlite3.Connection, entries: Entries) -> None:
    """Write all of these, or none; what had one of their keys is replaced."""
    with connection:
        connection.executemany(
            "INSERT OR REPLACE INTO answers (key, value, checksum) VALUES (?, ?, ?)",
            ((key, value, _checksum(key, value)) for key, value in entries),
        )


def insert_and_find(connection: sqlite3.Connection, entries: Mapping[bytes, bytes]) -> None:
    """Write all of these, or none, and see that they are found again.

    Raises:
        sqlite3.DatabaseError: They are not: the file's own index leads astray.
    """
    with connection:
        insert(connection, entries.items())
        if read(connection, entries) != entries:
            raise sqlite3.DatabaseError("what was written is not found again")


def count(connection: sqlite3.Connection) -> int:
    """How many there are."""
    return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])


def shrink(connection: sqlite3.Connection, most: int) -> None:
    """Let those that were written longest ago go until the file has no more than so many bytes."""
    page = _number(connection, "page_size")
    while (used := page * (_number(connection, "page_count") - _number(connection, "freelist_count"))) > most:
        oldest, newest = connection.execute("SELECT min(id), max(id) FROM answers").fetchone()
        if oldest is None or oldest == newest:
            break
        going = math.ceil((newest - oldest) * (1 - _FILLED * most / used))
        with connection:
            connection.execute("DELETE FROM answers WHERE id < ?", (oldest + going,))
    if page * _number(connection, "page_count") > most:
        connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page


def salvaged(damaged: Path) -> Iterator[tuple[bytes, bytes]]:
    """Every entry whose checksum fits, from both ends up to where the damage is; some of them twice."""
    limit = 1000 + damaged.stat().st_size // _SMALLEST_ROW
    for direction in ("ASC", "DESC"):
        with contextlib.suppress(*FAULTS), contextlib.closing(connect(damaged)) as connection:
            rows = connection.execute(f"SELECT key, value, checksum FROM answers ORDER BY id {direction}")
            for key, value, checksum in islice(rows, limit):
                if isinstance(key, bytes) and isinstance(value, bytes) and checksum == _checksum(key, value):
                    yield key, value


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()[:16]


def _tables(connection: sqlite3.Connection) -> dict[Any, Any]:
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])

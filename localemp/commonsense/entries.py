"""Entries (key, value, checksum of both) in an SQLite file: all statements and integrity checks."""

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
"""Exceptions that a damaged file can raise; the last one comes from error messages that quote the file."""

_VERSION = 1
_COLUMNS = "id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, checksum BLOB NOT NULL"
_TABLE = f"CREATE TABLE answers ({_COLUMNS})"
_PATIENCE = 60.0
# Smallest row, in bytes. A damaged file may loop: reading stops after more rows than it can hold.
_SMALLEST_ROW = 48
# Fill level after deleting values, so that the limit is not reached again at once.
_FILLED = 0.9


def connect(place: Path | str) -> sqlite3.Connection:
    """Connect to a file, given by path or URI, without checking it."""
    # Used by the micro-batcher's thread, opened and closed by another one; never by two at once.
    connection = sqlite3.connect(place, timeout=_PATIENCE, check_same_thread=False, uri=isinstance(place, str))
    # Damaged text must not raise an error.
    connection.text_factory = bytes
    return connection


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Connect to a file of this version; an empty file is initialized.

    Raises:
        sqlite3.DatabaseError: The file is not of this version.
    """
    connection = connect(path)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect only before the first table
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
    """Check that the file has the table of this version.

    Raises:
        sqlite3.DatabaseError: It does not.
    """
    if _number(connection, "user_version") != _VERSION or _tables(connection).get(b"answers") != _TABLE.encode():
        raise sqlite3.DatabaseError("it is not a file of this version")


def is_old_version(connection: sqlite3.Connection) -> bool:
    """Return whether the file is of version 0.1, which had no checksums."""
    return _number(connection, "user_version") == 0 and {b"settings", b"answers"} <= _tables(connection).keys()


def passes_check(connection: sqlite3.Connection) -> bool:
    """Return whether SQLite finds no damage; it does not check values."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == b"ok")
    except FAULTS:
        return False


def read(connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the values of these keys with valid checksums."""
    found = {}
    for key in keys:
        row = connection.execute("SELECT value, checksum FROM answers WHERE key = ?", (key,)).fetchone()
        if row and isinstance(row[0], bytes) and row[1] == _checksum(key, row[0]):
            found[key] = row[0]
    return found


def insert(connection: sqlite3.Connection, entries: Entries) -> None:
    """Write entries in the caller's transaction; existing keys are replaced."""
    connection.executemany(
        "INSERT OR REPLACE INTO answers (key, value, checksum) VALUES (?, ?, ?)",
        ((key, value, _checksum(key, value)) for key, value in entries),
    )


def insert_and_find(connection: sqlite3.Connection, entries: Mapping[bytes, bytes]) -> None:
    """Write all entries or none, and check that they are found again.

    Raises:
        sqlite3.DatabaseError: They are not found: the file's index is damaged.
    """
    with connection:
        insert(connection, entries.items())
        if read(connection, entries) != entries:
            raise sqlite3.DatabaseError("written entries are not found again")


def count(connection: sqlite3.Connection) -> int:
    """Return the number of entries."""
    return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])


def shrink(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Delete the oldest entries until the file has at most `max_bytes` bytes."""
    page = _number(connection, "page_size")
    while (used := page * (_number(connection, "page_count") - _number(connection, "freelist_count"))) > max_bytes:
        oldest, newest = connection.execute("SELECT min(id), max(id) FROM answers").fetchone()
        if oldest is None or oldest == newest:
            break
        going = math.ceil((newest - oldest) * (1 - _FILLED * max_bytes / used))
        with connection:
            connection.execute("DELETE FROM answers WHERE id < ?", (oldest + going,))
    if page * _number(connection, "page_count") > max_bytes:
        connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free only one page


def salvage(damaged: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the valid entries of a damaged file, read from both ends up to the damage; some of them twice."""
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

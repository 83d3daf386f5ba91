"""An SQLite file shared by many threads and processes."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localemp.errors import RunError
from localemp.utils.files import is_disk_full
from localemp.utils.locks import folder_lock

_PATIENCE = 30.0  # seconds that a writer waits for the others
_ROOM = "make room there"
_MINE = "let the file and its folder be written by you"
RESTORE = "restore it from a backup; `sqlite3 FILE .recover` may save what can be read"


def connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the file, or create it readable by its owner only; commits are synced to disk.

    Args:
        path: The file.
        schema: Makes what is not there yet.
        version: Of the schema. A file from before versions were written has none, and is of the first.

    Raises:
        RunError: A newer localemp made the file.
        sqlite3.Error, OSError: It cannot be used.
    """
    with folder_lock(path.parent, f"opens {path}"):  # two that make the file at once would not wait for each other
        path.touch(mode=0o600)  # SQLite gives its other files the same mode
        # Each thread uses its own; only `close` closes those of others.
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > version:
                raise RunError(f"{path}: made by a newer localemp (format {found})", "update localemp")
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                connection.execute(f"PRAGMA user_version = {version}")
            connection.executescript(schema)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run an immediate transaction: a read that is upgraded to a write later could not wait for others."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def next_step(error: Exception) -> str:
    """Return the hint for an error."""
    if isinstance(error, OSError):
        return _ROOM if is_disk_full(error) else _MINE
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another program holds the file: end it, and repeat the command"
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOMEM:
            return _ROOM
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _MINE
    return RESTORE

"""An SQLite file that many threads and processes use at once."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 30.0  # seconds that a writer waits for the others


def connect(path: Path, schema: str) -> sqlite3.Connection:
    """Open the file, or make it, for its owner alone to read; what is committed is on the disk."""
    with _alone(path.parent):  # two that make the file at once would not wait for each other
        path.touch(mode=0o600)  # SQLite gives its other files the same mode
        # Each thread uses its own; only `close` closes those of others.
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(schema)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One that takes the file from its beginning: a read that wants to write later could not wait for others."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def next_step(error: Exception) -> str:
    """What to do about an error."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "restore it from a backup; `sqlite3 FILE .recover` may save what can be read"
    return "make room there, and let the folder be written"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

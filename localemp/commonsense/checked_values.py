"""A key-value file with checksums that is bounded in size and survives crashes.

Any number of processes may write to it. Damaged values are never returned: a value with a wrong checksum counts as
missing. An unusable file is moved aside, and its valid values are copied to a new one. A read-only file is read, and
new values are not stored.
"""

import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from localemp.commonsense.entries import (
    FAULTS,
    Entries,
    check_version,
    connect,
    connect_to_write,
    count,
    insert,
    insert_and_find,
    is_old_version,
    passes_check,
    read,
    salvage,
    shrink,
)
from localemp.errors import LocalempError
from localemp.utils.files import is_disk_full, is_read_only
from localemp.utils.formatting import count as number_of
from localemp.utils.locks import file_lock
from localemp.utils.plain_errors import in_words

T = TypeVar("T")

# Errors of the environment, which no repair fixes; all other SQLite errors are treated as damage.
_SURROUNDINGS = frozenset((
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS,
))  # fmt: skip
# Errors of damaged files and of read-only ones.
_AMBIGUOUS = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR))
_ENDINGS = ("", "-wal", "-shm")

_log = logging.getLogger(__name__)


class CheckedValues:
    """Values by key. An instance is for one thread at a time; any number of processes may use the file.

    Args:
        path: The file; created if it does not exist, readable only by its owner.
        max_bytes: Largest size; above it, the oldest values are deleted.
        former: Reads a file of an earlier version, without checksums.

    Raises:
        LocalempError: The file cannot be opened or created (an invalid path).
    """

    def __init__(self, path: Path, max_bytes: int, former: Callable[[sqlite3.Connection], Entries]) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._former = former
        self._connection: sqlite3.Connection | None = None
        self._reading_only = False
        self._do(lambda connection: None, None)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the valid values of these keys."""
        asked = list(keys)
        return self._do(lambda connection: read(connection, asked), {})

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Store values, all or none.

        Raises:
            LocalempError: The file cannot be written.
        """
        self._do(lambda connection: self._write(connection, entries), None)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, connection: sqlite3.Connection, entries: Mapping[bytes, bytes]) -> None:
        if not self._reading_only:
            insert_and_find(connection, entries)
            shrink(connection, self.max_bytes)

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Run an operation on the file, repairing it if necessary; return `otherwise` if it cannot even be read."""
        try:
            for insist in (False, True):
                try:
                    return work(self._open())
                except FAULTS as error:
                    if self._reading_only:
                        return otherwise
                    if not self._is_damage(error):
                        raise
                    self.close()
                    self._repair(insist)
            return work(self._open())
        except (*FAULTS, OSError) as error:
            if self._may_write(error):
                raise LocalempError(
                    f"cannot store inferences in {self.path}: {in_words(error)}",
                    "free some space, or set LOCALEMP_CACHE to a writable folder",
                ) from error
            return self._read_only(work, otherwise, error)

    def _read_only(self, work: Callable[[sqlite3.Connection], T], otherwise: T, reason: Exception) -> T:
        """Continue without storing values, with one warning; existing values are still found."""
        self.close()
        said = in_words(reason)
        _log.warning("new inferences are not stored: %s cannot be written (%s)", self.path, said)
        self._reading_only = True
        try:
            return work(self._open())
        except FAULTS:
            return otherwise

    def _may_write(self, error: Exception) -> bool:
        # What a full disk has already is used, as what a read-only one has.
        if isinstance(error, OSError):
            return not (is_read_only(error) or is_disk_full(error))
        if _code(error) == sqlite3.SQLITE_FULL:
            return False
        return _code(error) not in _AMBIGUOUS or os.access(self.path.parent, os.W_OK, effective_ids=True)

    def _is_damage(self, error: Exception) -> bool:
        code = _code(error)
        if code == sqlite3.SQLITE_READONLY:
            return os.access(self.path, os.W_OK, effective_ids=True) and self._may_write(error)
        if code in _AMBIGUOUS or isinstance(error, MemoryError):
            return self._may_write(error) and self.path.is_file() and not self._is_sound()
        return code not in _SURROUNDINGS

    def _open(self) -> sqlite3.Connection:
        if self._connection is None and self._reading_only:
            # Immutable: otherwise SQLite creates files next to it.
            connection = connect(f"file:{quote(str(self.path.absolute()))}?mode=ro&immutable=1")
            try:
                check_version(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        elif self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                _make_private(self.path)
                self._take_over_former()
                self._connection = connect_to_write(self.path)
        return self._connection

    def _take_over_former(self) -> None:
        """Convert a file of an earlier version, which has no checksums, if SQLite finds no damage."""
        with contextlib.closing(connect(self.path)) as connection:
            if not is_old_version(connection):
                return
            if not passes_check(connection):
                raise sqlite3.DatabaseError("the file of an earlier version is damaged")
            self._make_part(self._former(connection))
        self._put_in_place(None)

    def _repair(self, insist: bool) -> None:
        """Move a damaged file aside and recover its valid values, unless another process has already done so.

        Args:
            insist: Whether to do it even if no damage is found.
        """
        with self._locked():
            if not insist and self._is_sound():
                return
            aside = _free_name(self.path)
            saved = self._make_part(salvage(self.path))
            self._put_in_place(aside)
        kept = f"{number_of(saved, 'answer')} recovered"
        _log.warning("%s was damaged and is now %s; %s", self.path, aside.name, kept)

    def _make_part(self, entries: Entries) -> int:
        """Write a new file next to the current one; return its number of entries."""
        _remove(self._part)
        _make_private(self._part)
        with contextlib.closing(connect_to_write(self._part)) as fresh:
            with fresh:
                insert(fresh, entries)
            return count(fresh)

    def _put_in_place(self, aside: Path | None) -> None:
        """Rename the new file into place; the current one is moved to `aside`, or deleted."""
        for ending in _ENDINGS:
            with contextlib.suppress(FileNotFoundError):
                if aside is None:
                    _beside(self.path, ending).unlink()
                else:
                    _beside(self.path, ending).rename(_beside(aside, ending))
        self._part.replace(self.path)

    def _is_sound(self) -> bool:
        try:
            with contextlib.closing(connect(self.path)) as connection:
                check_version(connection)
                return passes_check(connection)
        except FAULTS as error:
            if _code(error) in _SURROUNDINGS:
                raise
            return False

    @property
    def _part(self) -> Path:
        return _beside(self.path, ".part")

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return file_lock(_beside(self.path, ".lock"), f"opens or repairs {self.path}")


def _make_private(path: Path) -> None:
    """Create the file, readable only by its owner; SQLite gives its other files the same permissions.

    Raises:
        OSError: The file can be neither created nor written.
    """
    # An existing file is not opened: closing it would release the locks of this process's other connections.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    found = path.stat()
    if not os.access(path, os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    if found.st_mode & 0o077 and found.st_uid == os.geteuid():
        for ending in _ENDINGS:
            with contextlib.suppress(FileNotFoundError):
                _beside(path, ending).chmod(0o600)


def _remove(path: Path) -> None:
    for ending in _ENDINGS:
        _beside(path, ending).unlink(missing_ok=True)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    return aside


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF

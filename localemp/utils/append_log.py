"""A file that only grows: one process at a time writes to it, and what was written is never lost to a failure."""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

_FSYNC_SECONDS = 1.0


class LockedFileError(OSError):
    """Another process writes to the file."""


class AppendOnlyFile:
    """A file that is open for appending, and locked against a second writer. It is made where it does not exist.

    Args:
        path: In a folder that exists.

    Raises:
        LockedFileError: Another process writes to it.
        OSError: It cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._synced = time.monotonic()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise LockedFileError(error.errno, "another process writes to it") from error

    def append(self, content: bytes) -> None:
        """Append in one write, which is on its way to the disk when this returns.

        Raises:
            OSError: Not all of it could be written; then none of it is there.
        """
        end = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if time.monotonic() - self._synced > _FSYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()
        except OSError:
            self.truncate(end)
            raise

    def truncate(self, size: int) -> None:
        """Take away what a crash cut in half.

        Args:
            size: Bytes that stay.
        """
        if os.fstat(self._descriptor).st_size > size:  # devices have no end, and cannot be cut
            os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        """Make sure that everything is on the disk, and let others write. May be called twice."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # a device has nothing to sync
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

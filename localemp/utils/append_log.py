"""An append-only file of lines, written by one process at a time; a failure never loses finished lines.

Read its content from the file itself (`whole_lines`): an interrupt may fall between a write and its count.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from localemp.utils.files import open_regular
from localemp.utils.lines import read_lines
from localemp.utils.locks import lock

_FSYNC_SECONDS = 1.0


class AppendLog:
    """A file that is open for appending and locked against other writers; created if it does not exist.

    Close it, or use it in a `with` block.

    Args:
        path: The file, in an existing folder.

    Attributes:
        path: The file.

    Raises:
        LockedError: Another process writes to it.
        OSError: The file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._synced = time.monotonic()
        try:
            lock(self._descriptor, wait=False)
        except OSError:  # locked, or on a file system without locks
            os.close(self._descriptor)
            raise

    def write(self, content: bytes) -> None:
        """Append content in one write; it has been handed to the operating system when this returns.

        Raises:
            OSError: Not everything could be written; then nothing is.
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
        """Remove what a crash cut in half.

        Args:
            size: Remaining size, in bytes.
        """
        if os.fstat(self._descriptor).st_size > size:  # devices have no size
            os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        """Flush everything to the disk, and let others write. May be called twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):  # devices cannot be synced
                os.fsync(descriptor)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def whole_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield every complete line of a file: its number from 1, the offset of its end, and the line.

    A last line that a crash cut in half is skipped. Yields nothing if the path is not a file.

    Raises:
        OSError: The file cannot be read.
        LongLineError: A line is too long.
    """
    if not path.is_file():
        return
    end = 0
    with open_regular(path) as file:
        for number, line in enumerate(read_lines(file), 1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield number, end, line

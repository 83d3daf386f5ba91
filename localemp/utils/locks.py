"""Locks between processes: all of them are `flock`, which ends with the process, however that ends.

Not the package `filelock`: it locks by path, while a log is locked through the descriptor that writes to it.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class LockedError(OSError):
    """Another process holds the lock."""


def lock(descriptor: int, *, wait: bool = True) -> None:
    """Lock an open file or folder until it is closed.

    Args:
        descriptor: Of the file.
        wait: Whether to wait until no other process holds the lock.

    Raises:
        LockedError: Another process holds it, and nobody is to wait.
        OSError: The file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError(error.errno, "another process writes to it") from error


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of this file, and hold it.

    The lock file is made where it does not exist, never truncated, and never followed where it is a link.

    Raises:
        OSError: It cannot be opened.
    """
    with _locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)):
        yield


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """The same of a folder, in which nothing is made.

    Raises:
        OSError: It cannot be opened.
    """
    with _locked(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)):
        yield


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)

"""Locks between processes, by `flock`: the kernel releases them when a process ends, however it ends.

The package `filelock` is not used: it locks by path, while a log is locked through the descriptor that writes to it.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

# `is_locked` holds a lock for a moment, which is no reason to refuse who wants to write.
_TRIES, _PAUSE = 10, 0.02  # seconds


class LockedError(OSError):
    """Another process holds the lock."""


def lock(descriptor: int, *, wait: bool = True) -> None:
    """Lock an open file or folder until it is closed.

    Args:
        descriptor: Descriptor of the file or folder.
        wait: Whether to wait for a process that holds the lock.

    Raises:
        LockedError: Another process holds the lock for longer than a moment, and `wait` is false.
        OSError: The file system has no locks.
    """
    if wait:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if not tries_left:
                raise LockedError(error.errno, "another process writes to it") from error
        time.sleep(_PAUSE)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file inside the block; waits for other processes.

    The lock file is created if it does not exist, never truncated, and never followed if it is a link.

    Raises:
        OSError: The file cannot be opened.
    """
    with _locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)):
        yield


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder inside the block; no file is created.

    Raises:
        OSError: The file cannot be opened.
    """
    with _locked(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)):
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file or folder; False if it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return False
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)

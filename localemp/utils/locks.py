"""Locks between processes, by `flock`: the kernel releases them when a process ends, however it ends.

The package `filelock` is not used: it locks by path, while a log is locked through the descriptor that writes to it.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from localemp.utils.progress import OnProgress, Progress

_log = logging.getLogger(__name__)

# `is_locked` holds a lock for a moment, which is no reason to refuse who wants to write, or to say that one waits.
_TRIES, _PAUSE = 10, 0.02  # seconds


class LockedError(OSError):
    """Another process holds the lock."""


def logged(progress: Progress) -> None:
    """A progress callback for what has no other: log a task that begins."""
    if not progress.done:
        _log.info("%s", progress.task)


def lock(descriptor: int, *, wait: bool = True, on_wait: Callable[[], None] = lambda: None) -> None:
    """Lock an open file or folder until it is closed.

    Args:
        descriptor: Descriptor of the file or folder.
        wait: Whether to wait for a process that holds the lock.
        on_wait: Called before a wait that is longer than a moment.

    Raises:
        LockedError: Another process holds the lock for longer than a moment, and `wait` is false.
        OSError: The file system has no locks.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if not tries_left and not wait:
                raise LockedError(error.errno, "another process writes to it") from error
        time.sleep(_PAUSE)
    on_wait()
    fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def file_lock(path: Path, holder: str, on_progress: OnProgress = logged) -> Iterator[None]:
    """Hold the lock of a file inside the block; waits for other processes, and says so.

    The lock file is created if it does not exist, never truncated, and never followed if it is a link.

    Args:
        path: The lock file.
        holder: What a process that holds the lock does: "fetches smollm2".
        on_progress: Called if another process has to be waited for.

    Raises:
        OSError: The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with _locked(descriptor, holder, on_progress):
        yield


@contextlib.contextmanager
def folder_lock(folder: Path, holder: str, on_progress: OnProgress = logged) -> Iterator[None]:
    """Hold the lock of a folder inside the block, as `file_lock` does; no file is created.

    Raises:
        OSError: The file cannot be opened.
    """
    with _locked(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), holder, on_progress):
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
def _locked(descriptor: int, holder: str, on_progress: OnProgress) -> Iterator[None]:
    task, waited = f"waiting for another process, which {holder}", False

    def say() -> None:
        nonlocal waited
        waited = True
        on_progress(Progress(task))

    try:
        lock(descriptor, on_wait=say)
        if waited:
            on_progress(Progress(task, 1, 1))
        yield
    finally:
        os.close(descriptor)

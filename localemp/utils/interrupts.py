"""Ctrl-C: the progress that an interrupted command reports is read from its files, never counted in memory."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from localemp.errors import LocalempError


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C in this block, which should be short: reading the written files, and reporting."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def quiet_ending() -> None:
    """Let another Ctrl-C end the process without a message, once there is nothing left to do."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def noting(saved: Callable[[], str]) -> Iterator[None]:
    """Add a note on the progress of this block to the Ctrl-C or the error that stops it.

    Args:
        saved: Returns the progress, such as "5 of 20 replies saved to runs/mine"; must read it from the files.
    """
    try:
        yield
    except (KeyboardInterrupt, LocalempError) as stop:
        # A file that cannot be read must not replace the Ctrl-C or the error.
        with uninterrupted(), suppress(LocalempError, OSError):
            stop.add_note(saved())
        raise

"""Ctrl-C, and what is said after it: how far a command got is read from what it wrote, never counted in memory."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

INTERRUPTED = 130
"""What the command line exits with after Ctrl-C."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C in this block, which should be short: reading what was written, and saying it."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears of signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def quiet_ending() -> None:
    """Let another Ctrl-C end the process without a word; for the way out, on which nothing is left to be done."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def resumable(
    say: Callable[[str], object],
    progress: Callable[[], str],
    errors: tuple[type[Exception], ...] = (),
    hint: str = "run the same command again to resume",
) -> Iterator[None]:
    """Say how far a command got where Ctrl-C, or an error that ends it, stops this block.

    Args:
        say: Prints a line.
        progress: How far it got, such as "5 of 20 replies saved to runs/mine"; must read it from what was written.
        errors: The errors after which it is said, too; they are raised again.
        hint: What to do after Ctrl-C.

    Raises:
        click.exceptions.Exit: Ctrl-C stopped it; the exit code is `INTERRUPTED`.
    """
    try:
        yield
    except errors:
        say(f"stopped: {progress()}")
        raise
    except KeyboardInterrupt:
        with uninterrupted():
            say(f"stopped: {progress()}")
            say(f"hint: {hint}")
        raise click.exceptions.Exit(INTERRUPTED) from None

"""Messages of interrupted commands: how far a command got, which the library noted on the exception."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from localemp.errors import LocalempError
from localemp.utils.interrupts import uninterrupted

INTERRUPTED = 130
"""What the command line exits with after Ctrl-C."""


@contextmanager
def resumable(say: Callable[[str], object], hint: str = "run the same command again to resume") -> Iterator[None]:
    """Report how far a command got if Ctrl-C or an error stops this block.

    Args:
        say: Prints a line.
        hint: What to do after Ctrl-C.

    Raises:
        click.exceptions.Exit: Ctrl-C stopped it; the exit code is `INTERRUPTED`.
    """
    try:
        yield
    except (KeyboardInterrupt, LocalempError) as stop:
        with uninterrupted():
            notes = _notes(stop)
            for note in notes:
                say(f"stopped: {note}")
            if notes and isinstance(stop, KeyboardInterrupt):
                say(f"hint: {hint}")
        if notes and isinstance(stop, KeyboardInterrupt):
            raise click.exceptions.Exit(INTERRUPTED) from None
        raise


def _notes(stop: BaseException) -> list[str]:
    """The notes of what stopped a command, or of the first Ctrl-C if another one came while files were closed."""
    found: BaseException | None = stop
    while found is not None:
        if notes := getattr(found, "__notes__", []):
            return list(notes)
        found = found.__context__
    return []

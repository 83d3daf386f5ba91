"""Where this process's output goes: what libraries and the processes they start print belongs into a log."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from localemp.errors import LocalempError
from localemp.utils.files import write_errors


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Send this process's output to a file meanwhile; processes started meanwhile keep it for good.

    Raises:
        LocalempError: The file cannot be written.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        with open_log(log) as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), kept, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


def open_log(log: Path) -> BinaryIO:
    """A log, open for appending; its folder is made.

    Raises:
        LocalempError: It cannot be written.
    """
    elsewhere = "set LOCALEMP_CACHE to a folder that can be written"
    with write_errors(lambda message, hint: LocalempError(f"the log {log}: {message}", hint), elsewhere):
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")

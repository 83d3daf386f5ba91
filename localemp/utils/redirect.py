"""Redirects this process's output: libraries and their child processes print to a log file."""

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
    """Redirect this process's output to a file inside the block; processes started in it keep the redirection.

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
    """Open a log file for appending, and create its folder.

    Raises:
        LocalempError: The file cannot be written.
    """
    elsewhere = "set LOCALEMP_CACHE to a writable folder"
    with write_errors(lambda message, hint: LocalempError(f"the log {log}: {message}", hint), elsewhere):
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")

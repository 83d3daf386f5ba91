"""Runs among several that a command cannot use: left out and named, so that `runs/*` works."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from localemp.errors import DataError, RunError
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.text import one_line

_log = logging.getLogger(__name__)

T = TypeVar("T")
_LONGEST = 300


def read_usable(
    paths: Sequence[Path], read: Callable[[Path], T], on_progress: OnProgress = silent
) -> tuple[dict[Path, T], tuple[str, ...]]:
    """Read runs, and leave out those that are damaged, have no reply, or are no run; each is logged as a warning.

    Args:
        paths: The runs. One that does not exist is a mistake in the command, and no run to leave out.
        read: Reads one.
        on_progress: Called with the runs read so far.

    Returns:
        What was read, by path, and what was left out and why, in a line each.

    Raises:
        RunError, DataError: A path does not exist, or none of the runs can be used: the first one's error.
    """
    found: dict[Path, T] = {}
    errors: list[RunError | DataError] = []
    for number, path in enumerate(paths):
        on_progress(Progress("Reading", number, len(paths), "runs"))
        try:
            found[path] = read(path)
        except (RunError, DataError) as error:
            if not path.exists():
                raise
            errors.append(error)
    on_progress(Progress("Reading", len(paths), len(paths), "runs"))
    if errors and not found:
        raise errors[0]
    left_out = tuple(f"left out: {one_line(error.message, _LONGEST)}" for error in errors)
    for line in left_out:
        _log.warning("%s", line)
    return found, left_out

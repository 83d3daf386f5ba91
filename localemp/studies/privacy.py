"""The files of a study that are for its owner alone."""

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

from localemp.studies.study import ANSWERS, KEY, Study

_log = logging.getLogger(__name__)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def close_to_others(folder: Path) -> Iterator[str]:
    """Take the permissions of others away from the key and the answers of a study; a line for every file that had any.

    Copies and archives often give a file to all who can reach it.
    """
    for name in (KEY, ANSWERS, f"{ANSWERS}-wal", f"{ANSWERS}-shm"):
        path = folder / name
        try:
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) and mode & _OTHERS):
                continue
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
            is_open = path.stat().st_mode & _OTHERS
        except FileNotFoundError:
            continue
        except OSError:
            is_open = _OTHERS
        if is_open:
            yield f"{path} can be read by others, and this cannot be changed here: keep the study where it can"
        else:
            yield f"{path} could be read by others; now only its owner can"


def open_study(folder: Path) -> Study:
    """Read a study; restrict its key and answers to the owner, and log where they were not.

    Raises:
        RunError: There is none, or its files are damaged.
    """
    study = Study.read(folder)
    for note in close_to_others(folder):
        _log.warning("%s", note)
    return study

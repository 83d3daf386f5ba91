"""Takes over what a single `generate` has answered with the settings of a row, so that it is not asked again."""

import logging
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from localemp.errors import RunError
from localemp.runs.journal import MANIFEST, outcomes, read_manifest
from localemp.runs.run import RESPONSES
from localemp.utils.config_diff import compare_settings
from localemp.utils.files import MAKE_ROOM, open_regular, write_errors
from localemp.utils.formatting import count
from localemp.utils.locks import LockedError, lock
from localemp.utils.plain_errors import in_words

_log = logging.getLogger(__name__)


def copy_run(source: Path, target: Path, settings: Mapping[str, Any], row: str) -> int:
    """Copy a run of the same settings, with everything that it has answered; says so. The run itself is only read.

    Nothing is copied if the target has replies already, if the run has none or other settings, or while another
    process writes to it.

    Args:
        source: A run's folder, which need not exist.
        target: Folder for the copy.
        settings: The row's settings.
        row: The row's name.

    Returns:
        Number of replies that were copied.

    Raises:
        RunError: The copy cannot be written.
    """
    if not (source / RESPONSES).is_file() or not _is_unused(target):
        return 0
    with ExitStack() as stack:
        try:
            lines = stack.enter_context(open_regular(source / RESPONSES))
            lock(lines.fileno(), wait=False)
            if compare_settings(read_manifest(source)["settings"], settings):
                return 0
            replies = sum(outcomes(source / RESPONSES).values())
        except (RunError, OSError) as error:
            reason = "another localemp is writing to it" if isinstance(error, LockedError) else in_words(error)
            _log.warning("row %r: %s has the same settings, but is not used: %s", row, source, reason)
            return 0
        if replies:
            with write_errors(lambda message, hint: RunError(f"{target}: {message}", hint), "", MAKE_ROOM):
                _copy(source, target)
            _log.info("row %r: %s taken over from %s", row, count(replies, "reply", "replies"), source)
    return replies


def _is_unused(folder: Path) -> bool:
    """Return whether a folder does not exist, or has nothing but the beginning of a run without any reply."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(
        path.name == MANIFEST or (path.name == RESPONSES and not path.stat().st_size) for path in folder.iterdir()
    )


def _copy(source: Path, target: Path) -> None:
    """Copy manifest and replies; the target appears only when both are complete."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for name in (MANIFEST, RESPONSES):
            shutil.copyfile(source / name, part / name)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)

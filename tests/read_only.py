"""Folders that may be read and not written, also where the tests run as root, whom permissions do not stop."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that everybody may look into; pytest's own are for their owner."""
    folder = Path(tempfile.mkdtemp(prefix="localemp-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def only_read(folder: Path, files_only: bool = False) -> Iterator[None]:
    """Within this block, nothing below the folder can be written by this process; with `files_only`, no file there."""
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if files_only else 0o555) if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)

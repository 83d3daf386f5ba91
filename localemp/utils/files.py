"""Writing files so that nothing is lost and nobody else's file is touched, and opening what strangers give."""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file atomically: readers see either the old or the new content, even after a power cut.

    Args:
        path: The file, in an existing folder.
        content: The content; a string is encoded as UTF-8.
        mode: Permissions of the file, before the umask.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
    """
    raw = content.encode() if isinstance(content, str) else content
    # An unpredictable name, where nobody can have placed a link.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def is_folder(path: Path) -> bool:
    """Return whether a folder exists; False for invalid paths, such as names that are too long."""
    return os.path.isdir(path)  # noqa: PTH112  Path's own raises


def is_file(path: Path) -> bool:
    """Return whether a file exists; False for invalid paths."""
    return os.path.isfile(path)  # noqa: PTH113


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe without a writer would block forever.

    Raises:
        OSError: The path cannot be read, or is a folder, a pipe or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_read_only(error: OSError) -> bool:
    """Whether nothing may be written there, though it may be read."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def _sync_folder(folder: Path) -> None:
    """Put a renamed file's new name on the disk; some file systems cannot, and then there is nothing to be done."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Writing files safely (atomically, without touching others' files), and opening untrusted ones."""

import contextlib
import errno
import json
import os
import resource
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from localemp.errors import LocalempError
from localemp.utils.locks import LockedError
from localemp.utils.text import well_formed

MAKE_ROOM = "make room, then run the same command again to resume; nothing is lost"
"""The hint of a full disk for what can be resumed."""
_PARTIAL = ".part"


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
    partial = partial_of(path)
    try:  # from before the file is there: Ctrl-C right after its creation leaves nothing either
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def partial_of(path: Path) -> Path:
    """Return where a file is written before it is whole; create it with "x".

    The name is unpredictable, so that no one can have placed a link there, and two processes do not write to one file.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{_PARTIAL}")


def remove_partial(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left of files that they were writing; call it under a lock that keeps others out.

    Args:
        folder: The folder.
        name: Name of the file; by default of any.
    """
    for partial in folder.glob(f".{name}.*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            partial.unlink()


def write_json(path: Path, value: Any, *, indent: int = 2, sort_keys: bool = False) -> None:
    """Replace a file atomically by one JSON value; lone surrogates, which no file can store, are replaced.

    Args:
        path: The file, in an existing folder.
        value: Without NaN and infinite numbers, which are not valid JSON.
        indent: Spaces of each level.
        sort_keys: Whether keys are sorted.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
        ValueError: The value is not valid JSON.
    """
    written = json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    write_atomically(path, well_formed(written) + "\n")


@contextlib.contextmanager
def write_errors(raises: Callable[[str, str], LocalempError], elsewhere: str, if_full: str = "") -> Iterator[None]:
    """Turn an OSError of this block into an error with a reason and a hint.

    Args:
        raises: Builds the error from a message, such as "cannot be written: Permission denied", and a hint.
        elsewhere: The hint, such as "choose another --out".
        if_full: The hint if the disk is full; by default to make room, or `elsewhere`.
    """
    try:
        yield
    except LockedError:  # another process writes there; the disk is fine
        raise
    except OSError as error:
        if is_disk_full(error):
            raise raises("the disk is full", if_full or f"make room, or {elsewhere}") from error
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is in its place" if in_the_way else error.strerror or str(error)
        raise raises(f"cannot be written: {reason}", elsewhere) from error


def is_folder(path: Path) -> bool:
    """Return whether a folder exists; False for invalid paths, such as names that are too long."""
    return os.path.isdir(path)  # noqa: PTH112  Path's own raises


def is_file(path: Path) -> bool:
    """Return whether a file exists; False for invalid paths."""
    return os.path.isfile(path)  # noqa: PTH113


def version_of(path: Path) -> tuple[int, ...]:
    """Return numbers that differ once a file is another one or has changed: device, inode, time of change and size.

    Raises:
        OSError: There is no such file.
        ValueError: It is not a path.
    """
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


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
    """Return whether the disk, or the user's quota, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_read_only(error: OSError) -> bool:
    """Return whether the error means that a place may not be written to."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def has_room(folder: Path) -> bool:
    """Return whether files can be written to a folder: it exists, is not read-only, and its disk is not full."""
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return False
    return os.statvfs(folder).f_bavail > 0


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as it may, up to 65,536; the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entry of a renamed file to disk; file systems that cannot are ignored."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

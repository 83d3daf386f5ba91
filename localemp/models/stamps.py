"""The SHA-256 of large files, computed once and remembered in localemp's cache as long as the file is the same one.

A stamp belongs to one file on one disk: device, inode, size, time of the last write (mtime) and of the last change of
any kind (ctime), which programs cannot set. It does not fit a copy, another disk, or a file that was written to. What
it cannot see is a disk that returns other bytes than were written: LOCALEMP_VERIFY, or `--verify`, hashes everything.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from localemp.utils.files import write_json
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.paths import cache_dir

VERIFY_VARIABLE = "LOCALEMP_VERIFY"
"""If it is set to anything but 0, no stamp is believed: by this process, and those that it starts."""

SMALLEST = 1 << 20
"""Smaller files have no stamps, in bytes: hashing them is as fast as looking one up."""

_CHUNK = 1 << 22
# A file that was written in this time before it was hashed has no stamp: with a coarse clock, a later write could have
# the same times.
_SETTLED = 2_000_000_000  # nanoseconds

_hashing_all: ContextVar[bool] = ContextVar("hashing_all", default=False)


@contextlib.contextmanager
def hash_all() -> Iterator[None]:
    """Believe no stamp inside the block; what is hashed there gets a new one."""
    token = _hashing_all.set(True)
    try:
        yield
    finally:
        _hashing_all.reset(token)


def known_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file that has not changed since it was hashed; None if it must be hashed.

    Raises:
        OSError: There is no such file.
    """
    found = path.stat()
    if found.st_size < SMALLEST or _hashing_all.get() or os.environ.get(VERIFY_VARIABLE, "0") not in ("", "0"):
        return None
    try:
        stamp = load_json(_place(found))
    except (OSError, JSONError):
        return None
    if not isinstance(stamp, dict) or any(stamp.get(name) != value for name, value in _identity(found).items()):
        return None
    digest = stamp.get("sha256")
    return digest if isinstance(digest, str) and len(digest) == 64 else None


def hash_and_stamp(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Compute the SHA-256 of a file, and remember it; a cache that cannot be written is no error.

    Args:
        path: The file.
        on_bytes: Called with the size of each piece that has been hashed.

    Raises:
        OSError: The file cannot be read.
    """
    started, sha256 = time.time_ns(), hashlib.sha256()
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        while piece := file.read(_CHUNK):
            sha256.update(piece)
            on_bytes(len(piece))
        after = os.fstat(file.fileno())
    identity, digest = _identity(after), sha256.hexdigest()
    settled = max(after.st_mtime_ns, after.st_ctime_ns) + _SETTLED < started
    if after.st_size >= SMALLEST and settled and identity == _identity(before):
        with contextlib.suppress(OSError):
            place = _place(after)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {"file": str(path), **identity, "sha256": digest})
    return digest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file: the one that is known, or else computed now.

    Raises:
        OSError: The file cannot be read.
    """
    return known_sha256(path) or hash_and_stamp(path)


def _identity(found: os.stat_result) -> dict[str, Any]:
    """Return what changes if a file is another one, or has been written to."""
    return {
        "device": found.st_dev,
        "inode": found.st_ino,
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
    }


def _place(found: os.stat_result) -> Path:
    # Named by the file, not by its path: a folder of weights is renamed when it is complete, and links share blobs.
    return cache_dir("hashes", f"{found.st_dev:x}-{found.st_ino:x}.json")

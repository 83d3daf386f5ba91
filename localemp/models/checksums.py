"""Checksums of weights, and the manifest (`weights.json`) that localemp's cache stores with them."""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from localemp.errors import WeightsError
from localemp.models.data_only import is_inside, read_settings
from localemp.models.stamps import hash_and_stamp, known_sha256
from localemp.utils.files import is_disk_full, is_read_only, write_json
from localemp.utils.formatting import size
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.progress import OnProgress, Progress, silent

MANIFEST = "weights.json"

_SHA256 = re.compile("[0-9a-f]{64}")
_HUB_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_AT_ONCE = 100 * 10**6  # bytes that are hashed in an instant, without a word
_ELSEWHERE = "set LOCALEMP_CACHE (packages) or HF_HOME (the hub) to a folder on another disk"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """Return the sorted relative paths of all files in a folder, without the manifest and hidden files."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if str(path) != MANIFEST and not _is_hidden(path))


def sha256_files(folder: Path, names: list[str], on_progress: OnProgress = silent) -> dict[str, str]:
    """Return the SHA-256 of each file: large ones are hashed once, in parallel (hashing releases the GIL).

    Raises:
        WeightsError: A file cannot be read.
    """
    with _clear_read_errors():
        return _sha256_files(folder, names, on_progress)


def _sha256_files(folder: Path, names: list[str], on_progress: OnProgress) -> dict[str, str]:
    known = {name: known_sha256(folder / name) for name in names}
    unknown = [name for name, digest in known.items() if digest is None]
    total = sum((folder / name).stat().st_size for name in unknown)
    report = _reporter(f"checking {folder.name}", total, on_progress if total > _AT_ONCE else silent)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashed = dict(zip(unknown, pool.map(lambda name: hash_and_stamp(folder / name, report), unknown), strict=True))
    return {name: digest or hashed[name] for name, digest in known.items()}


def _reporter(task: str, total: int, on_progress: OnProgress) -> Callable[[int], None]:
    """Return a function that several threads tell of bytes that they have hashed."""
    done, lock = 0, Lock()

    def report(bytes_more: int) -> None:
        nonlocal done
        with lock:
            done += bytes_more
            on_progress(Progress(task, done, total, "bytes"))

    return report


def digest_of(hashes: Mapping[str, str]) -> str:
    """Return one hash of all files: SHA-256 of the lines `hash  name`, sorted by name."""
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_digest(folder: Path, hashes: Mapping[str, str], expected: str, hint: str = "") -> None:
    """Check that the files of a folder are exactly those that a profile expects.

    Raises:
        WeightsError: A file differs, is missing or is unexpected.
    """
    if (found := digest_of(hashes)) != expected:
        raise WeightsError(
            f"{folder}: the SHA-256 of all {len(hashes)} files is {found}, the profile expects {expected}", hint
        )


def write_manifest(folder: Path, origin: Mapping[str, Any]) -> dict[str, str]:
    """Hash all files of a folder, and write its manifest atomically.

    Args:
        folder: The complete weights.
        origin: The source of the weights; `read_manifest` returns it.

    Returns:
        SHA-256 of every file.
    """
    hashes = sha256_files(folder, files_of(folder))
    files = {name: {"size": (folder / name).stat().st_size, "sha256": digest} for name, digest in hashes.items()}
    write_json(folder / MANIFEST, {"origin": dict(origin), "files": files})
    return hashes


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder; None if it is missing or unreadable."""
    try:
        manifest = load_json(folder / MANIFEST)
    except (OSError, JSONError):
        return None
    files = manifest.get("files") if isinstance(manifest, dict) else None
    return manifest if isinstance(files, dict) and all(map(_is_record, files, files.values())) else None


def _is_record(name: str, known: Any) -> bool:
    """Return whether this is a valid entry of a manifest: a path inside the folder, a size and a hash."""
    if not is_inside(name) or not isinstance(known, dict):
        return False
    size, digest = known.get("size"), known.get("sha256")
    return type(size) is int and isinstance(digest, str) and _SHA256.fullmatch(digest) is not None


def verify_manifest(folder: Path, manifest: Mapping[str, Any], on_progress: OnProgress = silent) -> dict[str, str]:
    """Verify every file of a manifest.

    Returns:
        SHA-256 of every file.

    Raises:
        WeightsError: A file is missing, truncated, changed or not in the manifest.
    """
    files = manifest["files"]
    for name, known in files.items():
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"{path} is missing")
        if (size := path.stat().st_size) != known["size"]:
            raise WeightsError(f"{path} has {size} bytes, expected {known['size']}")
    if unexpected := sorted(set(files_of(folder)) - set(files)):
        raise WeightsError(f"{folder / unexpected[0]} is not part of these weights")
    hashes = sha256_files(folder, list(files), on_progress)
    for name, digest in hashes.items():
        if digest != files[name]["sha256"]:
            raise WeightsError(f"{folder / name} is damaged: its SHA-256 differs from the manifest")
    return hashes


def missing_files(folder: Path) -> list[str]:
    """Return the files that a folder of weights lacks: config, weights, or shards of its index.

    Raises:
        WeightsError: The index is invalid, or names a file outside the folder.
    """
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    indexes = [*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")][:1]
    if indexes:
        return missing + sorted(shard for shard in _shards(indexes[0]) if not (folder / shard).is_file())
    weights = [path for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind) if path.is_file()]
    return missing if weights else [*missing, "model.safetensors"]


def _shards(index: Path) -> set[str]:
    shards = read_settings(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise WeightsError(f'{index}: no valid "weight_map"', "fetch the weights again")
    for shard in shards.values():
        if not is_inside(shard):
            raise WeightsError(f"{index}: {str(shard)[:200]!r} is not a file of this folder", "fetch the weights again")
    return set(shards.values())


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Turn "no space left", "permission denied" and "file too large" into errors that name the folder.

    Raises:
        WeightsError: The disk is full, the folder is not writable, or its disk does not hold such large files.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(folder) from error
        if is_read_only(error) or error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EFBIG):
            raise WeightsError(f"{folder} cannot be written: {error.strerror}", _ELSEWHERE) from error
        raise


@contextmanager
def _clear_read_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{error.filename}: {error.strerror}", "check the path and its permissions") from error


def disk_full(folder: Path) -> WeightsError:
    """Return the error for a full disk."""
    while not folder.exists():
        folder = folder.parent
    free = size(shutil.disk_usage(folder).free)
    return WeightsError(
        f"the disk that holds {folder} is full ({free} free)",
        f"free some space, or {_ELSEWHERE}",
    )


def git_sha1(path: Path) -> str:
    """Return git's SHA-1 of a file as a blob, which the Hugging Face cache uses as the name of small files."""
    sha1 = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha1.update(chunk)
    return sha1.hexdigest()


def named_hash(path: Path) -> str | None:
    """Return the hash in the name of a Hugging Face cache file's blob; None if the file is not a link to one."""
    # Only the first link: a blob may itself be a link to a file that models share, under another kind of name.
    name = path.readlink().name if path.is_symlink() else ""
    return name if is_hash(name) else None


def is_hash(text: object) -> bool:
    """Return whether this is a hash as the hub gives it: SHA-256, or git's SHA-1."""
    return isinstance(text, str) and _HUB_HASH.fullmatch(text) is not None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)

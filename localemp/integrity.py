"""Checksums of weights, and the manifest (`weights.json`) that localemp's own cache keeps of them."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localemp.errors import WeightsError
from localemp.progress import Progress, silent

MANIFEST = "weights.json"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """Names of all files below a folder, relative and sorted; the manifest and hidden files left out."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.name != MANIFEST and not _is_hidden(path))


def sha256_files(folder: Path, names: list[str], progress: Progress = silent) -> dict[str, str]:
    """SHA-256 of many files, hashed side by side (hashing gives up the interpreter lock)."""
    sizes = {name: (folder / name).stat().st_size for name in names}
    total, done = sum(sizes.values()), 0
    hashes: dict[str, str] = {}
    progress("checking weights", 0, total)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for name, digest in zip(names, pool.map(lambda name: sha256_file(folder / name), names), strict=True):
            hashes[name] = digest
            done += sizes[name]
            progress("checking weights", done, total)
    return hashes


def digest_of(hashes: Mapping[str, str]) -> str:
    """One hash over all: SHA-256 of the lines `hash  name`, sorted by name."""
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def write_manifest(folder: Path, origin: Mapping[str, Any]) -> dict[str, str]:
    """Hash everything in `folder` and write its manifest, last and in one step.

    Args:
        folder: The finished weights.
        origin: What they were made from; `read_manifest` gives it back.

    Returns:
        SHA-256 of every file.
    """
    hashes = sha256_files(folder, files_of(folder))
    files = {name: {"size": (folder / name).stat().st_size, "sha256": digest} for name, digest in hashes.items()}
    partial = folder / f".{MANIFEST}.part"
    with partial.open("w", encoding="utf-8") as file:
        json.dump({"origin": dict(origin), "files": files}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / MANIFEST)
    return hashes


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `write_manifest` wrote; None where there is none or it cannot be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else None


def verify_manifest(folder: Path, manifest: Mapping[str, Any], progress: Progress = silent) -> dict[str, str]:
    """Check every file of the manifest.

    Returns:
        SHA-256 of every file.

    Raises:
        WeightsError: A file is missing, cut or changed, or one is there that the manifest does not know.
    """
    files = manifest["files"]
    for name, known in files.items():
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"{path} is missing")
        if (size := path.stat().st_size) != known["size"]:
            raise WeightsError(f"{path} has {size} bytes where {known['size']} belong")
    if strangers := sorted(set(files_of(folder)) - set(files)):
        raise WeightsError(f"{folder / strangers[0]} does not belong to these weights")
    hashes = sha256_files(folder, list(files), progress)
    for name, digest in hashes.items():
        if digest != files[name]["sha256"]:
            raise WeightsError(f"{folder / name} is broken: its SHA-256 is not the one it was stored with")
    return hashes


def missing_files(folder: Path) -> list[str]:
    """Names that a folder of weights lacks: its config, its weights, or shards that its index names."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    indexes = [*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")][:1]
    if indexes:
        shards = set(json.loads(indexes[0].read_text("utf-8"))["weight_map"].values())
        return missing + sorted(shard for shard in shards if not (folder / shard).is_file())
    weights = [path for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind) if path.is_file()]
    return missing if weights else [*missing, "model.safetensors"]


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Turn "no space left" into an error that says where, and how much there is.

    Raises:
        WeightsError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise disk_full(folder) from error


def disk_full(folder: Path) -> WeightsError:
    """The error for a full disk."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e6
    return WeightsError(
        f"the disk that holds {folder} is full ({free:.0f} MB free)",
        "make room, or set LOCALEMP_CACHE (packages) or HF_HOME (the hub) to a folder on another disk",
    )


def git_sha1(path: Path) -> str:
    """SHA-1 that git gives a file as a blob; the Hugging Face cache names small files by it."""
    sha1 = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha1.update(chunk)
    return sha1.hexdigest()


def named_hash(path: Path) -> str | None:
    """The hash that a file of the Hugging Face cache is named by (a link to a blob), else None."""
    name = path.resolve().name if path.is_symlink() else ""
    return name if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) else None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)

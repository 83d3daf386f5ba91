"""Fetches the official archive of EmpatheticDialogues (Rashkin et al. 2019, CC BY-NC 4.0)."""

import gzip
import hashlib
import lzma
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

import httpx

from localemp.data.splits import SPLITS, split_file
from localemp.errors import DataError
from localemp.utils.progress import OnProgress, Progress, silent

ARCHIVE_URL = "https://dl.fbaipublicfiles.com/parlai/empatheticdialogues/empatheticdialogues.tar.gz"
LARGEST, _MOST_MEMBERS = 2**30, 1_000
"""Largest archive in bytes, packed or unpacked, and most files in it; the data set has 21 MB of text."""
ARCHIVE_SHA256 = "56f234d77b7dd1f005fd365bb17769cfe346c3c84295b69bc069c8ccb83be03d"


def pull(
    folder: Path,
    on_progress: OnProgress = silent,
    url: str = ARCHIVE_URL,
    sha256: str = ARCHIVE_SHA256,
) -> list[Path]:
    """Fetch the official archive and put its three CSV files into `folder`, unless they are there.

    If the archive is already in `folder`, under its own name, it is used instead of a download. Files get their final
    names only after the whole archive was verified.

    Args:
        folder: Created if it does not exist.
        on_progress: Called with the bytes fetched so far.
        url: URL of the archive.
        sha256: SHA-256 of the archive.

    Raises:
        DataError: The archive cannot be fetched, its checksum differs, it lacks a file, or the folder is not writable.
    """
    present = [file for split in SPLITS if (file := split_file(folder, split)) is not None]
    if len(present) == len(SPLITS):
        return present
    targets = [folder / f"{split}.csv" for split in SPLITS]
    by_hand = folder / url.rsplit("/", 1)[-1]
    hint = f"download {url} manually into {folder}, and run `localemp data pull` again"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as temporary:
            archive = by_hand if by_hand.is_file() else Path(temporary) / "archive.tar.gz"
            if archive != by_hand:
                _download(url, archive, on_progress, hint)
            with archive.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            if found != sha256:
                remedy = f"delete it, then {hint}" if archive == by_hand else f"try again, or {hint}"
                place = by_hand if archive == by_hand else url
                raise DataError(place, f"its SHA-256 is {found}, expected {sha256}", remedy)
            _unpack(archive, Path(temporary), targets)
    except OSError as error:
        remedy = "free some space, or choose another folder with --out"
        raise DataError(folder, f"cannot write: {error.strerror or error}", remedy) from error
    return targets


def _download(url: str, target: Path, on_progress: OnProgress, hint: str) -> None:
    as_it_is = {"Accept-Encoding": "identity"}
    try:
        with httpx.stream("GET", url, headers=as_it_is, follow_redirects=True, timeout=30) as response:
            response.raise_for_status()
            told = response.headers.get("content-length", "")
            size = int(told) if told.isdecimal() and len(told) < 20 else None
            with target.open("wb") as file:
                for chunk in response.iter_raw(1 << 16):
                    file.write(chunk)
                    if file.tell() > LARGEST:
                        raise DataError(url, f"the server sent more than {LARGEST // 2**20} MiB", hint)
                    on_progress(Progress("downloading EmpatheticDialogues", file.tell(), size, "bytes"))
    except httpx.HTTPStatusError as error:
        raise DataError(url, f"the server returned status {error.response.status_code}", hint) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DataError(url, f"cannot be fetched: {error or type(error).__name__}", hint) from error


def _unpack(archive: Path, temporary: Path, targets: list[Path]) -> None:
    """Extract the splits; paths inside the archive are not used for writing, and links are not followed."""
    missing = {target.name: target for target in targets}
    unpacked = 0
    try:
        with tarfile.open(archive) as tar:
            for number, member in enumerate(tar, 1):
                unpacked += member.size
                if unpacked > LARGEST or number > _MOST_MEMBERS:  # known from the header before a member's content
                    raise DataError(archive.name, "the archive is too large", "fetch it again")
                target = missing.get(Path(member.name).name) if member.isfile() else None
                if target is None or (content := tar.extractfile(member)) is None:
                    continue
                with (temporary / target.name).open("wb") as copy:
                    shutil.copyfileobj(content, copy)
                del missing[target.name]
    except (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise DataError(archive.name, f"not a readable tar archive ({error})") from error
    if missing:
        raise DataError(archive.name, f"the archive lacks {next(iter(missing))}")
    for target in targets:
        (temporary / target.name).replace(target)

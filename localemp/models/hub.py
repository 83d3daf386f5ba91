"""The Hugging Face cache and hub: finding, verifying and downloading models.

A file of that cache is a link to a blob whose name is the hub's hash of it. On disks without links it is a plain file;
then it is verified against the hash that the hub last reported, which localemp's cache stores.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub

from localemp.errors import GatedModelError, WeightsError
from localemp.models.checksums import (
    clear_disk_errors,
    files_of,
    git_sha1,
    is_hash,
    missing_files,
    named_hash,
    sha256_files,
)
from localemp.models.profiles import HubSource
from localemp.utils.files import write_json
from localemp.utils.formatting import count
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.paths import cache_dir
from localemp.utils.plain_errors import in_words
from localemp.utils.progress import OnProgress, bytes_in, silent, watched

_log = logging.getLogger(__name__)

# An unreachable hub must be noticed within seconds: there may be a package to fall back on. Used for two attempts.
_PROBE_SECONDS = 4.0

_SETTINGS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_OTHER_ENGINES = {"onnx", "openvino", "original", "coreml"}

# huggingface_hub has changed its HTTP client; the clients' network errors have no common base class.
_HTTP_CLIENTS = {"httpx", "httpx2", "requests"}


class HubUnavailableError(WeightsError):
    """The hub cannot be reached, or does not have the model."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model in the Hugging Face cache."""

    folder: Path

    @property
    def revision(self) -> str:
        """The commit, which is the name of the folder."""
        return self.folder.name


def find_snapshot(source: HubSource) -> Snapshot | None:
    """Return a model in the Hugging Face cache if config and weights are complete; contents are not verified."""
    config = huggingface_hub.try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return None if missing_files(folder) else Snapshot(folder)


def verify_snapshot(snapshot: Snapshot, on_progress: OnProgress = silent) -> dict[str, str]:
    """Verify every file against the hub's hash (SHA-256 of large files, git's SHA-1 of small ones).

    Files without a known hash are logged as a warning.

    Returns:
        SHA-256 of every file.

    Raises:
        WeightsError: A file is truncated or changed.
    """
    hashes = sha256_files(snapshot.folder, files_of(snapshot.folder), on_progress)
    if broken := _broken(snapshot.folder, hashes):
        raise WeightsError(f"{snapshot.folder / broken[0]} is damaged: its hash differs from the hub's")
    if names := unchecked(snapshot):
        files = f"{count(len(names), 'file')} of {snapshot.folder}, such as {names[0]},"
        _log.warning(
            "%s could not be verified without the hub's hashes; run `localemp models pull` to fetch them", files
        )
    return hashes


def unchecked(snapshot: Snapshot) -> list[str]:
    """Return the files without a known hash: plain files of a model that localemp has not fetched from the hub."""
    folder, reported = snapshot.folder, _reported_hashes(snapshot.folder)
    return [name for name in files_of(folder) if _expected(folder, name, reported) is None]


def download(source: HubSource, on_progress: OnProgress = silent) -> Snapshot:
    """Download the missing or damaged files of a model into the Hugging Face cache.

    Only safetensors (or PyTorch files if there are none), tokenizer and config files are downloaded.

    Raises:
        GatedModelError: The licence must be accepted, or a token is needed.
        HubUnavailableError: There is no network or no such model, or HF_HUB_OFFLINE is set.
        WeightsError: The download was interrupted, or the disk is full.
    """
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    blobs = cache / f"models--{source.id.replace('/', '--')}" / "blobs"
    with clear_disk_errors(cache):
        info = _ask(source)
        files = wanted_files({file.rfilename: file.size or 0 for file in info.siblings or ()})
        _keep_hashes(source, info)
        _drop_broken(source)
        missing = max(0, sum(files.values()) - bytes_in(blobs))
        try:
            with watched(blobs, f"downloading {source.id}", missing, on_progress):
                folder = huggingface_hub.snapshot_download(
                    source.id, revision=source.revision, allow_patterns=list(files), tqdm_class=_quiet_bar()
                )
        except Exception as error:
            _raise_ours(source, error, "the download was interrupted")
            raise
    return Snapshot(Path(folder))


def fetch_config(source: HubSource) -> Path:
    """Return the path of a model's config.json, from the Hugging Face cache or else from the hub.

    Raises:
        GatedModelError: The licence must be accepted, or a token is needed.
        HubUnavailableError: There is no network or no such model, or HF_HUB_OFFLINE is set.
    """
    config = huggingface_hub.try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    if isinstance(config, str):
        return Path(config)
    _ask(source)  # fails within seconds without a network; the next call would try for half a minute
    try:
        return Path(huggingface_hub.hf_hub_download(source.id, "config.json", revision=source.revision))
    except Exception as error:
        _raise_ours(source, error, "the download was interrupted")
        raise


def fetch_adapter(source: HubSource, names: tuple[str, str], on_progress: OnProgress = silent) -> Snapshot:
    """Return an adapter from the Hugging Face cache, or else from the hub; its files are verified.

    Args:
        source: The repository.
        names: The two files of an adapter; nothing else is downloaded.
        on_progress: Called with the bytes fetched so far.

    Raises:
        GatedModelError: The licence must be accepted, or a token is needed.
        HubUnavailableError: There is no network or no such repository, or HF_HUB_OFFLINE is set.
        WeightsError: The repository is no adapter, has its weights only in a file that can run code, or the download
            was interrupted.
    """
    cached = [huggingface_hub.try_to_load_from_cache(source.id, name, revision=source.revision) for name in names]
    if all(isinstance(path, str) for path in cached):
        snapshot = Snapshot(Path(str(cached[0])).parent)
        if not _broken(snapshot.folder, sha256_files(snapshot.folder, list(names), on_progress)):
            return snapshot
        for name in names:
            _delete(snapshot.folder / name)
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    with clear_disk_errors(cache):
        info = _ask(source)
        _check_adapter_files(source, {file.rfilename for file in info.siblings or ()}, names)
        _keep_hashes(source, info)
        try:
            blobs = cache / f"models--{source.id.replace('/', '--')}" / "blobs"
            missing = sum(file.size or 0 for file in info.siblings or () if file.rfilename in names)
            with watched(blobs, f"downloading {source.id}", missing, on_progress):
                folder = huggingface_hub.snapshot_download(
                    source.id, revision=source.revision, allow_patterns=list(names), tqdm_class=_quiet_bar()
                )
        except Exception as error:
            _raise_ours(source, error, "the download was interrupted")
            raise
    snapshot = Snapshot(Path(folder))
    if broken := _broken(snapshot.folder, sha256_files(snapshot.folder, list(names))):
        raise WeightsError(f"{snapshot.folder / broken[0]} is damaged: its hash differs from the hub's", "try again")
    return snapshot


def _check_adapter_files(source: HubSource, found: set[str], names: tuple[str, str]) -> None:
    config, weights = names
    if config not in found:
        hint = "it is a whole model: name it with --model" if "config.json" in found else "check the id"
        raise WeightsError(f"{source.id} is not an adapter: it has no {config}", hint)
    if weights not in found:
        old = next((name for name in sorted(found) if name.startswith("adapter_model.")), None)
        why = f"its weights are only in {old}, which can run code" if old else f"it has no {weights}"
        raise WeightsError(
            f"{source.id}: {why}",
            "ask its authors for safetensors, or load it with PEFT where you trust it and save it again: "
            "model.save_pretrained(FOLDER, safe_serialization=True)",
        )


def wanted_files(sizes: dict[str, int]) -> dict[str, int]:
    """Select the files of a hub repository that vLLM and transformers read; maps names to bytes."""
    usable = {name: size for name, size in sizes.items() if not _is_for_others(PurePosixPath(name))}
    settings = {name: size for name, size in usable.items() if name.endswith(_SETTINGS)}
    weights = {name: size for name, size in usable.items() if name.endswith(".safetensors")}
    # Mistral's own format repeats the weights in one file.
    named_alike = {name: size for name, size in weights.items() if not name.startswith("consolidated")}
    weights = named_alike or weights
    if not weights:
        weights = {name: size for name, size in usable.items() if name.endswith(".bin")}
    return {**settings, **weights}


def gated(repo_id: str) -> GatedModelError:
    """Return the error for a gated model; the hint says how to get access."""
    hub = huggingface_hub.constants.ENDPOINT
    if huggingface_hub.get_token():
        return GatedModelError(
            f"{repo_id} is gated, and your token has no access",
            f"accept the licence on {hub}/{repo_id} with the account of your HF_TOKEN",
        )
    return GatedModelError(
        f"{repo_id} is gated: it requires an accepted licence and a token",
        f"accept the licence on {hub}/{repo_id}, create a token on {hub}/settings/tokens, then: export HF_TOKEN=hf_...",
    )


def _ask(source: HubSource) -> Any:
    try:
        return huggingface_hub.HfApi().model_info(
            source.id, revision=source.revision, files_metadata=True, timeout=_PROBE_SECONDS
        )
    except Exception as error:
        _raise_ours(source, error, "the hub could not be reached")
        raise


def _raise_ours(source: HubSource, error: Exception, what: str) -> None:
    """Raise localemp's error for an exception of huggingface_hub; return if it is not about the hub or the network."""
    ours = _translated(source, error, what)
    if ours is not None:
        raise ours from error


def _translated(source: HubSource, error: Exception, what: str) -> WeightsError | None:
    """Translate an exception of huggingface_hub; None if it is not about the hub or the network."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return gated(source.id)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubUnavailableError(f"{source.id} has no revision {source.revision!r} on the hub")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubUnavailableError(f"the hub has no model {source.id}, or it is private and needs HF_TOKEN")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnavailableError("the hub was not contacted because HF_HUB_OFFLINE is set")
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return gated(source.id)
    network = type(error).__module__.partition(".")[0] in _HTTP_CLIENTS
    if network or isinstance(error, errors.HfHubHTTPError | errors.LocalEntryNotFoundError | ConnectionError):
        return HubUnavailableError(f"{what}: {in_words(error)}")
    return None


def _drop_broken(source: HubSource) -> None:
    """Delete damaged files, so that they are downloaded again."""
    config = huggingface_hub.try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    if isinstance(config, str):
        folder = Path(config).parent
        for name in _broken(folder, sha256_files(folder, files_of(folder))):
            _delete(folder / name)


def _delete(path: Path) -> None:
    """Delete a file of the cache, its blob, and the file that the blob may be a link to."""
    for each in (path.resolve(), path.parent / path.readlink() if path.is_symlink() else path, path):
        each.unlink(missing_ok=True)


def _broken(folder: Path, sha256: Mapping[str, str]) -> list[str]:
    broken, reported = [], _reported_hashes(folder)
    for name, digest in sha256.items():
        expected = _expected(folder, name, reported)
        if expected is not None and expected != (digest if len(expected) == 64 else git_sha1(folder / name)):
            broken.append(name)
    return broken


def _expected(folder: Path, name: str, reported: Mapping[str, Any]) -> str | None:
    """Return the hub's hash of a file: from the name of its blob, or as the hub last reported it."""
    return named_hash(folder / name) or (reported[name] if is_hash(reported.get(name)) else None)


def _keep_hashes(source: HubSource, info: Any) -> None:
    """Store the hub's hashes; if the cache is not writable, only log a warning."""
    hashes = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or ()}
    path = _hashes_file(f"models--{source.id.replace('/', '--')}", str(info.sha))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {name: value for name, value in hashes.items() if is_hash(value)}, indent=1)
    except OSError as error:
        _log.warning("cannot store the hub's hashes of %s in %s: %s", source.id, path, error.strerror)


def _reported_hashes(snapshot: Path) -> Mapping[str, Any]:
    """Return the hub's hashes by file name; empty if the hub has not been asked."""
    try:
        reported = load_json(_hashes_file(snapshot.parents[1].name, snapshot.name))
    except (OSError, JSONError, IndexError):
        return {}
    return reported if isinstance(reported, dict) else {}


def _hashes_file(repository: str, revision: str) -> Path:
    return cache_dir("hub", repository, f"{revision}.json")


def _is_for_others(path: PurePosixPath) -> bool:
    return path.parts[0] in _OTHER_ENGINES or any(part.startswith(".") for part in path.parts)


def _quiet_bar() -> type[Any]:
    """Return huggingface_hub's progress bar, disabled: `watched` reports progress instead."""
    from huggingface_hub.utils.tqdm import tqdm

    base: Any = tqdm

    class Quiet(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    return Quiet

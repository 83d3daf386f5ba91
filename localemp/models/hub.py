"""The Hugging Face cache and hub: what of a model is there, whether it is whole, and fetching the rest.

A file of that cache is a link to a blob that is named by the hub's hash of it. Where the disk has no links it is a
plain file; then the hash is the one that the hub told when localemp last asked, which localemp's own cache keeps.
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
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.paths import cache_dir
from localemp.utils.progress import OnProgress, bytes_in, silent, watched
from localemp.utils.words import count

_log = logging.getLogger(__name__)

# An unreachable hub must be noticed in seconds: there may be a package to fall back on. It is tried twice.
_PROBE_SECONDS = 4.0

_SETTINGS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_OTHER_ENGINES = {"onnx", "openvino", "original", "coreml"}

# huggingface_hub went from one HTTP client to the next; their network errors have no base class in common.
_HTTP_CLIENTS = {"httpx", "httpx2", "requests"}


class HubUnavailableError(WeightsError):
    """The hub cannot be reached, or has no such model."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model in the Hugging Face cache."""

    folder: Path

    @property
    def revision(self) -> str:
        """The commit, which the cache names the folder by."""
        return self.folder.name


def find_snapshot(source: HubSource) -> Snapshot | None:
    """The model in the Hugging Face cache, if config and all weights are there; no content is checked."""
    config = huggingface_hub.try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return None if missing_files(folder) else Snapshot(folder)


def verify_snapshot(snapshot: Snapshot, on_progress: OnProgress = silent) -> dict[str, str]:
    """Check every file against the hub's hash of it (SHA-256 of large files, git's SHA-1 of small ones).

    Where no hash is known of a file, the log says so.

    Returns:
        SHA-256 of every file.

    Raises:
        WeightsError: A file is cut or changed.
    """
    hashes = sha256_files(snapshot.folder, files_of(snapshot.folder), on_progress)
    if broken := _broken(snapshot.folder, hashes):
        raise WeightsError(f"{snapshot.folder / broken[0]} is broken: its content is not what the hub gave")
    if names := unchecked(snapshot):
        files = f"{count(len(names), 'file')} of {snapshot.folder}, such as {names[0]},"
        _log.warning("%s could not be checked: nobody here knows the hub's hashes (models pull asks for them)", files)
    return hashes


def unchecked(snapshot: Snapshot) -> list[str]:
    """Files of which no hash is known: plain ones of a model that localemp has not asked the hub about."""
    folder, told = snapshot.folder, _told_hashes(snapshot.folder)
    return [name for name in files_of(folder) if _expected(folder, name, told) is None]


def download(source: HubSource, on_progress: OnProgress = silent) -> Snapshot:
    """Fetch into the Hugging Face cache what is missing or broken of a model.

    Only safetensors (or, where there are none, PyTorch's own files), tokenizer and config files are fetched.

    Raises:
        GatedModelError: A licence must be accepted, or a token set.
        HubUnavailableError: No network, no such model, or HF_HUB_OFFLINE is set.
        WeightsError: The download broke off, or the disk is full.
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
            _raise_ours(source, error, "the download broke off")
            raise
    return Snapshot(Path(folder))


def fetch_config(source: HubSource) -> Path:
    """A model's config.json alone: from the Hugging Face cache, else from the hub.

    Raises:
        GatedModelError: A licence must be accepted, or a token set.
        HubUnavailableError: No network, no such model, or HF_HUB_OFFLINE is set.
    """
    config = huggingface_hub.try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    if isinstance(config, str):
        return Path(config)
    _ask(source)  # says within seconds that there is no network, where the next call tries for half a minute
    try:
        return Path(huggingface_hub.hf_hub_download(source.id, "config.json", revision=source.revision))
    except Exception as error:
        _raise_ours(source, error, "the download broke off")
        raise


def wanted_files(sizes: dict[str, int]) -> dict[str, int]:
    """The files of a hub repository that vLLM and transformers read, out of all (name to bytes)."""
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
    """The error of a model that wants its licence accepted; the hint says how."""
    hub = huggingface_hub.constants.ENDPOINT
    if huggingface_hub.get_token():
        return GatedModelError(
            f"{repo_id} is gated, and your token does not open it",
            f"accept the licence on {hub}/{repo_id} with the account that HF_TOKEN belongs to",
        )
    return GatedModelError(
        f"{repo_id} is gated: it wants its licence accepted and a token",
        f"accept the licence on {hub}/{repo_id}, make a token on {hub}/settings/tokens, then: export HF_TOKEN=hf_...",
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
    """Raise our error for one of huggingface_hub's, and nothing for what concerns neither hub nor network."""
    ours = _told(source, error, what)
    if ours is not None:
        raise ours from error


def _told(source: HubSource, error: Exception, what: str) -> WeightsError | None:
    """Our error for one of huggingface_hub's; None for what is no matter of hub or network."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return gated(source.id)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubUnavailableError(f"{source.id} has no revision {source.revision!r} on the hub")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubUnavailableError(
            f"the hub has no model {source.id} (or hides it from you: a private one needs HF_TOKEN)"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnavailableError("the hub was not asked, because HF_HUB_OFFLINE is set")
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return gated(source.id)
    network = type(error).__module__.partition(".")[0] in _HTTP_CLIENTS
    if network or isinstance(error, errors.HfHubHTTPError | errors.LocalEntryNotFoundError | ConnectionError):
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        return HubUnavailableError(f"{what}: {said}")
    return None


def _drop_broken(source: HubSource) -> None:
    """Delete files that are not what the hub has, so that the download fetches them again."""
    config = huggingface_hub.try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    if isinstance(config, str):
        folder = Path(config).parent
        for name in _broken(folder, sha256_files(folder, files_of(folder))):
            path = folder / name
            # The file, the blob that it is a link to, and what that may be a link to.
            for each in (path.resolve(), path.parent / path.readlink() if path.is_symlink() else path, path):
                each.unlink(missing_ok=True)


def _broken(folder: Path, sha256: Mapping[str, str]) -> list[str]:
    broken, told = [], _told_hashes(folder)
    for name, digest in sha256.items():
        expected = _expected(folder, name, told)
        if expected is not None and expected != (digest if len(expected) == 64 else git_sha1(folder / name)):
            broken.append(name)
    return broken


def _expected(folder: Path, name: str, told: Mapping[str, Any]) -> str | None:
    """The hub's hash of a file, as the cache names it or as the hub once told it."""
    return named_hash(folder / name) or (told[name] if is_hash(told.get(name)) else None)


def _keep_hashes(source: HubSource, info: Any) -> None:
    """Keep what the hub tells of its files; a cache that cannot be written goes without."""
    hashes = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or ()}
    path = _hashes_file(f"models--{source.id.replace('/', '--')}", str(info.sha))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {name: value for name, value in hashes.items() if is_hash(value)}, indent=1)
    except OSError as error:
        _log.warning("the hub's hashes of %s are not kept: %s: %s", source.id, path, error.strerror)


def _told_hashes(snapshot: Path) -> Mapping[str, Any]:
    """The hub's hashes by the names of files; none where localemp never asked."""
    try:
        told = load_json(_hashes_file(snapshot.parents[1].name, snapshot.name))
    except (OSError, JSONError, IndexError):
        return {}
    return told if isinstance(told, dict) else {}


def _hashes_file(repository: str, revision: str) -> Path:
    return cache_dir("hub", repository, f"{revision}.json")


def _is_for_others(path: PurePosixPath) -> bool:
    return path.parts[0] in _OTHER_ENGINES or any(part.startswith(".") for part in path.parts)


def _quiet_bar() -> type[Any]:
    """huggingface_hub's progress bar, drawing nothing: `watched` reports instead."""
    from huggingface_hub.utils.tqdm import tqdm

    base: Any = tqdm

    class Quiet(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    return Quiet

"""The servers that a user runs on this machine, so that `respond` and `chat` find one that has the model loaded.

`localemp serve` keeps a file for itself while it runs, in a folder that only its user can read. A file is believed if
it is the user's own, and the process that wrote it still lives; a killed server's file is skipped. No file has a key.
"""

import hashlib
import os
import platform
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localemp.models.profiles import Profile
from localemp.pipeline.config import RunConfig
from localemp.serving.settings import ServeSettings
from localemp.serving.vllm.options import read_options
from localemp.utils.files import open_regular, write_atomically
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.paths import cache_dir
from localemp.utils.redaction import redact_settings

_FORMAT = 1
_LARGEST = 2**20  # bytes of a file
_MOST_FILES = 256


class RunningServer(BaseModel):
    """A running server, as its file describes it.

    Attributes:
        format: The version of this form.
        localemp: The version of localemp.
        machine: The machine's name, since several may share the folder's disk; empty if the server has no file.
        pid: Its process.
        started: When that began, in ticks since the machine's start; None where the system does not tell.
        url: Its address on this machine, without "/v1".
        model: The name of its model.
        profile_sha256: A hash of the model's profile.
        config: The settings of a `RunConfig` that differ from its defaults.
        strategies: The strategies that it offers.
        flows: The SHA-256 of the operator's flows among them, by their files' names without ending.
        adapters: The SHA-256 of its adapters, by name.
        engine_args: vLLM's options, as engine arguments.
        needs_key: Whether clients must send a key.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = Field(default=_FORMAT, le=_FORMAT)
    localemp: str
    machine: str
    pid: int = Field(gt=0, lt=2**31)
    started: int | None
    url: str = Field(pattern=r"^https?://[^/@?#\s]+$")
    model: str
    profile_sha256: str
    config: dict[str, Any]
    strategies: tuple[str, ...]
    flows: dict[str, str]
    adapters: dict[str, str]
    engine_args: dict[str, Any]
    needs_key: bool

    @classmethod
    def of(cls, settings: ServeSettings, profile: Profile, url: str, options: Sequence[str]) -> Self:
        """Return this process's server.

        Args:
            settings: Its settings; the keys are left out.
            profile: The model's profile.
            url: Its address.
            options: The user's options for vLLM.
        """
        return cls(
            localemp=version("localemp"),
            machine=platform.node(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            url=url,
            model=settings.model,
            profile_sha256=profile_hash(profile),
            config=redact_settings(settings.model_dump(mode="json")["config"]),
            strategies=settings.strategies,
            flows={name: hashlib.sha256(text.encode()).hexdigest() for name, text in settings.flows.items()},
            adapters=settings.adapters,
            engine_args=redact_settings(read_options(options)),
            needs_key=bool(settings.api_keys),
        )

    @property
    def is_known(self) -> bool:
        """Whether it has a file; of a server that was named by its address alone, only what it lists is known."""
        return bool(self.machine)

    @property
    def http_options(self) -> dict[str, Any]:
        """How to connect, as httpx takes it: to this machine without a proxy, whoever signed the certificate."""
        return {"trust_env": not self.is_known, "verify": not self.is_known}

    @property
    def lives(self) -> bool:
        """Whether the process that wrote the file still runs, on this machine."""
        if self.machine != platform.node():
            return False
        try:
            os.kill(self.pid, 0)
        except OSError:
            return False
        return self.started == _started(self.pid)

    def to_config(self) -> RunConfig:
        """Return the config that its strategies share.

        Raises:
            LocalempError: This version of localemp does not have its settings.
        """
        return ServeSettings(model=self.model, config=self.config).to_config()


def profile_hash(profile: Profile) -> str:
    """Return a hash of everything that a profile says."""
    return hashlib.sha256(profile.model_dump_json().encode()).hexdigest()


@contextmanager
def announced(server: RunningServer) -> Iterator[None]:
    """Keep a server's file while this block runs; without a folder to write to, there is none."""
    path = _folder() / f"{server.pid}.json"
    with suppress(OSError):
        _make_folder()
        _remove_dead()
        write_atomically(path, server.model_dump_json(indent=2), 0o600)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def running_servers() -> list[RunningServer]:
    """Return the user's servers on this machine that still run; damaged and other users' files are skipped."""
    return [server for server in _read_all().values() if server is not None and server.lives]


def _folder() -> Path:
    return cache_dir(f"servers-{os.getuid()}")


def _make_folder() -> None:
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)


def _read_all() -> Mapping[Path, RunningServer | None]:
    folder = _folder()
    try:
        if not _is_private(folder.lstat()):
            return {}
        paths = sorted(folder.glob("*.json"))[:_MOST_FILES]
    except OSError:
        return {}
    return {path: _read(path) for path in paths}


def _read(path: Path) -> RunningServer | None:
    try:
        if path.is_symlink():
            return None
        with open_regular(path) as file:
            if not _is_private(os.fstat(file.fileno())):
                return None
            content = file.read(_LARGEST + 1)
        return None if len(content) > _LARGEST else RunningServer.model_validate(parse_json(content))
    except (OSError, JSONError, ValidationError):
        return None


def _is_private(found: os.stat_result) -> bool:
    """Whether a file or folder is this user's, and nobody else can write to it."""
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _remove_dead() -> None:
    """Remove the files of servers of this machine that were killed."""
    for path, server in _read_all().items():
        if server is not None and server.machine == platform.node() and not server.lives:
            path.unlink(missing_ok=True)


def _started(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine's start: another one may get its number later."""
    try:
        # The name of the program, in brackets, may have spaces and brackets of its own.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return None

"""The certificate of a run: what asking for its replies again has shown, each time.

    verified.json     {"format": 1, "verifications": [...]}, the newest last

It lies in the run's folder. A verification says which replies it was made for, by their ids, and by the length and hash
of the file of replies, which only grows.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from localemp.errors import RunError
from localemp.runs.run import RESPONSES
from localemp.utils.files import open_regular, write_errors, write_json
from localemp.utils.formatting import count, share
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.locks import folder_lock
from localemp.utils.redaction import redact_settings
from localemp.utils.validation import Lenient, format_validation_error

VERIFIED = "verified.json"
_LARGEST = 64 * 2**20  # bytes
_PIECE = 2**20


class Parting(Lenient):
    """Where an answer that was asked for again parts from the recorded one.

    Attributes:
        id: Of the dialogue.
        stage: Name of the stage.
        batch_size: How many requests were in flight.
        what: What differs: the "text", the "thinking", or only its "end" (finish reason, or number of tokens).
        character, word: Position of the first difference, from 0.
        token: The same in tokens; None where the model's tokenizer is not known.
        common: The end of what both have in common.
        before, now: How the recorded and the new one go on from there.
    """

    id: str
    stage: str
    batch_size: int
    what: Literal["text", "thinking", "end"]
    character: int
    word: int
    token: int | None = None
    common: str = ""
    before: str = ""
    now: str = ""


class FailedCall(Lenient):
    """A request that failed, so that there is nothing to compare."""

    id: str
    stage: str
    batch_size: int
    error: dict[str, str]


class AtBatchSize(Lenient):
    """Replies at one batch size.

    Attributes:
        batch_size: Requests in flight, as asked for.
        in_flight: The same, where the sample has fewer.
        cold: Whether the engine's prefix cache is known to have been empty before.
        equal, different, failed: Replies, by the worst of their stages: a failure counts where none differs.
    """

    batch_size: int
    in_flight: int
    cold: bool
    equal: int
    different: int
    failed: int


class Verification(Lenient):
    """One verification of a run.

    Attributes:
        made: When, as ISO 8601.
        command: The command line.
        seed: Seed of the sample and of the order of requests.
        ids: The dialogues of the sample.
        equal, different, failed: Replies over all batch sizes, as in `AtBatchSize`.
        sizes: The same for each batch size.
        partings: Every answer that differs.
        failures: Every request that failed.
        deterministic: How the engine was deterministic; None if it was not asked to be.
        claimed: Whether the run was made with `deterministic`.
        temperature: Of the replies.
        anyway: What differs between what made the run and what is here, if that was accepted.
        replies: How many replies the run had.
        responses_bytes, responses_sha256: Length and hash of its file of replies.
        engine, versions, machine: As in a session of a manifest.
    """

    made: str
    command: str = ""
    seed: int
    ids: list[str]
    equal: int
    different: int
    failed: int
    sizes: list[AtBatchSize]
    partings: list[Parting] = Field(default_factory=list)
    failures: list[FailedCall] = Field(default_factory=list)
    deterministic: str | None = None
    claimed: bool = False
    temperature: float = 0.0
    anyway: list[str] = Field(default_factory=list)
    replies: int
    responses_bytes: int
    responses_sha256: str
    engine: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str] = Field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether no reply differs although the run claims to be deterministic, and every request was answered."""
        return not self.failed and not (self.claimed and self.different)

    @property
    def summary(self) -> str:
        """What was found, in a line: "49 of 50 replies equal at batch sizes 1, 8 and 64, 1 differs"."""
        *first, last = [str(each.batch_size) for each in self.sizes]
        sizes = f"batch sizes {', '.join(first)} and {last}" if first else f"batch size {last}"
        told = f"{share(self.equal, len(self.ids), 'reply', 'replies')} equal at {sizes}"
        told += f", {self.different:,} {'differs' if self.different == 1 else 'differ'}" if self.different else ""
        return told + (f", {self.failed:,} failed" if self.failed else "")

    @property
    def where(self) -> str:
        """Engine and hardware: "vLLM 0.32.0, CPU"."""
        engine, gpu = str(self.engine.get("engine", "")), self.machine.get("GPU", "none")
        if engine != "vllm":
            return engine
        return f"vLLM {self.engine.get('vllm')}, {'CPU' if gpu == 'none' else gpu.partition(',')[0]}"


class _Certificate(Lenient):
    verifications: list[Verification]


def read_verifications(folder: Path) -> list[Verification]:
    """Return the verifications of a run, the newest last; none if it has never been verified.

    Raises:
        RunError: The file is damaged or cannot be read.
    """
    path = folder / VERIFIED
    try:
        return _Certificate.model_validate(load_json(path, _LARGEST, storable=True)).verifications
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}", "check its permissions") from error
    except (JSONError, ValidationError) as error:
        what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
        raise RunError(f"{path}: it is damaged: {what}", "move it away, and verify the run again") from error


def add_verification(folder: Path, verification: Verification) -> None:
    """Add a verification to a run's certificate; what was there is kept.

    Raises:
        RunError: The file is damaged, or cannot be written; then it is unchanged.
    """

    def error(message: str, hint: str) -> RunError:
        return RunError(f"{folder / VERIFIED}: {message}", hint)

    with write_errors(error, "make the run's folder writable"), folder_lock(folder, f"writes to {folder}"):
        kept = [*read_verifications(folder), verification]
        written = [redact_settings(each.model_dump(mode="json")) for each in kept]
        write_json(folder / VERIFIED, {"format": 1, "verifications": written})


def verified_line(folder: Path) -> str:
    """Return the newest verification of a run in a line; empty if there is none.

    It says if the run has changed since: that it has more replies, or other ones.
    """
    try:
        found = read_verifications(folder)
    except RunError as error:
        return f"verified: {error.message}"
    if not found:
        return ""
    newest = found[-1]
    line = f"verified {newest.made[:10]}: {newest.summary} ({newest.where})"
    if newest.anyway:
        line += f", with {count(len(newest.anyway), 'difference')} to what made the run"
    size, digest = fingerprint(folder, newest.responses_bytes)
    if digest != newest.responses_sha256:
        return f"{line}; the run's file of replies has been changed since"
    if size > newest.responses_bytes:
        line += f"; the run had {count(newest.replies, 'reply', 'replies')} then and was continued since"
    return line


def fingerprint(folder: Path, first: int | None = None) -> tuple[int, str]:
    """Return the length of a run's file of replies, in bytes, and the SHA-256 of it, or of its first bytes.

    A file that is missing counts as empty.

    Raises:
        RunError: The file cannot be read.
    """
    path, digest = folder / RESPONSES, hashlib.sha256()
    try:
        with open_regular(path) as file:
            left = float("inf") if first is None else first
            while left > 0 and (piece := file.read(int(min(left, _PIECE)))):
                digest.update(piece)
                left -= len(piece)
            return file.seek(0, 2), digest.hexdigest()
    except FileNotFoundError:
        return 0, digest.hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}", "check its permissions") from error


def worst(outcomes: Mapping[str, set[str]]) -> tuple[int, int, int]:
    """Return how many replies are equal, different and failed.

    Args:
        outcomes: For every reply what its stages are: "equal", "different", "failed".
    """
    kinds = [next((kind for kind in ("different", "failed") if kind in found), "equal") for found in outcomes.values()]
    return kinds.count("equal"), kinds.count("different"), kinds.count("failed")

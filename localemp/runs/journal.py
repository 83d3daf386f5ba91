"""A journal: a folder with a manifest and an append-only file of lines with ids, such as a run or a judge's log.

    manifest.json     settings, hashes, versions, and a session for every start or resume
    (lines)           one JSON object per line, each with an id; of several with the same id, the last counts

It can be interrupted at any moment: finished lines stay, a truncated line is removed, and the same settings resume.
Other settings are rejected, so that one folder never mixes two experiments. Nothing in a folder is changed before it is
known to be a journal or empty.
"""

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import ValidationError

from localemp.errors import OptionError, RunError
from localemp.runs.bill import Bill
from localemp.utils.append_log import AppendLog, whole_lines
from localemp.utils.config_diff import compare_settings, renamed_model
from localemp.utils.files import MAKE_ROOM, remove_partial, write_errors, write_json
from localemp.utils.json_reader import JSONError, load_json, parse_json
from localemp.utils.lines import LONGEST_LINE, LongLineError
from localemp.utils.locks import LockedError
from localemp.utils.redaction import redact_settings
from localemp.utils.text import well_formed
from localemp.utils.validation import Lenient, format_validation_error

R = TypeVar("R", bound=Mapping[str, Any])

MANIFEST = "manifest.json"
# Files of a journal that was killed at its start, besides its empty file of lines.
_UNFINISHED_MANIFESTS = ("manifest.new", f".{MANIFEST}.*.part")
# What a hint says if only this setting differs: why, and how else to go on than in another folder.
_CHANGED = {
    "flow_sha256": ("the stages of the flow have changed since: ", "undo the change"),
    "code_sha256": ("the code of the strategy has changed since: ", "undo the change"),
}
# The same if the folder does not have the setting.
_NEW = {
    "select_feelings_sha256": (
        "inferences were selected without a look at feelings then: ",
        "select them so: --select on-topic",
    ),
}


class Journal(AppendLog):
    """A journal that is open for writing.

    Make one with `open`; close it, or use it in a `with` block.

    Attributes:
        lines: Name of the file of lines.
        option: The command-line option for another folder.
        folder: The folder.
        answered: Ids with an answer.
        failed: Ids with only an error.
        bill: What it has cost, over all sessions.
    """

    lines: ClassVar[str]
    option: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        if not isinstance(folder, Path):  # as a user of the library calls it, to read one
            name = type(self).__name__
            raise OptionError(
                f"a {name} is a folder that is open for writing: localemp.read_run({str(folder)!r}) reads a run",
                f"{name}.open(Path(...), settings) creates or resumes one",
            )
        self.folder = folder
        self.manifest: dict[str, Any] = {}
        self.answered: set[str] = set()
        self.failed: set[str] = set()
        self.bill = Bill()
        try:
            super().__init__(folder / self.lines)
        except LockedError as error:
            raise RunError(
                f"{folder}: another localemp is writing to it", f"wait for it, or choose another {self.option}"
            ) from error

    @staticmethod
    def check_line(record: dict[str, Any]) -> None:
        """Raise ValueError if a record is not a line of this journal; may add fields that older versions lack."""

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Create a journal, or resume one with the same settings.

        Args:
            folder: The folder; created if it does not exist.
            settings: Everything that can change the answers, as JSON values; secrets are masked.

        Raises:
            RunError: The folder has a journal with other settings or something else, or cannot be written.
        """
        as_json: dict[str, Any] = json.loads(json.dumps(redact_settings(settings)))
        with cls._write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            cls._check_folder(folder)
            journal = cls(folder)
            try:
                journal._take_up(as_json)
            except BaseException:
                journal.close()
                raise
            return journal

    @classmethod
    def look(cls, folder: Path, settings: Mapping[str, Any]) -> dict[str, bool]:
        """Return for every id of a journal whether it has an answer or only an error, without opening it.

        Args:
            folder: The folder; one that does not exist has no ids.
            settings: As in `open`.

        Raises:
            RunError: As in `open`.
        """
        cls.check_place(folder)
        if not (folder / MANIFEST).exists():
            return {}
        found = outcomes(folder / cls.lines)
        if found:
            cls._check_settings(folder, read_manifest(folder), json.loads(json.dumps(redact_settings(settings))))
        return found

    @classmethod
    def check_place(cls, folder: Path) -> None:
        """Check, before anything is loaded, that a folder can hold a journal; nothing is created.

        Raises:
            RunError: It has something else, or cannot be read.
        """
        with cls._write_errors(folder):
            if folder.exists():
                cls._check_folder(folder)

    @classmethod
    def _check_folder(cls, folder: Path) -> None:
        """Raise RunError if the folder has anything but a journal; nothing is changed yet."""
        if (folder / MANIFEST).exists():
            read_manifest(folder)
            return
        for path in folder.iterdir():
            began = path.name == cls.lines and not (path.exists() and path.stat().st_size)
            if not began and not any(path.match(name) for name in _UNFINISHED_MANIFESTS):
                raise RunError(
                    f"{folder}: the folder is not empty, and {MANIFEST} is missing",
                    f"choose another {cls.option}",
                )

    def _take_up(self, settings: dict[str, Any]) -> None:
        """Resume with the existing manifest, or write one; only a journal without lines may change its settings."""
        self.manifest = read_manifest(self.folder) if (self.folder / MANIFEST).exists() else {}
        end = 0
        for number, end, record in numbered_lines(self.path, self.check_line):  # noqa: B007  the last end is wanted
            try:
                self.note(record)
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(self.path, number, f"{type(error).__name__}: {error}") from error
        if self.manifest and (self.answered or self.failed):
            self._check_settings(self.folder, self.manifest, settings)
        elif self.manifest.get("settings") != settings:
            self.manifest = {"format": 1, "created": now(), "settings": settings, "sessions": []}
            write_json(self.folder / MANIFEST, self.manifest)
        self.bill.hosted = settings.get("engine") == "openai"
        for session in self.manifest["sessions"]:
            self.bill.take_session(session)
        # The folder is known to be a journal now: remove what a killed process left half-written.
        self.truncate(end)
        remove_partial(self.folder, MANIFEST)

    @classmethod
    def _check_settings(cls, folder: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        if difference := compare_settings(manifest["settings"], settings):
            shown = "\n".join(f"  {line}" for line in difference)
            renamed = renamed_model(manifest["settings"], settings)
            names = {line.partition(":")[0].partition(".")[0] for line in difference}
            its_settings = f"go on with the model of then: --model {renamed}" if renamed else "use its settings"
            only = names.pop() if len(names) == 1 else ""
            known = _CHANGED if only in manifest["settings"] else _NEW
            why, its_settings = known.get(only, ("", its_settings))
            raise RunError(
                f"{folder} was made with other settings:\n{shown}",
                f"{why}choose another {cls.option}, or {its_settings}",
            )

    def add_session(self, session: Mapping[str, Any]) -> None:
        """Record a start or resume: command, versions, machine, engine. Secrets are masked."""
        self.manifest["sessions"].append({"started": now()})
        self.change_session(session)

    def change_session(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the last session."""
        self.manifest["sessions"][-1] |= redact_settings(facts)
        with self._write_errors(self.folder):
            write_json(self.folder / MANIFEST, self.manifest)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line. Raises RunError if it cannot be written; finished lines are not lost."""
        try:
            line = (well_formed(json.dumps(record, ensure_ascii=False, allow_nan=False)) + "\n").encode()
        except ValueError as error:  # it could not be read again
            raise RunError(
                f"{self.folder}: a line has NaN or an infinite number", "remove its dialogue from the data"
            ) from error
        if len(line) > LONGEST_LINE:  # it could not be read again
            raise RunError(f"{self.folder}: a line has {len(line) // 2**20} MiB", "remove its dialogue from the data")
        with self._write_errors(self.folder):
            self.write(line)
        self.note(record)

    def note(self, record: Mapping[str, Any]) -> None:
        """Update `answered`, `failed` and `bill` with a line of the file."""
        self.bill.take(record)
        if "error" in record:
            self.failed.add(record["id"])
            self.answered.discard(record["id"])
        else:
            self.answered.add(record["id"])
            self.failed.discard(record["id"])

    def written(self) -> set[str]:
        """Read the ids with an answer from the file; after an interrupt, `answered` may lack some.

        Raises:
            RunError: The file cannot be read.
        """
        return {name for name, answered in outcomes(self.path).items() if answered}

    @classmethod
    def _write_errors(cls, folder: Path) -> AbstractContextManager[None]:
        def error(message: str, hint: str) -> RunError:
            return RunError(f"{folder}: {message}", hint)

        return write_errors(error, f"choose another {cls.option}", if_full=MAKE_ROOM)


class _Settings(Lenient):
    model: str = ""
    strategy: str = ""
    variant: str = ""
    given: list[str] | None = None


class _Session(Lenient):
    started: str = ""
    command: str = ""
    dialogues: int = 0


class _Manifest(Lenient):
    """The parts of a manifest that are validated; other keys are allowed."""

    settings: _Settings
    sessions: list[_Session]
    created: str = ""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest, with secrets masked; `created`, and `started` and `command` of sessions, are always present.

    Raises:
        RunError: The folder is not a run, or its manifest is damaged.
    """
    path = folder / MANIFEST
    hint = "run `localemp runs list` to see the runs"
    try:
        manifest: dict[str, Any] = load_json(path, storable=True)
        _Manifest.model_validate(manifest)
    except FileNotFoundError as error:
        raise RunError(f"{folder} is not a run: {MANIFEST} is missing", hint) from error
    except NotADirectoryError as error:
        hint = "give the folder of a run, or use `localemp score --import FORMAT FILE` for other files"
        raise RunError(f"{folder} is a file, not a run", hint) from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}", hint) from error
    except (JSONError, ValidationError) as error:
        what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
        hint = "restore the manifest from a copy, or start a new run; the replies next to it are not changed"
        raise RunError(f"{path}: the manifest is damaged: {what}", hint) from error
    sessions = [{"started": "", "command": ""} | redact_settings(session) for session in manifest["sessions"]]
    return {"created": "", **manifest, "settings": redact_settings(manifest["settings"]), "sessions": sessions}


def read_lines(
    path: Path, check: Callable[[dict[str, Any]], None] = Journal.check_line, only: Container[int] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every line with its number, from 1. A truncated last line is left out.

    Args:
        path: The file; a missing file has no lines.
        check: The journal's `check_line`.
        only: Numbers of the lines that are wanted; None for all.

    Raises:
        RunError: A line is damaged (says which), or the file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise RunError(f"{path}: cannot be read: Not a regular file", "give a run written by localemp")
    try:
        for number, _, record in numbered_lines(path, check, only):
            yield number, record
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}", "check its permissions") from error


def numbered_lines(
    path: Path, check: Callable[[dict[str, Any]], None], only: Container[int] | None = None
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield number, end offset and record of every wanted line; raises OSError if the file cannot be read."""
    try:
        for number, end, line in whole_lines(path):
            if only is None or number in only:
                yield number, end, _record(path, number, line, check)
    except LongLineError as error:
        raise _damaged(path, error.line, str(error)) from error


def outcomes(path: Path) -> dict[str, bool]:
    """Return for every id whether it has an answer or only an error; other fields are not checked.

    Raises:
        RunError: A line is damaged (says which), or the file cannot be read.
    """
    return {record["id"]: "error" not in record for _, record in read_lines(path)}


def newest(lines: Iterable[tuple[int, R]]) -> list[R]:
    """Return the last line of every id, in the order in which ids first appear."""
    return list({record["id"]: record for _, record in lines}.values())


def _record(path: Path, number: int, line: bytes, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    try:
        record = parse_json(line, storable=True)
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise ValueError("it is not an object with a string id")
        check(record)
    except ValidationError as error:
        raise _damaged(path, number, format_validation_error(error)) from error
    except ValueError as error:
        raise _damaged(path, number, str(error)) from error
    return record


def _damaged(path: Path, number: int, what: str) -> RunError:
    return RunError(f"{path}, line {number}: cannot be read: {what}", "delete the line to answer its dialogue again")


def now() -> str:
    """Return the time, as manifests have it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

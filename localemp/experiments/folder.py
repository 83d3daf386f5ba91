"""The folder of an experiment: the plan, the runs of its rows, and what was made of them.

    experiment.json     the plan as it was read, each row with its run's folder and its last error, and every session
    rows/NAME-HASH/     the run of a row; HASH names its settings, so that a row is found again under another name
    engine-MODEL.log    what the model's engine printed

How far a row got is never written here: its run says it. So nothing is lost if this file cannot be written.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, StringConstraints, ValidationError

from localemp.errors import RunError
from localemp.runs.journal import MANIFEST as RUN_MANIFEST
from localemp.runs.run import settings_hash
from localemp.utils.files import MAKE_ROOM, remove_partial, write_errors, write_json
from localemp.utils.json_reader import JSONError, load_json
from localemp.utils.locks import LockedError, lock
from localemp.utils.redaction import redact_settings, shown_command
from localemp.utils.validation import Lenient, format_validation_error

MANIFEST, ROWS = "experiment.json", "rows"
# Left by a process that was killed at its start.
_UNFINISHED = f".{MANIFEST}.*.part"
_UNTRIED = {"planned": True, "begun": "", "error": "", "hint": "", "retry": ""}
_LONGEST_FILE_NAME = 255  # bytes, on usual file systems
_LONGEST_NAME, _MOST_BYTES = 60, 180  # of one that is made of a text; hashes are added
_log = logging.getLogger(__name__)


class ExperimentFolder:
    """An experiment's folder, locked against other processes while it is open.

    Make one with `open`; close it, or use it in a `with` block.

    Attributes:
        path: The folder.
        manifest: What `experiment.json` says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = {}
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            lock(self._descriptor, wait=False)
        except LockedError as error:
            os.close(self._descriptor)
            raise RunError(
                f"{path}: another localemp is working on this experiment", "wait for it, or choose another --out"
            ) from error
        except OSError:
            os.close(self._descriptor)
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder of an experiment, or make one. An existing `experiment.json` is not changed yet.

        Raises:
            RunError: The folder has something else, another process works on it, or it cannot be written.
        """
        with _write_errors(path):
            cls.check_place(path)
            path.mkdir(parents=True, exist_ok=True)
            folder = cls(path)
            try:
                known = read_experiment(path) if (path / MANIFEST).exists() else {}
                folder.manifest = {"format": 1, "created": now(), "plan": {}, "rows": [], "sessions": [], **known}
                (path / ROWS).mkdir(exist_ok=True)
                remove_partial(path)
            except BaseException:
                folder.close()
                raise
            return folder

    @classmethod
    def check_place(cls, path: Path) -> None:
        """Check, before anything is loaded, that a folder can hold an experiment; nothing is created.

        Raises:
            RunError: It has something else, or cannot be read.
        """
        with _write_errors(path):
            if not path.exists():
                return
            if (path / MANIFEST).exists():
                read_experiment(path)
            elif any(not _began(found) for found in path.iterdir()) and not _has_rows(path):
                raise RunError(f"{path}: the folder is not empty, and {MANIFEST} is missing", "choose another --out")

    def begin(self, name: str, plan: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the plan, its rows and a new session; rows that are no longer in the plan stay listed.

        Args:
            name: The plan's name.
            plan: The plan as it was read, as JSON values.
            rows: The rows: "name", "row", "model", "strategy", "folder" (relative), "dialogues".

        Raises:
            RunError: The file cannot be written.
        """
        before = {row["folder"]: row for row in self.manifest["rows"]}
        planned = [{**before.get(row["folder"], {}), **_UNTRIED, **row} for row in rows]
        folders = {row["folder"] for row in rows}
        former = [{**row, "planned": False} for folder, row in before.items() if folder not in folders]
        session = {"started": now(), "command": shown_command()}
        changes = {
            "name": name,
            "plan": dict(plan),
            "rows": [*planned, *former],
            "sessions": [*self.manifest["sessions"], session],
        }
        self.manifest |= redact_settings(changes)
        self.save()

    def change_rows(self, facts: Mapping[Path, Mapping[str, Any]]) -> None:
        """Add facts to rows, by the folders of their runs; says so if they cannot be written."""
        of_rows = {self.relative(folder): redact_settings(of_row) for folder, of_row in facts.items()}
        for row in self.manifest["rows"]:
            row |= of_rows.get(row["folder"], {})
        self._try_to_save()

    def change(self, facts: Mapping[str, Any]) -> None:
        """Add facts to `experiment.json`, such as "estimate"; says so if they cannot be written."""
        self.manifest |= redact_settings(facts)
        self._try_to_save()

    def relative(self, folder: Path) -> str:
        """Return the folder of a run as `experiment.json` has it."""
        return f"{ROWS}/{folder.name}"

    def save(self) -> None:
        """Write `experiment.json`.

        Raises:
            RunError: It cannot be written.
        """
        with _write_errors(self.path):
            write_json(self.path / MANIFEST, self.manifest)

    def _try_to_save(self) -> None:
        try:
            self.save()
        except RunError as error:  # the replies are in the runs
            _log.warning("%s: not updated: %s", self.path / MANIFEST, error.message)

    def close(self) -> None:
        """Let other processes work on the experiment. May be called twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked_length(folder: str) -> str:
    if len(Path(folder).name.encode()) > _LONGEST_FILE_NAME:
        raise ValueError("no file has such a long name")
    return folder


class _Row(Lenient):
    name: str
    row: str = ""
    model: str = ""
    strategy: str = ""
    folder: Annotated[str, StringConstraints(pattern=rf"^{ROWS}/\w[^/\x00]*$"), AfterValidator(_checked_length)]
    dialogues: int = 0
    planned: bool = True
    begun: str = ""
    error: str = ""
    hint: str = ""
    retry: str = ""


class _Session(Lenient):
    started: str = ""
    command: str = ""


class _Manifest(Lenient):
    """The parts of `experiment.json` that are validated; other keys are allowed."""

    name: str = ""
    created: str = ""
    rows: list[_Row]
    sessions: list[_Session]


def read_experiment(path: Path) -> dict[str, Any]:
    """Read `experiment.json`, with secrets masked; rows and sessions have all the keys that are read.

    Raises:
        RunError: The folder is not an experiment, or its manifest is damaged.
    """
    file, hint = path / MANIFEST, "`localemp experiment list` shows the experiments"
    try:
        manifest: dict[str, Any] = load_json(file, storable=True)
        checked = _Manifest.model_validate(manifest)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{path} is not an experiment: {MANIFEST} is missing", hint) from error
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror or error}", hint) from error
    except (JSONError, ValidationError) as error:
        what = format_validation_error(error) if isinstance(error, ValidationError) else str(error)
        hint = "move it away, and run the command again: the rows' runs are not changed, and are found again"
        raise RunError(f"{file}: the manifest is damaged: {what}", hint) from error
    rows = [{**row, **known.model_dump()} for row, known in zip(manifest["rows"], checked.rows, strict=True)]
    sessions = [{"started": "", "command": "", **session} for session in manifest["sessions"]]
    return {"created": "", "name": "", **redact_settings({**manifest, "rows": rows, "sessions": sessions})}


def run_folders(path: Path, rows: Sequence[tuple[str, dict[str, Any]]]) -> list[Path]:
    """Return the run's folder of each row: the one with its settings, else a new one, which is not made.

    Args:
        path: The experiment's folder, which need not exist.
        rows: Name and settings of each; rows of the same settings have one run.
    """
    found: dict[str, Path] = {}
    digests = [settings_hash(settings) for _, settings in rows]
    for (name, _), digest in zip(rows, digests, strict=True):
        if digest not in found:
            found[digest] = _run_folder(path, name, digest)
    return [found[digest] for digest in digests]


def _run_folder(path: Path, name: str, digest: str) -> Path:
    folder = path / ROWS / f"{file_name(name)}-{digest}"
    if folder.exists():
        return folder
    under_other_names = sorted(path.glob(f"{ROWS}/[!.]*-{digest}/{RUN_MANIFEST}"))
    return under_other_names[0].parent if under_other_names else folder


def file_name(text: str) -> str:
    """Return a text as a file's name; one that is too long ends in its hash."""
    return shortened(re.sub(r"[^\w.]+", "-", text).strip("-.") or "row", text)


def shortened(name: str, text: str) -> str:
    """Return a file's name that was made of a text; one that is too long is cut and ends in the text's hash."""
    cut = name[:_LONGEST_NAME].encode()[:_MOST_BYTES].decode(errors="ignore")
    return name if cut == name else f"{cut}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _began(path: Path) -> bool:
    """Return whether a file or folder is of an experiment that was stopped before it had a manifest."""
    return path.match(_UNFINISHED) or (path.name == ROWS and path.is_dir())


def _has_rows(path: Path) -> bool:
    """Return whether a folder without a manifest has runs of rows: it is an experiment all the same."""
    return any(path.glob(f"{ROWS}/*/{RUN_MANIFEST}"))


def _write_errors(path: Path) -> AbstractContextManager[None]:
    def error(message: str, hint: str) -> RunError:
        return RunError(f"{path}: {message}", hint)

    return write_errors(error, "choose another --out", if_full=MAKE_ROOM)


def now() -> str:
    """Return the time, as `experiment.json` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")

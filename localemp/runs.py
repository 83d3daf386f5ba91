"""A run: a folder with everything needed to repeat it, and one line for each reply as it finishes.

    manifest.json     settings, hashes, versions, and a session for every time it was started or continued
    responses.jsonl   append-only; one JSON object a line: a reply with its stages, or the error instead

A run can be stopped at any moment by anything: what is finished stays, a line cut in half is taken away, and the same
settings go on where it stopped. Other settings are refused, so that one folder never mixes two experiments.
"""

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from localemp.appending import AppendOnlyFile, LockedFileError
from localemp.errors import LocalempError, RunError
from localemp.settings import compare_settings
from localemp.strategies.base import Response, Stage
from localemp.utils.text import well_formed

R = TypeVar("R", bound=Mapping[str, Any])

MANIFEST, RESPONSES = "manifest.json", "responses.jsonl"


class Journal:
    """A folder with a manifest and an append-only file of answers, open for writing: what runs and judges share.

    Make one with `open`; close it, or use it in a `with` block.

    Attributes:
        lines: The file's name; each of its lines has an id.
        option: What names another folder on the command line.
        folder: Where it lies.
        answered: Ids of what has an answer.
        failed: Ids of what has only an error.
    """

    lines: ClassVar[str]
    option: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = {}
        self.answered: set[str] = set()
        self.failed: set[str] = set()
        try:
            self._file = AppendOnlyFile(folder / self.lines)
        except LockedFileError as error:
            raise RunError(
                f"{folder}: another localemp writes to this run", f"wait for it, or choose another {self.option}"
            ) from error
        # A last line that a crash cut in half is taken away.
        self._file.truncate((folder / self.lines).read_bytes().rfind(b"\n") + 1)
        for record in read_records(folder, self.lines):
            self.note(record)

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Create a run, or go on with one that has the same settings.

        Args:
            folder: Made where it does not exist.
            settings: Everything that can change the replies; JSON.

        Raises:
            RunError: The folder holds a run with other settings, something that is no run, or cannot be written.
        """
        as_json: dict[str, Any] = json.loads(json.dumps(settings))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # All that a run killed at its very beginning leaves.
            unfinished = (cls.lines, "manifest.new")
            if not (folder / MANIFEST).exists() and any(path.name not in unfinished for path in folder.iterdir()):
                raise RunError(f"{folder}: the folder is not empty and holds no run", f"choose another {cls.option}")
            run = cls(folder)
            try:
                run._take_up(as_json)
            except BaseException:
                run.close()
                raise
            return run
        except OSError as error:
            raise cls._write_error(folder, error) from error

    def _take_up(self, settings: dict[str, Any]) -> None:
        """Go on with the manifest that is there, or write one; only a run without a line may change its settings."""
        exists = (self.folder / MANIFEST).exists()
        if exists and (self.answered or self.failed):
            self.manifest = read_manifest(self.folder)
            if difference := compare_settings(self.manifest["settings"], settings):
                shown = "\n".join(f"  {line}" for line in difference)
                raise RunError(
                    f"{self.folder}: this run was made with other settings:\n{shown}",
                    f"choose another {self.option}, or repeat the settings of the run",
                )
        elif not exists or read_manifest(self.folder)["settings"] != settings:
            self.manifest = {"format": 1, "created": _now(), "settings": settings, "sessions": []}
            _write_json(self.folder / MANIFEST, self.manifest)
        else:
            self.manifest = read_manifest(self.folder)

    def add_session(self, session: Mapping[str, Any]) -> None:
        """Record that the run was started or continued: command, versions, machine, engine."""
        self.manifest["sessions"].append({"started": _now()})
        self.change_session(session)

    def change_session(self, facts: Mapping[str, Any]) -> None:
        """Record more of the session that was added last."""
        self.manifest["sessions"][-1] |= facts
        try:
            _write_json(self.folder / MANIFEST, self.manifest)
        except OSError as error:
            raise self._write_error(self.folder, error) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line. Raises RunError where the disk is full; nothing finished is lost."""
        try:
            self._file.append((json.dumps(record, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise self._write_error(self.folder, error) from error
        self.note(record)

    def note(self, record: Mapping[str, Any]) -> None:
        """Take notice of a line that is in the file."""
        if "error" in record:
            self.failed.add(record["id"])
        else:
            self.answered.add(record["id"])
            self.failed.discard(record["id"])

    def close(self) -> None:
        """Make sure that everything is on the disk, and let others write."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def _write_error(cls, folder: Path, error: OSError) -> RunError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return RunError(f"{folder}: the disk is full", "make room, then the same command goes on; nothing is lost")
        return RunError(f"{folder}: cannot be written: {error.strerror or error}", f"choose another {cls.option}")


class Run(Journal):
    """A run folder that is open for writing; its ids are those of dialogues."""

    lines = RESPONSES
    option = "--out"


def response_record(response: Response) -> dict[str, Any]:
    """A response as a line of `responses.jsonl` has it."""
    dialogue = response.dialogue
    return {
        "id": dialogue.id,
        "reply": response.reply,
        "raw": response.raw,
        "finish_reason": response.finish_reason,
        "turns": list(dialogue.turns),
        "emotion": dialogue.emotion,
        "situation": dialogue.situation,
        "reference": dialogue.reference,
        "stages": [_stage_record(stage) for stage in response.stages],
        "exemplars": [{"id": shown.dialogue.id, "score": shown.score} for shown in response.exemplars],
        "inferences": None if response.inferences is None else dict(response.inferences),
        "inferences_dropped": {name: [asdict(one) for one in each] for name, each in response.dropped.items()},
    }


def failure_record(name: str, error: Exception) -> dict[str, Any]:
    """What went wrong, as a line has it in place of an answer."""
    told = {"type": type(error).__name__, "message": well_formed(str(error))}
    if isinstance(error, LocalempError) and error.hint:
        told["hint"] = well_formed(error.hint)
    return {"id": name, "error": told}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        RunError: The folder holds no run, or its manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        manifest["settings"], manifest["sessions"]
    except FileNotFoundError as error:
        raise RunError(f"{folder}: no run here ({MANIFEST} is missing)", "`localemp runs list` shows runs") from error
    except NotADirectoryError as error:
        hint = "give a run's folder; `localemp score --import FORMAT FILE` takes files of other programs"
        raise RunError(f"{folder}: a file, no run", hint) from error
    except OSError as error:
        raise RunError(
            f"{path}: cannot be read: {error.strerror or error}", "`localemp runs list` shows runs"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        hint = "the replies are in responses.jsonl; restore the manifest from a copy, or make the run anew elsewhere"
        raise RunError(f"{path}: the manifest is damaged", hint) from error
    return manifest


def read_records(folder: Path, name: str = RESPONSES) -> list[dict[str, Any]]:
    """The newest line of every dialogue, in the order in which dialogues first appear. A cut last line is left out.

    Args:
        folder: Of the run.
        name: Of the file in it.

    Raises:
        RunError: A line in the middle is damaged; says which.
    """
    return newest(read_lines(folder, name))


def newest(lines: Iterable[tuple[int, R]]) -> list[R]:
    """Of lines with their numbers the last one of every dialogue, in the order in which dialogues first appear."""
    return list({record["id"]: record for _, record in lines}.values())


def read_lines(folder: Path, name: str = RESPONSES) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every line of a run with its number, from 1. A cut last line is left out; raises as `read_records` does."""
    path = folder / name
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
            hash(record["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path}, line {number}: no reply can be read here", "take the line out to have it answered again"
            ) from error
        yield number, record


def list_runs(parent: Path) -> Iterator[Path]:
    """Run folders directly below a folder, by name."""
    yield from sorted(path.parent for path in parent.glob(f"*/{MANIFEST}"))


def _stage_record(stage: Stage) -> dict[str, Any]:
    completion = asdict(stage.completion)
    return {
        "name": stage.name,
        "messages": [asdict(message) for message in stage.messages],
        **completion,
        "exemplars_dropped": stage.dropped,
    }


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

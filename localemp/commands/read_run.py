"""A stored run for reading: `localemp.read_run("runs/x")`, what `localemp runs show` shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.runs.bill import Bill
from localemp.runs.run import read_bill, read_manifest, read_records
from localemp.utils.paths import StrPath


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as its folder has it.

    Attributes:
        folder: The folder.
        settings: Everything that can change the replies.
        sessions: Every start or resume: command, versions, machine, engine.
        records: The newest line of every dialogue, in the data's order: "id", and "reply", "stages", ... or "error".
        bill: What it has cost over all sessions.
    """

    folder: Path
    settings: Mapping[str, Any]
    sessions: tuple[Mapping[str, Any], ...]
    records: tuple[Mapping[str, Any], ...]
    bill: Bill

    @property
    def replies(self) -> dict[str, str]:
        """The replies by the ids of their dialogues."""
        return {str(record["id"]): str(record["reply"]) for record in self.records if "error" not in record}

    @property
    def errors(self) -> dict[str, Mapping[str, Any]]:
        """The failures by the ids of their dialogues: "type", "message" and often "hint"."""
        return {str(record["id"]): record["error"] for record in self.records if "error" in record}


def read_run(folder: StrPath) -> StoredRun:
    """Read a run; it may still be written by another process.

    Args:
        folder: The run's folder.

    Raises:
        RunError: It is no run, or is damaged.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    return StoredRun(
        path, manifest["settings"], tuple(manifest["sessions"]), tuple(read_records(path)), read_bill(path)
    )

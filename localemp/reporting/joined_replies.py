"""The replies of one or more runs as one table, joined by the ids of dialogues, in the order of the data.

Prompts, which are most of a run, are left out as its lines are read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localemp.errors import OptionError, RunError
from localemp.metrics.replies import feeling_of
from localemp.runs.order import NO_POSITIONS, in_order, knows_positions
from localemp.runs.run import read_lines, read_manifest
from localemp.utils.formatting import count
from localemp.utils.row_files import ColumnType

Cells = dict[str, Any]

DIALOGUE: Mapping[str, ColumnType] = {
    "position": "whole",
    "id": "text",
    "emotion": "text",
    "situation": "text",
    "context": "turns",
    "reference": "text",
}
"""The columns that tell the dialogue; those of each run follow."""
REPLY = ("reply", "finish_reason", "feeling", "error")
"""The columns of a run, with its name before them ("few-shot: reply") where there are several. The last two are there
only where a line has them: a strategy without a stage "feeling" says none, and most runs have no error."""

_TELLS_APART = ("context", "reference")
_SAME_DATA = "export runs of the same data, split and instances together"


@dataclass(slots=True)
class _Run:
    """What is known of a run, without its texts."""

    name: str
    path: Path
    data: Any
    ids: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    failed: int = 0
    positions: bool = True
    dialogues: int = 0


class JoinedReplies:
    """A table of the replies of one or more runs: a row for each dialogue.

    Args:
        several: Whether columns have the names of runs.
    """

    def __init__(self, several: bool) -> None:
        self._several, self._runs = several, list[_Run]()
        self._rows: dict[str, Cells] = {}
        self._used: set[str] = set()

    def add(self, name: str, path: Path) -> None:
        """Read a run.

        Raises:
            OptionError: A dialogue is another one than an earlier run's of the same id.
            RunError: It is no run, or a line is damaged.
        """
        manifest = read_manifest(path)
        sessions = [session.get("dialogues", 0) for session in manifest["sessions"]]
        run = _Run(name, path, manifest["settings"].get("data_sha256"), dialogues=max(sessions, default=0))
        records = in_order(path, ((number, _needed(record)) for number, record in read_lines(path)))
        run.positions = knows_positions(records)
        self._runs.append(run)
        for record in records:
            self._take(run, record)

    def _take(self, run: _Run, record: Cells) -> None:
        run.ids.add(record["id"])
        if "reply" in record:
            run.answered.add(record["id"])
        run.failed += "error" in record
        row = self._rows.setdefault(record["id"], {"id": record["id"]})
        for name in ("emotion", "situation", "context", "reference"):
            if row.setdefault(name, record.get(name)) is None:
                row[name] = record.get(name)
            elif name in _TELLS_APART and record.get(name) not in (None, row[name]):
                raise OptionError(
                    f"{record['id']!r} is another dialogue in {run.name} than in runs before it: its {name} differs",
                    _SAME_DATA,
                )
        if row.get("position") is None:
            row["position"] = record["position"]
        for name in REPLY:
            if record.get(name) is not None:
                self._used.add(column := self._column(run, name))
                row[column] = record[name]

    def check(self) -> None:
        """Check that there is something to write, and that the runs have something in common.

        Raises:
            RunError: No run has a reply.
            OptionError: Runs share no dialogue.
        """
        if not any(run.answered for run in self._runs):
            names = " and ".join(str(run.path) for run in self._runs)
            raise RunError(f"{names}: no replies yet", "rerun the command that made the run to resume it")
        first, *others = (run for run in self._runs if run.ids)
        for run in others:
            if not run.ids & first.ids:
                raise OptionError(f"no dialogue is in both {first.name} and {run.name}", _SAME_DATA)

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The columns and their types."""
        of_runs = [(run, name) for run in self._runs for name in REPLY]
        always = REPLY[:2]
        return {
            **DIALOGUE,
            **{
                column: "text"
                for run, name in of_runs
                if (column := self._column(run, name)) in self._used or name in always
            },
        }

    def rows(self, common: bool) -> list[Cells]:
        """Return the rows in the order of the data; if that differs, in the order of the first run that has them."""
        rows = list(self._rows.values())
        if common:
            rows = [row for row in rows if row["id"] in self._in_all]
        if self._same_data and all(run.positions for run in self._runs):
            rows.sort(key=lambda row: row["position"])
        return rows

    def notes(self, common: bool) -> Iterator[str]:
        """Yield what a reader needs to know."""
        if not self._same_data:
            yield "the runs have different data: dialogues of the same id are joined, in the order of the first run"
        if without := [run.name for run in self._runs if not run.positions]:
            yield f"{', '.join(without)}: {NO_POSITIONS}"
        every = len(self._in_all) if common else len(self._rows)
        if common and every < len(self._rows):
            yield f"{count(every, 'dialogue')} of {len(self._rows):,}, to which every run has a reply"
        for run in self._runs:
            if not common and (lacking := every - len(run.answered)):
                failed = f", {run.failed:,} of which failed" if run.failed else ""
                yield f"{run.name} has no reply to {lacking:,} of {count(every, 'dialogue')}{failed}: empty cells"
            if len(run.ids) < run.dialogues:
                yield f"{run.name} is not finished: {len(run.ids):,} of {count(run.dialogues, 'dialogue')}"

    @property
    def _in_all(self) -> set[str]:
        return set.intersection(*(run.answered for run in self._runs))

    @property
    def _same_data(self) -> bool:
        return len({run.data for run in self._runs}) == 1

    def _column(self, run: _Run, name: str) -> str:
        return f"{run.name}: {name}" if self._several else name


def _needed(record: Mapping[str, Any]) -> Cells:
    """Return what a table has of a line; the prompts, which are most of it, are left out."""
    told = {"id": record["id"], "position": record.get("position")}
    if "error" in record:
        return told | {"error": record["error"]["message"]}
    names = ("emotion", "situation", "reference", "reply", "finish_reason")
    return (
        told
        | {name: record[name] for name in names}
        | {"context": record["turns"] or None, "feeling": feeling_of(record)}
    )

"""What a run has, without its texts: what can be counted and chosen from, however long the run is.

chosen = outline(run)[:20]
records = whole(run, chosen)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localemp.runs.order import in_order
from localemp.runs.run import read_lines
from localemp.runs.truncation import ending_of

Record = dict[str, Any]

_OF_LINES = ("id", "position", "error")
_OF_STAGES = ("completion_tokens", "thinking_tokens")


def outline(run: Path) -> list[Record]:
    """Return the newest line of every dialogue, in the data's order, with all but its texts and settings.

    Raises:
        RunError: A line is damaged; says which.
    """
    return in_order(run, ((number, _outlined(number, record)) for number, record in read_lines(run)))


def whole(run: Path, chosen: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Return the whole lines of some that `outline` returned, in their order.

    Raises:
        RunError: As `outline`.
    """
    lines = dict(read_lines(run, {each["line"] for each in chosen}))
    return [lines[each["line"]] | {"position": each["position"]} for each in chosen]


def _outlined(number: int, record: Mapping[str, Any]) -> Record:
    told = {name: record[name] for name in _OF_LINES if name in record}
    stages = [
        {name: stage.get(name) for name in _OF_STAGES} | {"thinking": bool(stage.get("thinking"))}
        for stage in record.get("stages", ())
    ]
    return {**told, "line": number, "stages": stages, "ending": ending_of(record)}

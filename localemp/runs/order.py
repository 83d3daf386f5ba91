"""The order of a run's lines: that of its data, whatever the order in which dialogues were answered.

Each line has the position of its dialogue in the data. Lines of earlier versions have none: it is looked up in the
data where that is still found, by its SHA-256. Otherwise dialogues stand in the order of their ids, numbers in them by
value, which is the same for every run of the data.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from localemp.data.sources import data_hash, load_dialogues
from localemp.errors import RunError
from localemp.runs.journal import newest, read_manifest

Record = dict[str, Any]

NO_POSITIONS = (
    "in the order of the dialogues' ids: the run is of an earlier version, which kept no positions, and its data was "
    "not found here"
)
"""What is said of a run whose order is not that of its data."""

# Where runs without a record of their data may have it from.
_USUAL = ("samples", "empathetic-dialogues")
_DATA = re.compile(r"(?:--data=|-d)(.+)")
_DIGITS = re.compile(r"(\d{1,18})")


def in_order(folder: Path, lines: Iterable[tuple[int, Record]]) -> list[Record]:
    """Return the newest line of every dialogue, in the data's order.

    Args:
        folder: The run's folder.
        lines: Its numbered lines, or the parts of them that are needed. "position" becomes None where it is not known.
    """
    records = newest(lines)
    lacking = [record for record in records if record.get("position") is None]
    if lacking:
        positions = _positions(folder)
        for record in lacking:
            record["position"] = positions.get(record["id"])
    if not knows_positions(records):
        return sorted(records, key=lambda record: _by_value(record["id"]))
    return sorted(records, key=lambda record: (record["position"], record["id"]))


def knows_positions(records: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the order of records is that of the data."""
    return all(record["position"] is not None for record in records)


def numbers_of(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the number by which `--index` finds each record: its position in the data, else its place in the order."""
    if not knows_positions(records):
        return list(range(len(records)))
    return [record["position"] for record in records]


def named_data(sessions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the data that a run's sessions name, those of earlier versions in their commands; the newest first."""
    for session in reversed(sessions):
        if isinstance(recorded := session.get("data"), str) and recorded:
            yield recorded
        try:
            words = shlex.split(session["command"])
        except ValueError:  # an open quotation mark
            continue
        for word, following in pairwise([*words, ""]):
            if word in ("--data", "-d") and following:
                yield following
            elif told := _DATA.fullmatch(word):
                yield told[1]


def _by_value(name: str) -> tuple[list[Any], str]:
    """Return what sorts "d2" before "d10"; texts and numbers alternate, so that they are never compared."""
    return [int(part) if number % 2 else part for number, part in enumerate(_DIGITS.split(name))], name


def _positions(folder: Path) -> Mapping[str, int]:
    """Return the position of each dialogue in a run's data; nothing if it is not found."""
    try:
        manifest = read_manifest(folder)
    except RunError:
        return {}
    settings = manifest["settings"]
    wanted, split, instances = (settings.get(name) for name in ("data_sha256", "split", "instances"))
    if not (isinstance(wanted, str) and isinstance(split, str) and instances in ("clean", "published")):
        return {}
    for source in dict.fromkeys([*named_data(manifest["sessions"]), *_USUAL]):
        found, positions = _read(source, split, instances)
        if found == wanted:
            return positions
    return {}


@cache
def _read(source: str, split: str, instances: Any) -> tuple[str, Mapping[str, int]]:
    """Return the SHA-256 of a data set and its ids' positions; nothing if it cannot be read, whatever the reason."""
    try:
        dialogues = load_dialogues(source, split, instances)
    except Exception:
        return "", {}
    return data_hash(dialogues), {dialogue.id: number for number, dialogue in enumerate(dialogues)}

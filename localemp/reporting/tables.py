"""The table type of all results: automatic metrics, people and judges, correlations and cost.

Results become a `Table`; page, terminal, Markdown, LaTeX and CSV can write any of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

NOT_AVAILABLE = "n/a"
NOT_GIVEN = "–"

Kind = Literal[
    "automatic", "differences", "emotions", "people", "correlation", "calibration", "effort", "made", "bench"
]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: The text that is shown.
        value: The unrounded number; None for text or a missing value.
        about: How it was computed, or why it is missing.
        mark: A letter that one of the table's notes explains.
        interval: The confidence interval, unrounded.
        bold: Whether it stands out as one of the best of its column.
    """

    text: str
    value: float | None = None
    about: str = ""
    mark: str = ""
    interval: tuple[float, float] | None = None
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One system.

    Attributes:
        name: The system's name.
        cells: One for each column.
        about: A second line: model and strategy, or the source of a published row.
        published: Whether the values are the paper's.
        beside: Whether it is the counterpart of our rows above it.
        warning: Something that no reader may overlook: that the run is not finished.
    """

    name: str
    cells: tuple[Cell, ...]
    about: str = ""
    published: bool = False
    warning: str = ""
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A note below a table, commands in backticks.

    Attributes:
        text: What it says.
        mark: Its letter, if it is about some cells.
        defines: Whether it explains columns or methods, so that a document needs it once; see `told_once`.
    """

    text: str
    mark: str = ""
    defines: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its notes and the origin of its numbers.

    Attributes:
        key: A short name for files and links.
        kind: The question it answers; a section holds the tables of one kind.
        title: A line above it.
        head: The head of the first column: what the rows are.
        columns: The heads of the cells.
        rows: Our rows, each followed by its counterparts in the paper, then the paper's other rows.
        notes: Notes below the table.
        made: How the numbers were made: a signature, and the rows it belongs to.
    """

    key: str
    kind: Kind
    title: str
    head: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()
    made: tuple[tuple[str, str], ...] = ()

    @property
    def parted(self) -> Iterator[tuple[bool, Row]]:
        """The rows, each with whether a rule separates it from the one above (after a row of the paper)."""
        kinds = [(row.published, row.beside) for row in self.rows]
        ours, others = (False, False), (True, False)
        for place, row in enumerate(self.rows):
            before, kind = kinds[max(place - 1, 0)], kinds[place]
            yield before != kind and (kind == others or (kind == ours and before[0])), row


def told_once(tables: Iterable[Table]) -> list[Table]:
    """Leave out definitions that an earlier table has, and name that table; for what is read from top to bottom."""
    first: dict[Note, str] = {}
    found = []
    for table in tables:
        again = {note: first[note] for note in table.notes if note.defines and note in first}
        first |= {note: table.title for note in table.notes if note not in first}
        titles = listed(f"“{title}”" for title in again.values()) if again else ""
        see = [Note(f"See also the notes below {titles}.")] if again else []
        found.append(replace(table, notes=(*(note for note in table.notes if note not in again), *see)))
    return found


def number(value: float, decimals: int) -> str:
    """Return a number as tables show it."""
    return f"{value:,.{decimals}f}"


def amount(value: float, decimals: int) -> str:
    """Return an amount as charts show it; one above 0 that would round to 0 is "<0.01"."""
    smallest = 10**-decimals
    return f"<{smallest:.{decimals}f}" if 0 < value < smallest / 2 else number(value, decimals)


def listed(names: Iterable[str], everyone: Sequence[str] = ()) -> str:
    """Return names for a sentence: "a, b and c"; "all" if they are everyone and more than one."""
    found = list(dict.fromkeys(names))
    if len(everyone) > 1 and set(found) == set(everyone):
        return "all"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def spans(text: str) -> list[str]:
    """Split a note at its backticks: plain text and commands alternate."""
    return re.split("`([^`]+)`", text)


def not_available(reasons: Mapping[str, Mapping[str, Sequence[str]]], everyone: Sequence[str]) -> list[Note]:
    """Return a note for every reason why cells are empty, from reason -> column -> rows."""
    notes = []
    for reason, columns in reasons.items():
        rows: dict[str, list[str]] = {}
        for column, names in columns.items():
            rows.setdefault(listed(names, everyone), []).append(column)
        notes += [Note(f"{NOT_AVAILABLE} in {listed(each)} ({names}): {reason}") for names, each in rows.items()]
    return notes

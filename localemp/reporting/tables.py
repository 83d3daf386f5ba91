"""The one table type: automatic metrics, people and judges, correlations and effort all come as a `Table`.

Whoever has results makes a `Table` of them; page, terminal, Markdown, LaTeX and CSV write any of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

NOT_AVAILABLE = "n/a"
NOT_GIVEN = "–"

Kind = Literal["automatic", "people", "correlation", "effort", "made", "bench"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: As it is shown.
        value: The number behind it, unrounded; None where it is text or there is none.
        about: How it was made, or why there is none.
        mark: A letter that one of the table's notes explains.
        interval: Where the value lies, unrounded.
    """

    text: str
    value: float | None = None
    about: str = ""
    mark: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One system.

    Attributes:
        name: What the reader knows it by.
        cells: One for each column.
        about: A second line: model and strategy, or the source of a published row.
        published: Whether the figures are the paper's, not ours.
        beside: Whether it is the counterpart of the rows of ours above it.
        warning: What nobody may overlook: that the run is not finished.
    """

    name: str
    cells: tuple[Cell, ...]
    about: str = ""
    published: bool = False
    warning: str = ""
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """What has to be said beneath a table, commands between backticks; with a mark where it is about some cells."""

    text: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with what is needed to believe it.

    Attributes:
        key: A short name for files and links.
        kind: What question it answers; sections are made of tables of one kind.
        title: A line above it.
        head: What the rows are.
        columns: What the cells are.
        rows: Ours, each with the paper's beside it beneath, then the paper's others.
        notes: Beneath it.
        made: How the numbers were made: a signature, and the rows that it is of.
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
        """The rows, each with whether a rule parts it from the one above: where ours end with a row of the paper."""
        kinds = [(row.published, row.beside) for row in self.rows]
        ours, others = (False, False), (True, False)
        for place, row in enumerate(self.rows):
            before, kind = kinds[max(place - 1, 0)], kinds[place]
            yield before != kind and (kind == others or (kind == ours and before[0])), row


def number(value: float, decimals: int) -> str:
    """A number as tables show it."""
    return f"{value:,.{decimals}f}"


def amount(value: float, decimals: int) -> str:
    """Return an amount as charts show it; one above 0 that would round to 0 is "<0.01"."""
    smallest = 10**-decimals
    return f"<{smallest:.{decimals}f}" if 0 < value < smallest / 2 else number(value, decimals)


def listed(names: Iterable[str], everyone: Sequence[str] = ()) -> str:
    """Names in a sentence: "a, b and c"; "all" where they are everyone and more than one."""
    found = list(dict.fromkeys(names))
    if len(everyone) > 1 and set(found) == set(everyone):
        return "all"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def spans(text: str) -> list[str]:
    """A note's text cut at its backticks: plain text and commands in turn."""
    return re.split("`([^`]+)`", text)


def not_available(reasons: Mapping[str, Mapping[str, Sequence[str]]], everyone: Sequence[str]) -> list[Note]:
    """A note for every reason why cells are empty, from reason -> column -> rows."""
    notes = []
    for reason, columns in reasons.items():
        rows: dict[str, list[str]] = {}
        for column, names in columns.items():
            rows.setdefault(listed(names, everyone), []).append(column)
        notes += [Note(f"{NOT_AVAILABLE} in {listed(each)} ({names}): {reason}") for names, each in rows.items()]
    return notes

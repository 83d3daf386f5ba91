"""Shared helpers of the tables of a study: rows of cells by column, and labels."""

import re
from collections.abc import Mapping, Sequence

from localemp.metrics.ttest import TTest
from localemp.reporting.tables import NOT_AVAILABLE, Cell, Kind, Note, Row, Table, listed, not_available
from localemp.studies.report.captions import FEW, TOO_FEW
from localemp.studies.report.results import RaterResults, StudyResults
from localemp.utils.formatting import count

ALL = "All aspects"
UNFINISHED = " (not finished)"

Cells = list[tuple[str, Cell]]


def tabled(
    key: str,
    title: str,
    head: str,
    rows: Sequence[tuple[str, Cells]],
    notes: Sequence[str | Note],
    dialogues: int = FEW,
    kind: Kind = "people",
) -> Table:
    """Return a table, with a note if its intervals are over few dialogues.

    Texts among the notes explain columns and methods; a `Note` is about this table alone.
    """
    reasons: dict[str, dict[str, list[str]]] = {}
    for name, row in rows:
        for column, cell in row:
            if cell.text.endswith(NOT_AVAILABLE):
                reasons.setdefault(cell.about, {}).setdefault(column, []).append(name)
    why = not_available(reasons, [name for name, _ in rows])
    is_few = dialogues < FEW and any(cell.interval for _, row in rows for _, cell in row)
    return Table(
        key,
        kind,
        title,
        head,
        tuple(column for column, _ in rows[0][1]),
        tuple(Row(name, tuple(cell for _, cell in row)) for name, row in rows),
        (
            *why,
            *(Note(note, defines=True) if isinstance(note, str) else note for note in notes),
            *([Note(TOO_FEW)] if is_few else []),
        ),
    )


def part_of(aspect: str | None, group: str | None) -> str:
    """Return the row label: an aspect or all, within a comparison or system or over all."""
    return f"{aspect or ALL}, {group}" if group else aspect or ALL


def units_of(results: StudyResults) -> str:
    """Return the name of the unit of one answer."""
    return "Items" if results.study.manifest.kind == "ab" else "Replies"


def who(opinion: RaterResults, raters: int, items: int) -> str:
    """Return the raters' name for titles."""
    them = opinion.who if opinion.judge else count(raters, "person", "people")
    return f"{them}, {count(items, 'item')}{UNFINISHED if opinion.unfinished else ''}"


def key_of(name: str) -> str:
    """Return a name as part of a table's key."""
    return re.sub(r"[^\w]+", "-", name.casefold()).strip("-")


def doubts(tests: Mapping[str, TTest]) -> list[Note]:
    """Return notes on t-tests whose assumptions fail."""
    rows: dict[str, list[str]] = {}
    for name, test in tests.items():
        for doubt in test.doubts:
            rows.setdefault(doubt, []).append(name)
    return [Note(f"The t-test is in doubt ({listed(names, list(tests))}): {doubt}.") for doubt, names in rows.items()]

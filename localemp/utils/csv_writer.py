"""The one writer of comma-separated values. A text that a spreadsheet would run as a formula is written with a guard.

Spreadsheets take a cell for a formula that begins with "=", "+", "-" or "@", or with a control character before it,
also behind blanks and quotation marks. Such a text gets an apostrophe in front, which spreadsheets take for "this is
text"; `unguarded` takes it away again, so that what we wrote is read back as it was. Numbers are written as they are.
"""

import csv
import re
from collections.abc import Iterable, Sequence

from localemp.utils.text import well_formed

Cell = str | int | float | None

_GUARD, _END = "'", "\r\n"
# Blanks and quotation marks, seen or not, that spreadsheets pass over; then what they take for the start of a formula.
_FORMULA = re.compile("[ '\"\xa0\u2018-\u201f\u3000\u200b\ufeff]*[\x00-\x1f=+\\-@\uff1d\uff0b\uff0d\uff20]")


def written(rows: Iterable[Sequence[Cell]]) -> str:
    """Rows as comma-separated values, lines ended by a line feed.

    Args:
        rows: Texts are guarded, numbers are not; None is an empty cell.
    """
    lines = list[str]()
    # What ends a line is what Python puts in quotation marks within one, and readers end lines at either.
    writer = csv.writer(_Lines(lines), lineterminator=_END)
    for row in rows:
        writer.writerow([guarded(cell) if isinstance(cell, str) else cell for cell in row])
    return "".join(line.removesuffix(_END) + "\n" for line in lines)


class _Lines:
    """A file that keeps each line on its own."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


def guarded(text: str) -> str:
    """A text as it is written into a cell."""
    text = well_formed(text)
    return f"{_GUARD}{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """The text that was written into a cell."""
    text = cell.removeprefix(_GUARD)
    return text if _FORMULA.match(text) else cell

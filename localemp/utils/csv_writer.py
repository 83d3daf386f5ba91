"""The one writer of comma-separated values. A text that a spreadsheet would run as a formula is written with a guard.

Spreadsheets take a cell for a formula that begins with "=", "+", "-" or "@", or with a control character before it,
also behind blanks and quotation marks. Such a text gets an apostrophe in front, which spreadsheets take for "this is
text"; `unguarded` takes it away again, so that what we wrote is read back as it was. Numbers are written as they are.
"""

import csv
import unicodedata
from collections.abc import Iterable, Sequence

from localemp.utils.text import well_formed

Cell = str | int | float | None

_GUARD, _END = "'", "\r\n"
_PASSED_OVER = frozenset(" '\"\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f")


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
    return f"{_GUARD}{text}" if _is_formula(text) else text


def unguarded(cell: str) -> str:
    """The text that was written into a cell."""
    text = cell.removeprefix(_GUARD)
    return text if _is_formula(text) else cell


def _is_formula(text: str) -> bool:
    """Whether the first thing to be seen begins a formula; blanks, quotation marks and what is not seen come before."""
    for character in text:
        if character < " ":
            return True
        if character in _PASSED_OVER or character.isspace() or not character.isprintable():
            continue
        return unicodedata.normalize("NFKC", character)[0] in "=+-@"  # also in full width, or small
    return False

"""Writes comma-separated values; texts that a spreadsheet would run as a formula are guarded.

Spreadsheets treat a cell as a formula if it begins with "=", "+", "-", "@" or a control character, even after blanks
and quotation marks. Such a text is prefixed with an apostrophe, which spreadsheets take as a mark for text; `unguarded`
removes it, so that texts survive a round trip. Numbers are written unchanged.
"""

import csv
import unicodedata
from collections.abc import Iterable, Sequence

from localemp.utils.text import well_formed

Cell = str | int | float | None

_GUARD, _END = "'", "\r\n"
_PASSED_OVER = frozenset(" '\"\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f")


def written(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as comma-separated values, with lines ended by a line feed.

    Args:
        rows: The cells; texts are guarded, numbers are not, and None is an empty cell.
    """
    lines = list[str]()
    # Python quotes fields that contain the line terminator; readers end lines at either character.
    writer = csv.writer(_Lines(lines), lineterminator=_END)
    for row in rows:
        writer.writerow([guarded(cell) if isinstance(cell, str) else cell for cell in row])
    return "".join(line.removesuffix(_END) + "\n" for line in lines)


class _Lines:
    """A file-like object that collects lines."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


def guarded(text: str) -> str:
    """Return a text as it is written to a cell."""
    text = well_formed(text)
    return f"{_GUARD}{text}" if _is_formula(text) else text


def unguarded(cell: str) -> str:
    """Return the text that was written to a cell."""
    text = cell.removeprefix(_GUARD)
    return text if _is_formula(text) else cell


def _is_formula(text: str) -> bool:
    """Return whether the first visible character, after blanks and quotation marks, begins a formula."""
    for character in text:
        if character < " ":
            return True
        if character in _PASSED_OVER or character.isspace() or not character.isprintable():
            continue
        return unicodedata.normalize("NFKC", character)[0] in "=+-@"  # also full-width and small forms
    return False

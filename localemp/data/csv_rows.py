"""Parses the CSV files of EmpatheticDialogues: the official ones, which are not valid CSV, and rewritten ones.

In an official file, a row is a line, fields are separated by commas, a comma inside a text is written `_comma_`, and
nothing is quoted: a `"` is part of the text. A CSV library quotes fields with a comma, a quotation mark (doubled) or a
line break. A file is parsed as real CSV if every row with a quotation mark is properly quoted.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from localemp.data.columns import example_of
from localemp.errors import DataError
from localemp.utils.text import one_line

NEEDED = ("conv_id", "utterance_idx", "context", "prompt", "utterance")
COLUMNS = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"

Row = tuple[int, list[str]]

# A quoted field, up to the next comma or the end; possessive, so that it runs in linear time.
_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"(?=,|\Z)')
_NEEDS_QUOTES = re.compile(r'[,"\n]')
_PROSE = re.compile(r"\s[^\W\d]|[^\W\d]\s")


def columns_of(path: Path, header: str) -> dict[str, int]:
    """Return the position of each column.

    Raises:
        DataError: A required column is missing.
    """
    names = [name.strip() for name in _split(header, everywhere=True) or header.split(",")]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        hint = f"EmpatheticDialogues has {COLUMNS}"
        if len(missing) > 1:  # it is another data set, rather than a damaged file
            told = one_line(", ".join(names), 300)
            raise DataError(
                path,
                f"not EmpatheticDialogues; its columns are {told}",
                f"say what they are: {example_of(names)} (docs/data.md). {hint}",
                line=1,
            )
        raise DataError(path, f"the header lacks {missing[0]}", hint, line=1)
    return {name: names.index(name) for name in names}


def rows_of(path: Path, lines: Sequence[str], at: Mapping[str, int]) -> Iterable[Row]:
    """Yield the line number and the fields of every row after the header.

    Raises:
        DataError: A row has too few fields, or an unescaped comma in a text.
    """
    width = 1 + max(at[name] for name in NEEDED)
    rows = _quoted_rows(lines, at)
    if rows is None:
        rows = [(number, line.split(",")) for number, line in enumerate(lines[1:], 2) if line.strip()]
    for number, fields in rows:
        if len(fields) < width:
            raise DataError(path, f"{len(fields)} fields, expected {len(at)}", f"the columns are {COLUMNS}", number)
        if len(fields) > len(at) and any(
            _PROSE.search(fields[at[name]]) for name in at.keys() & {"speaker_idx", "selfeval"}
        ):  # words instead of numbers and ratings ("5|5|5_2|2|5"): a stray comma shifted the columns
            raise DataError(path, "a comma inside a text", "write it as _comma_, or quote the text as in CSV", number)
        yield number, fields


def _quoted_rows(lines: Sequence[str], at: Mapping[str, int]) -> list[Row] | None:
    """Return the rows of a file in real CSV; None if it is not."""
    everywhere = '"' in lines[0]
    rows: list[Row] = []
    open_since, parts, quotes = 0, list[str](), 0
    for number, line in enumerate(lines[1:], 2):
        if not parts:
            if not line.strip():
                continue
            open_since = number
        elif _is_row(line, at):  # a text may continue on the next line, but that line is not a row
            return None
        parts.append(line)
        quotes += line.count('"')
        if quotes % 2:
            continue
        fields = _split("\n".join(parts), everywhere) if quotes else line.split(",")
        if fields is None or (quotes and len(fields) < len(at)):
            return None
        rows.append((open_since, fields))
        parts, quotes = [], 0
    return None if parts else rows


def _is_row(line: str, at: Mapping[str, int]) -> bool:
    """Return whether a line could be a row of an official file."""
    fields = line.split(",")
    return len(fields) >= len(at) and fields[at["utterance_idx"]].isdecimal()


def _split(row: str, everywhere: bool) -> list[str] | None:
    """Return the fields of a row in real CSV, quoted everywhere or only where needed; None if it is not.

    In an official file, a field may happen to begin and end with a quotation mark.
    """
    fields, start = [], 0
    while True:
        if row.startswith('"', start):
            found = _QUOTED.match(row, start)
            if found is None or not (everywhere or _NEEDS_QUOTES.search(found[1])):
                return None
            fields.append(found[1].replace('""', '"'))
            end = found.end()
        else:
            end = row.find(",", start)
            end = len(row) if end < 0 else end
            fields.append(row[start:end])
            if '"' in fields[-1]:
                return None
        if end == len(row):
            return fields
        start = end + 1

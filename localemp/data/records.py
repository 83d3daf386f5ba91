"""Reads files of records, whatever holds them: JSON lines, one JSON value, or a Parquet table.

A file that begins with `[` is one list of records; one whose first line is `{` alone is one record. Every other JSON
file has one record a line. JSON lines are read one at a time; a single value is read as a whole and is limited in size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from localemp.data.textfile import iterate_lines
from localemp.errors import DataError
from localemp.utils.json_reader import JSONError, kind_of, parse_json

TABLE = ".parquet"
ENDINGS = (".jsonl", ".json", TABLE)
"""Endings of the names of files of records; those of JSON may be followed by ".gz"."""

LARGEST_VALUE, MOST_VALUES = 256 * 2**20, 30_000_000
"""Largest text of a single JSON value in characters, and most values in it."""

_Value = tuple[str, int, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes:
        path: The file.
        unit: What `number` counts: "line", "item" or "row".
        number: Place in the file, from 1.
        value: The record, with text keys.
    """

    path: Path
    unit: str
    number: int
    value: dict[str, Any]

    @property
    def place(self) -> str:
        """The place in words, such as "line 3"."""
        return f"{self.unit} {self.number}"

    def error(self, message: str, hint: str = "") -> DataError:
        """Return an error that names file and place."""
        return error_at(self.path, self.unit, self.number, message, hint)


def error_at(path: Path, unit: str, number: int, message: str, hint: str = "") -> DataError:
    """Return an error that names the file and the line, item or row of it."""
    if unit == "line":
        return DataError(path, message, hint, number)
    return DataError(f"{path}, {unit} {number}", message, hint)


def read_records(path: Path, keys: Sequence[str], hint: str = "") -> Iterator[Record]:
    """Yield the records of a file, in order; blank lines are skipped.

    Args:
        path: The file; the ending ".parquet" says that it is a table.
        keys: The keys that matter: of a table, other columns are not read.
        hint: The hint of errors in JSON, such as an example.

    Raises:
        DataError: The file cannot be read, is damaged, too large or empty, or a record is not an object.
    """
    if path.suffix == TABLE:
        from localemp.data.parquet import read_rows

        values: Iterator[_Value] = (("row", number, row) for number, row in enumerate(read_rows(path, keys), 1))
    else:
        values = _json_values(path, hint)
    empty = True
    for unit, number, value in values:
        empty = False
        if not isinstance(value, dict):
            raise error_at(path, unit, number, f"expected a JSON object, found {kind_of(value)}", hint)
        yield Record(path, unit, number, value)
    if empty:
        raise DataError(path, "the file is empty", "give a file with at least one dialogue")


def _json_values(path: Path, hint: str) -> Iterator[_Value]:
    lines = enumerate(iterate_lines(path), 1)
    for number, line in lines:
        if not line.strip():
            continue
        if line.lstrip().startswith("[") or line.strip() == "{":
            yield from _whole(path, number, chain([line], (rest for _, rest in lines)), hint)
            return
        yield "line", number, _parsed(path, line, number, hint)
        break
    for number, line in lines:
        if line.strip():
            yield "line", number, _parsed(path, line, number, hint)


def _whole(path: Path, first: int, lines: Iterator[str], hint: str) -> Iterator[_Value]:
    """Yield the items of one JSON list, or the one object, that begins at a line."""
    pieces, size = [], 0
    for line in lines:
        pieces.append(line)
        size += len(line) + 1
        if size > LARGEST_VALUE:
            raise DataError(
                path,
                f"one JSON value of more than {LARGEST_VALUE // 2**20} MiB",
                f"write it as JSON lines, which are read one by one: jq -c '.[]' {path.name} > {path.stem}.jsonl",
            )
    value = _parsed(path, "\n".join(pieces), first, hint, MOST_VALUES)
    for number, item in enumerate(value if isinstance(value, list) else [value], 1):
        yield "item", number, item


def _parsed(path: Path, text: str, first: int, hint: str, most: int | None = None) -> Any:
    try:
        return parse_json(text, max_values=most)
    except JSONError as error:
        # A value that begins in line `first` has its own line numbers.
        raise DataError(path, str(error), hint, first - 1 + (error.line or 1)) from error

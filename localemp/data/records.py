"""Reads files of records, whatever holds them: JSON lines, one JSON list, or a Parquet table.

A file that begins with `[` is one list of records; one whose first line is `{` alone is one record. Every other JSON
file has one record a line. Records are read one at a time, those of a list, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.data.json_list import LONGEST_ITEM, iterate_items
from localemp.data.textfile import iterate_lines, iterate_pieces, unpacked
from localemp.errors import DataError
from localemp.utils.files import is_file
from localemp.utils.json_reader import JSONError, kind_of, parse_json

TABLE = ".parquet"
ENDINGS = (".jsonl", ".json", TABLE)
"""Endings of the names of files of records; those of JSON may be followed by ".gz"."""

_BEGINNING = 2**18
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

    def objects(self, key: str, values: Any, hint: str, of: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the objects of a list under a key, each with its place in words.

        Args:
            key: The key.
            values: What is under it.
            hint: What such a list looks like.
            of: What the list holds, for errors: " of messages".

        Raises:
            DataError: It is not a list, or holds something else.
        """
        if not isinstance(values, list):
            raise self.error(f'"{key}" must be a list{of}, found {kind_of(values)}', hint)
        for number, value in enumerate(values, 1):
            place = f'"{key}", item {number},'
            if not isinstance(value, dict):
                raise self.error(f"{place} must be an object, found {kind_of(value)}", hint)
            yield place, value


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
    if beginning(path).lstrip().startswith("["):
        try:
            for number, item in enumerate(iterate_items(iterate_pieces(path)), 1):
                yield "item", number, item
        except JSONError as error:
            raise DataError(path, str(error), hint, error.line) from error
        return
    lines = enumerate(iterate_lines(path), 1)
    for number, line in lines:
        if line.strip() == "{":  # one record over several lines
            yield "line", number, _parsed(path, _all_of(path, line, lines), number, hint)
        elif line.strip():
            yield "line", number, _parsed(path, line, number, hint)


def _all_of(path: Path, line: str, lines: Iterator[tuple[int, str]]) -> str:
    """Return the text of the rest of a file."""
    pieces = [line]
    size = len(line)
    for number, each in lines:
        pieces.append(each)
        size += len(each) + 1
        if size > LONGEST_ITEM:
            message = f"one JSON object of more than {LONGEST_ITEM // 2**20} MiB"
            raise DataError(path, message, "write one record a line", number)
    return "\n".join(pieces)


def _parsed(path: Path, text: str, first: int, hint: str) -> Any:
    try:
        return parse_json(text)
    except JSONError as error:
        # A text that begins in line `first` has its own line numbers.
        raise DataError(path, str(error), hint, first - 1 + (error.line or 1)) from error


def beginning(path: Path) -> str:
    """Return the first part of a file's text; "" for a pipe, which can be read only once.

    Raises:
        DataError: The file cannot be read.
    """
    if not is_file(path):
        return ""
    with unpacked(path) as (content, _):
        return content.read(_BEGINNING).decode("utf-8-sig", "replace")

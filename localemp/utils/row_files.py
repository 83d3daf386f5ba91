"""Writes one table to files of several kinds at once, row by row: JSON lines, comma-separated values, Parquet.

A file appears when it is whole. Lists of texts are the turns of a dialogue; in comma-separated values they stand in one
cell.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from localemp.utils.csv_writer import Cell, written
from localemp.utils.files import partial_of
from localemp.utils.text import well_formed

Row = Mapping[str, Any]
ColumnType = Literal["text", "turns", "whole", "number"]
FileKind = Literal["jsonl", "csv", "parquet"]
Write = Callable[[Sequence[Row]], object]

_GROUP = 4096  # rows that are written together
_SPEAKERS = ("Speaker", "Listener")


def write_rows(files: Mapping[FileKind, Path], columns: Mapping[str, ColumnType], rows: Iterable[Row]) -> list[Path]:
    """Write rows to all files, which appear together at the end.

    Args:
        files: The files, in existing folders; what is there is replaced.
        columns: Names and types of all columns, in order. Any value may be None.
        rows: The rows; they have all columns.

    Returns:
        The files.

    Raises:
        OSError: A file cannot be written; what was there stays as it was.
    """
    drafts = {kind: partial_of(path) for kind, path in files.items()}
    try:
        with ExitStack() as stack:
            writers = [_WRITERS[kind](draft, columns, stack) for kind, draft in drafts.items()]
            left = iter(rows)
            while group := list(islice(left, _GROUP)):
                for write in writers:
                    write(group)
        return [drafts[kind].replace(path) for kind, path in files.items()]
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _jsonl(path: Path, columns: Mapping[str, ColumnType], stack: ExitStack) -> Write:
    file = stack.enter_context(path.open("x", encoding="utf-8"))
    return lambda rows: file.writelines(
        well_formed(json.dumps(row, ensure_ascii=False, allow_nan=False)) + "\n" for row in rows
    )


def _csv(path: Path, columns: Mapping[str, ColumnType], stack: ExitStack) -> Write:
    file = stack.enter_context(path.open("x", encoding="utf-8", newline=""))
    file.write(written([list(columns)]))
    return lambda rows: file.write(written([_cell(row[name]) for name in columns] for row in rows))


def _cell(value: Any) -> Cell:
    if isinstance(value, list):
        return "\n".join(f"{_SPEAKERS[number % 2]}: {turn}" for number, turn in enumerate(value))
    cell: Cell = value
    return cell


def _parquet(path: Path, columns: Mapping[str, ColumnType], stack: ExitStack) -> Write:
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    types = {"text": text, "turns": pyarrow.list_(text), "whole": pyarrow.int64(), "number": pyarrow.float64()}
    schema = pyarrow.schema([(well_formed(name), types[kind]) for name, kind in columns.items()])
    file = stack.enter_context(path.open("xb"))
    writer = stack.enter_context(parquet.ParquetWriter(file, schema, compression="zstd"))

    def write(rows: Sequence[Row]) -> None:
        stored = [{well_formed(name): _stored(value) for name, value in row.items()} for row in rows]
        writer.write_table(pyarrow.Table.from_pylist(stored, schema))

    return write


def _stored(value: Any) -> Any:
    """A text, or texts, that Parquet can hold."""
    if isinstance(value, str):
        return well_formed(value)
    return [well_formed(each) for each in value] if isinstance(value, list) else value


_WRITERS: Mapping[FileKind, Callable[[Path, Mapping[str, ColumnType], ExitStack], Write]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}

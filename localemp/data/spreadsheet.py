"""Read separated values as spreadsheets write them, in any of their encodings, separators and line endings."""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from localemp.data.textfile import unpacked
from localemp.errors import DataError
from localemp.utils.csv_writer import unguarded

LARGEST = 64 * 2**20
"""Bytes of a file, also after it is unpacked."""

_AS = 'save it as "CSV UTF-8"'
_MARKED = {  # the longer ones first
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# What Excel writes as a first line for itself, and leaves alone when it saves the file again.
_SEP = re.compile(r'"?sep=([;,\t|])"?[;,\t "]*[\r\n]*', re.IGNORECASE)
_SEPARATORS = "\t;,"
_END = "\0"  # a last row, which no text has: a field without an end takes it in
_NOTHING = f' |"{_SEPARATORS}\r\n'


def read_rows(path: Path, names: Collection[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its first line.

    Args:
        path: In UTF-8, or in UTF-16 or UTF-32 with a byte order mark; may be gzipped. Its separator is the one of a
            line `sep=;`, else of tab, semicolon and comma the one that makes most columns of the first row.
        names: What columns may be called, in any case: a separator that makes more of these in the first row goes
            before another.

    Raises:
        DataError: It cannot be read, is too large, in another encoding, or a field of it has no end.
    """
    lines = list(io.StringIO(_text(path), newline=""))
    first = _SEP.fullmatch(lines[0]) if lines else None
    told = lines[1:] if first else lines
    separator = first[1] if first else _separator(told, names)
    rows = csv.reader([*told, _END], delimiter=separator)
    while True:
        line = len(lines) - len(told) + rows.line_num + 1
        try:
            fields = next(rows)
        except csv.Error as error:
            raise DataError(path, f"cannot be read as columns ({error})", "a quotation mark may lack", line) from error
        if fields == [_END]:
            return
        if fields and _END in fields[-1]:
            raise DataError(path, "a quotation mark is not closed before the file ends", "is the file whole?", line)
        if _holds_something(fields):
            yield line, [unguarded(field) for field in fields]


def spelt(heads: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a row's names of columns as we spell them: in whatever case they are, without spaces around them."""
    ours = {name.strip().casefold(): name for name in names}
    plain = [head.strip() for head in heads]
    return [head if head in names else ours.get(head.casefold(), head) for head in plain]


def _holds_something(fields: Sequence[str]) -> bool:
    """Return whether a row has more than separators."""
    return any(field.strip(_NOTHING) for field in fields)


def _separator(lines: Sequence[str], names: Collection[str]) -> str:
    """Detect the column separator; quoted text is ignored."""
    wanted = {name.strip().casefold() for name in names}

    def heads(separator: str) -> tuple[int, int]:
        try:
            row = next(filter(_holds_something, csv.reader(lines, delimiter=separator)), list[str]())
        except csv.Error:
            return 0, 0
        return sum(unguarded(head).strip().casefold() in wanted for head in row), len(row)

    return max(_SEPARATORS, key=heads)


def _text(path: Path) -> str:
    raw = _bytes(path)
    encoding = next((name for mark, name in _MARKED.items() if raw.startswith(mark)), "utf-8-sig")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line(raw[: error.start].decode(encoding, "replace"))
        raise DataError(path, f"not {encoding.removesuffix('-sig').upper()} text", _AS, line) from error
    if "\0" in text:
        raise DataError(path, "a NUL byte, which no text has", _AS, _line(text[: text.index("\0")]))
    return text


def _line(before: str) -> int:
    """Return the line number at the end of a text."""
    return len(re.findall("\r\n|\r|\n", before)) + 1


def _bytes(path: Path) -> bytes:
    with unpacked(path) as (content, _):
        raw = content.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise DataError(path, f"more than {LARGEST // 2**20} MiB", "take it apart")
    return raw

"""Reads the lines of a text file, plain or gzipped; decompression bombs are rejected."""

import codecs
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

from localemp.errors import DataError
from localemp.utils.lines import LongLineError
from localemp.utils.lines import read_lines as bounded_lines

_PIECE = 2**20
_GZIP_MAGIC = b"\x1f\x8b"
LARGEST_TEXT, MOST_LINES = 4 * 2**30, 20_000_000
"""Largest text of a file in bytes, and most lines."""
MOST_UNPACKED, ALWAYS_UNPACKED = 100, 16 * 2**20
"""Largest compression ratio (data sets have 3 to 6), and size up to which any ratio is allowed, in bytes."""


def read_lines(path: Path, errors: Literal["strict", "replace"] = "strict") -> list[str]:
    r"""Read the lines of a UTF-8 file, without line ends; gzip is recognised by content, not by name.

    Only ``\n`` ends a line: texts of the data sets contain other characters that `str.splitlines` would split at.

    Args:
        path: The file.
        errors: Whether invalid UTF-8 is an error ("strict") or replaced.

    Raises:
        DataError: The file is missing, unreadable, empty, not UTF-8, a damaged gzip file, or too large; or a line is
            too long.
    """
    lines = list(iterate_lines(path, errors))
    if not any(map(str.strip, lines)):
        raise DataError(path, "the file is empty", "give a file with at least one dialogue")
    return lines


def iterate_lines(path: Path, errors: Literal["strict", "replace"] = "strict") -> Iterator[str]:
    """Yield the lines of a file as `read_lines` returns them, one at a time; an empty file has none.

    Raises:
        DataError: As in `read_lines`.
    """
    try:
        yield from _texts(path, errors)
    except LongLineError as error:
        raise DataError(path, str(error), "is this the right file?", error.line) from error


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a file, plain or gzipped; gzip is recognised by content, not by name.

    Yields:
        The content, and the size of the gzip file in bytes: None for a plain file, 0 for a pipe.

    Raises:
        DataError: The file is missing, unreadable (also later in the block) or a damaged gzip file.
    """
    try:
        with path.open("rb") as file:
            if not file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
                yield file, None
                return
            with gzip.GzipFile(fileobj=file) as content:
                yield cast(BinaryIO, content), os.fstat(file.fileno()).st_size
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(path, f"damaged or truncated gzip file ({error})", "fetch or copy the file again") from error
    except OSError as error:
        raise DataError(path, error.strerror or str(error), "check the path and its permissions") from error


def iterate_pieces(path: Path) -> Iterator[str]:
    """Yield the text of a file in pieces, whatever its lines.

    Raises:
        DataError: As in `read_lines`, but lines may have any length, and an empty file has no pieces.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with unpacked(path) as (content, packed):
        total = 0
        try:
            while piece := content.read(_PIECE):
                total += len(piece)
                _check_size(path, packed, total)
                yield decoder.decode(piece)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise DataError(path, "not valid UTF-8", "save the file as UTF-8") from error


def _texts(path: Path, errors: str) -> Iterator[str]:
    with unpacked(path) as (content, packed):
        total = 0
        for number, line in enumerate(bounded_lines(content), 1):
            total += len(line)
            _check_size(path, packed, total, number)
            try:
                # Spreadsheets write a byte order mark.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
            except UnicodeDecodeError as error:
                raise DataError(path, "not valid UTF-8", "save the file as UTF-8", number) from error
            yield text.removesuffix("\n").removesuffix("\r")


def _check_size(path: Path, packed: int | None, total: int, lines: int | None = None) -> None:
    """Raise DataError if more bytes or lines were read than a file, or its compressed size, may have."""
    largest = min(LARGEST_TEXT, max(ALWAYS_UNPACKED, MOST_UNPACKED * packed)) if packed else LARGEST_TEXT
    if total > largest or (lines or 0) > MOST_LINES:
        most = f"{largest / 2**20:,.0f} MiB" if total > largest else f"{MOST_LINES:,} lines"
        what = "" if packed is None else " when unpacked"
        raise DataError(path, f"it has more than {most}{what}", "is this the right file?", lines)

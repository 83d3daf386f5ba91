"""Reads a text file, plain or gzipped, into lines that keep their numbers; what unpacks without end is refused."""

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

_GZIP_MAGIC = b"\x1f\x8b"
LARGEST_TEXT, MOST_LINES = 4 * 2**30, 20_000_000
"""Bytes of a file's text, and its lines."""
MOST_UNPACKED, ALWAYS_UNPACKED = 100, 16 * 2**20
"""How many times its own size a packed file may hold; data sets have 3 to 6. So much it may hold whatever its size."""


def read_lines(path: Path, errors: Literal["strict", "replace"] = "strict") -> list[str]:
    r"""Lines of a UTF-8 file, without their ends; gzip is recognised by content, not by name.

    Only ``\n`` ends a line: texts of the data sets may hold other characters that `str.splitlines` would split at.

    Args:
        path: The file.
        errors: Whether what is no UTF-8 is an error, or replaced.

    Raises:
        DataError: The file is not there, cannot be read, is empty, is not UTF-8, is a broken gzip file, or holds more
            than any data set; or one of its lines does.
    """
    try:
        lines = list(_texts(path, errors))
    except LongLineError as error:
        raise DataError(
            path, str(error), "no data set has such a line; is it another kind of file?", error.line
        ) from error
    if not any(map(str.strip, lines)):
        raise DataError(path, "the file is empty", "give a file with at least one dialogue")
    return lines


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a file, plain or gzipped; gzip is recognised by content, not by name.

    Yields:
        The content, and the bytes of the packed file: None if it is plain, 0 if nobody knows (a pipe).

    Raises:
        DataError: The file is not there or cannot be read, also later in the block, or is a broken gzip file.
    """
    try:
        with path.open("rb") as file:
            if not file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
                yield file, None
                return
            with gzip.GzipFile(fileobj=file) as content:
                yield cast(BinaryIO, content), os.fstat(file.fileno()).st_size
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(path, f"broken or cut gzip file ({error})", "fetch or copy the file again") from error
    except OSError as error:
        raise DataError(path, error.strerror or str(error), "check the path and its permissions") from error


def _texts(path: Path, errors: str) -> Iterator[str]:
    with unpacked(path) as (content, packed):
        largest, what = LARGEST_TEXT, "" if packed is None else " when it is unpacked"
        if packed:
            largest = min(largest, max(ALWAYS_UNPACKED, MOST_UNPACKED * packed))
        total = 0
        for number, line in enumerate(bounded_lines(content), 1):
            total += len(line)
            if total > largest or number > MOST_LINES:
                most = f"{largest / 2**20:,.0f} MiB" if total > largest else f"{MOST_LINES:,} lines"
                raise DataError(path, f"it has more than {most}{what}", "is it the right file?", number)
            try:
                # Spreadsheets put a byte order mark in front.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
            except UnicodeDecodeError as error:
                raise DataError(path, "not valid UTF-8", "save the file as UTF-8", number) from error
            yield text.removesuffix("\n").removesuffix("\r")

"""Reads the lines of a text file, plain or gzipped; decompression bombs are rejected."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from localemp.errors import DataError
from localemp.utils.lines import LongLineError, Readable
from localemp.utils.lines import read_lines as bounded_lines

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
    try:
        lines = list(_texts(path, errors))
    except LongLineError as error:
        raise DataError(path, str(error), "is this the right file?", error.line) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(path, f"damaged or truncated gzip file ({error})", "fetch or copy the file again") from error
    except OSError as error:
        raise DataError(path, error.strerror or str(error), "check the path and its permissions") from error
    if not any(map(str.strip, lines)):
        raise DataError(path, "the file is empty", "give a file with at least one dialogue")
    return lines


def _texts(path: Path, errors: str) -> Iterator[str]:
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        content: Readable = file
        largest, what = LARGEST_TEXT, ""
        if file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            content = stack.enter_context(gzip.GzipFile(fileobj=file))
            if size := os.fstat(file.fileno()).st_size:  # a pipe has none
                largest = min(largest, max(ALWAYS_UNPACKED, MOST_UNPACKED * size))
            what = " when unpacked"
        total = 0
        for number, line in enumerate(bounded_lines(content), 1):
            total += len(line)
            if total > largest or number > MOST_LINES:
                most = f"{largest / 2**20:,.0f} MiB" if total > largest else f"{MOST_LINES:,} lines"
                raise DataError(path, f"it has more than {most}{what}", "is this the right file?", number)
            try:
                # Spreadsheets write a byte order mark.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors)
            except UnicodeDecodeError as error:
                raise DataError(path, "not valid UTF-8", "save the file as UTF-8", number) from error
            yield text.removesuffix("\n").removesuffix("\r")

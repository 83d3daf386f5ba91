"""Reads a text file whole, plain or gzipped, into lines that keep their numbers."""

import gzip
import zlib
from pathlib import Path

from localemp.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"


def read_lines(path: Path) -> list[str]:
    r"""Lines of a UTF-8 file, without their ends; gzip is recognised by content, not by name.

    Only ``\n`` ends a line: texts of the data sets may hold other characters that `str.splitlines` would split at.

    Raises:
        DataError: The file is not there, cannot be read, is empty, is not UTF-8, or is a broken gzip file.
    """
    try:
        raw = path.read_bytes()
        if raw.startswith(_GZIP_MAGIC):
            raw = gzip.decompress(raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(path, f"broken or cut gzip file ({error})", "fetch or copy the file again") from error
    except OSError as error:
        raise DataError(path, error.strerror or str(error), "check the path and its permissions") from error
    try:
        text = raw.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(path, "not UTF-8 text", "save the file as UTF-8", line) from error
    if not text.strip():
        raise DataError(path, "the file is empty", "give a file with at least one dialogue")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]

"""Reads lines of files that may exceed memory, one at a time and limited in length."""

from collections.abc import Iterator
from typing import Protocol

LONGEST_LINE = 64 * 2**20
"""Longest line, including its end, in bytes."""


class LongLineError(ValueError):
    """A line is too long.

    Attributes:
        line: Line number, from 1.
    """

    def __init__(self, line: int, longest: int) -> None:
        super().__init__(f"the line has more than {longest / 2**20:g} MiB")
        self.line = line


class Readable(Protocol):
    """A binary file, plain or decompressed on the fly."""

    def readline(self, size: int, /) -> bytes:
        """Return the rest of a line, at most `size` bytes."""
        ...


def read_lines(file: Readable, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    r"""Yield the lines of a binary file with their ends; only ``\n`` ends a line, and the last one may have no end.

    Raises:
        OSError: The file cannot be read.
        LongLineError: A line has more bytes than `longest`.
    """
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise LongLineError(number, longest)
        yield line

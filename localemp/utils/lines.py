"""Lines of files that may be larger than the memory: read one at a time, none of them without bounds."""

from collections.abc import Iterator
from typing import Protocol

LONGEST_LINE = 64 * 2**20
"""Bytes of a line, its end included; what people and programs write stays far below."""


class LongLineError(ValueError):
    """A line that is longer than any that is read.

    Attributes:
        line: Its number, from 1.
    """

    def __init__(self, line: int, longest: int) -> None:
        super().__init__(f"the line has more than {longest / 2**20:g} MiB")
        self.line = line


class Readable(Protocol):
    """A binary file, plain or unpacked while it is read."""

    def readline(self, size: int, /) -> bytes:
        """The rest of a line, or so many bytes of it."""
        ...


def read_lines(file: Readable, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    r"""The lines of a binary file with their ends; only ``\n`` ends one, and the last may have none.

    Raises:
        OSError: It cannot be read.
        LongLineError: A line has more bytes than `longest`.
    """
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise LongLineError(number, longest)
        yield line

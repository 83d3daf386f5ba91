"""Parses server-sent events (WHATWG HTML, 9.2) from bytes that may be split anywhere."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from localemp.protocol.errors import MalformedResponseError

LARGEST_EVENT = 4 * 2**20
"""Largest event, in characters."""

_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        data: The data lines, joined by line feeds.
        type: Name of the event; "message" if it has none.
    """

    data: str
    type: str = "message"


class EventReader:
    """Splits a byte stream into events, in linear time and memory however it is split."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line: list[str] = []  # the beginning of an incomplete line
        self._data: list[str] = []
        self._type = ""
        self._size = 0
        self._after_cr = False

    def feed(self, part: bytes) -> Iterator[Event]:
        """Take received bytes, and yield every complete event.

        Raises:
            MalformedResponseError: An event is too large.
        """
        yield from self._take(self._decoder.decode(part))

    def end(self) -> Iterator[Event]:
        """Yield what is left at the end; some servers omit the last empty line."""
        yield from self._take(self._decoder.decode(b"", final=True) + "\n\n")

    def _take(self, text: str) -> Iterator[Event]:
        if self._after_cr and text:
            text = text.removeprefix("\n")  # the second half of a split line end
            self._after_cr = False
        if not text:
            return
        *whole, rest = _LINE_END.split(text)
        self._after_cr = text.endswith("\r")
        for line in whole:
            if self._line:
                self._size -= sum(map(len, self._line))  # counted again with the whole line
                line, self._line = "".join([*self._line, line]), []
            if event := self._end_line(line):
                yield event
        self._grow(len(rest))
        if rest:
            self._line.append(rest)

    def _end_line(self, line: str) -> Event | None:
        if not line:
            data, kind = self._data, self._type or "message"
            self._data, self._type, self._size = [], "", 0
            return Event("\n".join(data), kind) if data else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._grow(len(value))
        elif field == "event":
            self._type = value[:100]
        return None  # a comment, an id, a reconnection time, or an unknown field

    def _grow(self, by: int) -> None:
        self._size += by
        if self._size > LARGEST_EVENT:
            raise MalformedResponseError(f"an event of the stream has more than {LARGEST_EVENT // 2**20} MiB")

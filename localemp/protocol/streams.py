"""Parses streamed completions of OpenAI-compatible servers. No field is trusted."""

from collections.abc import Iterator
from dataclasses import replace

from localemp.protocol.completions import (
    MAX_RESPONSE_BYTES,
    Choice,
    ParsedCompletion,
    decode,
    read_completion,
    to_completion,
    with_texts,
)
from localemp.protocol.errors import MalformedResponseError, ServerError
from localemp.protocol.events import EventReader
from localemp.utils.text import PairJoiner, one_line

DONE = "[DONE]"
_BEGINNING = 400  # bytes kept to quote what came instead of a stream


class StreamReader:
    """Parses a streamed completion chunk by chunk, in any content type and framing.

    If a server sends a whole completion instead of a stream, it counts as one chunk. A stream is complete when every
    choice has a finish reason, or "[DONE]" has come.
    """

    def __init__(self) -> None:
        self._events = EventReader()
        self._whole: list[bytes] | None = None  # if it is not a stream
        self._beginning = b""
        self._size = 0
        self._over = self._any = False
        self._open: dict[int, bool] = {}  # choice -> whether it continues
        self._halves: dict[tuple[int, str], PairJoiner] = {}

    @property
    def done(self) -> bool:
        """Whether the stream is complete."""
        return self._over or (bool(self._open) and not any(self._open.values()))

    @property
    def over(self) -> bool:
        """Whether "[DONE]" has come; anything after it is ignored."""
        return self._over

    def feed(self, part: bytes) -> Iterator[ParsedCompletion]:
        """Take received bytes, and yield every chunk that is complete.

        Raises:
            ServerError: The server reports an error; anything after it is ignored.
            MalformedResponseError: It is not a stream of chunks, or too long.
        """
        self._size += len(part)
        if self._size > MAX_RESPONSE_BYTES:
            raise MalformedResponseError(f"more than {MAX_RESPONSE_BYTES // 2**20} MiB")
        if self._whole is None and not self._any and len(self._beginning) < _BEGINNING:
            self._beginning += part[:_BEGINNING]
            start = self._beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
            # No line of an event stream begins like this.
            if start[:1] in (b"{", b"["):
                self._whole = []
        if self._whole is not None:
            self._whole.append(part)
            return
        for event in self._events.feed(part):
            yield from self._event(event.data, event.type)

    def end(self) -> Iterator[ParsedCompletion]:
        """Yield what is left at the end of the stream.

        Raises:
            ServerError: As in `feed`.
            MalformedResponseError: As in `feed`; or the stream ended without a finish reason or "[DONE]".
        """
        if self._whole is not None:
            answer = read_completion(b"".join(self._whole))
            self._over = True
            yield answer
            return
        for event in self._events.end():
            yield from self._event(event.data, event.type)
        if not self._any:
            beginning = one_line(self._beginning.decode("utf-8", "replace"))
            raise MalformedResponseError(f"a stream without a chunk: {beginning}" if beginning else "an empty stream")
        if not self.done:
            raise MalformedResponseError("the stream was cut: neither a finish reason nor [DONE] came")

    def _event(self, data: str, kind: str) -> Iterator[ParsedCompletion]:
        if self._over or not data.strip():
            return
        if data.strip() == DONE:
            self._over = True
            return
        value = decode(data)
        if kind == "error" and not (isinstance(value, dict) and value.get("choices")):
            raise ServerError.parse(value)
        answer = to_completion(value)
        for choice in answer.choices:
            self._any = True
            self._open[choice.index] = self._open.get(choice.index, True) and choice.finish_reason is None
        yield replace(answer, choices=tuple(map(self._joined, answer.choices)))

    def _joined(self, choice: Choice) -> Choice:
        """Join characters that are split between two chunks."""
        ended = choice.finish_reason is not None
        text, thinking = (
            self._halves.setdefault((choice.index, what), PairJoiner()).feed(part, ended)
            for what, part in (("text", choice.text), ("thinking", choice.thinking))
        )
        return with_texts(choice, text, thinking)

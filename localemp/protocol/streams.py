"""Reads streamed completions as OpenAI-compatible servers send them. Nothing is trusted."""

from collections.abc import Iterator
from dataclasses import replace

from localemp.protocol.answers import LARGEST_ANSWER, Answer, Choice, decode, read_answer, to_answer, with_texts
from localemp.protocol.errors import ServedError, UnreadableAnswerError
from localemp.protocol.events import EventReader
from localemp.utils.text import PairJoiner, one_line

DONE = "[DONE]"
_BEGINNING = 400  # bytes that are kept to say what came instead of a stream


class StreamReader:
    """Reads a streamed completion chunk by chunk, in whatever content type and framing it comes.

    A server that does not stream and sends the whole completion instead is read, too: it is one chunk.

    It is whole when every choice has a finish reason, or "[DONE]" came.
    """

    def __init__(self) -> None:
        self._events = EventReader()
        self._whole: list[bytes] | None = None  # where it is no stream
        self._beginning = b""
        self._size = 0
        self._over = self._any = False
        self._open: dict[int, bool] = {}  # choice -> whether it goes on
        self._halves: dict[tuple[int, str], PairJoiner] = {}

    @property
    def done(self) -> bool:
        """Whether nothing is missing."""
        return self._over or (bool(self._open) and not any(self._open.values()))

    @property
    def over(self) -> bool:
        """Whether "[DONE]" came: nothing after it counts."""
        return self._over

    def feed(self, part: bytes) -> Iterator[Answer]:
        """Every chunk that is whole now.

        Raises:
            ServedError: The server reports an error; nothing after it counts.
            UnreadableAnswerError: It is no stream of chunks, or too long.
        """
        self._size += len(part)
        if self._size > LARGEST_ANSWER:
            raise UnreadableAnswerError(f"it has more than {LARGEST_ANSWER // 2**20} MiB")
        if self._whole is None and not self._any and len(self._beginning) < _BEGINNING:
            self._beginning += part[:_BEGINNING]
            start = self._beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
            # No line of an event stream begins so.
            if start[:1] in (b"{", b"["):
                self._whole = []
        if self._whole is not None:
            self._whole.append(part)
            return
        for event in self._events.feed(part):
            yield from self._event(event.data, event.type)

    def end(self) -> Iterator[Answer]:
        """What was held back, when nothing more comes.

        Raises:
            ServedError: As `feed`.
            UnreadableAnswerError: As `feed`; or the stream was cut: no finish reason came and no "[DONE]".
        """
        if self._whole is not None:
            answer = read_answer(b"".join(self._whole))
            self._over = True
            yield answer
            return
        for event in self._events.end():
            yield from self._event(event.data, event.type)
        if not self._any:
            said = one_line(self._beginning.decode("utf-8", "replace"))
            raise UnreadableAnswerError(f"its stream holds no chunk: {said}" if said else "its stream is empty")
        if not self.done:
            raise UnreadableAnswerError("its stream was cut: neither a finish reason nor [DONE] came")

    def _event(self, data: str, kind: str) -> Iterator[Answer]:
        if self._over or not data.strip():
            return
        if data.strip() == DONE:
            self._over = True
            return
        value = decode(data)
        if kind == "error" and not (isinstance(value, dict) and value.get("choices")):
            raise ServedError.read(value)
        answer = to_answer(value)
        for choice in answer.choices:
            self._any = True
            self._open[choice.index] = self._open.get(choice.index, True) and choice.finish_reason is None
        yield replace(answer, choices=tuple(map(self._joined, answer.choices)))

    def _joined(self, choice: Choice) -> Choice:
        """The choice with characters whole that two chunks have half each."""
        ended = choice.finish_reason is not None
        text, thinking = (
            self._halves.setdefault((choice.index, what), PairJoiner()).feed(part, ended)
            for what, part in (("text", choice.text), ("thinking", choice.thinking))
        )
        return with_texts(choice, text, thinking)

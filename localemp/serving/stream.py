"""A streamed reply on its way to the client: events are read, cleaned as a whole reply would be, and written again."""

import codecs
import json
from collections.abc import Iterator, Mapping
from typing import Any

from localemp.strategies.cleaning import Cleaner


class Events:
    """Splits a byte stream into the data of its server-sent events."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, part: bytes) -> Iterator[str]:
        """The data of every event that is whole now."""
        self._rest += self._decoder.decode(part).replace("\r\n", "\n")
        while (end := self._rest.find("\n\n")) >= 0:
            event, self._rest = self._rest[:end], self._rest[end + 2 :]
            lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
            if lines:
                yield "\n".join(lines)


def event(content: Any) -> bytes:
    """An object as a server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


class Chunks:
    """The chunks of a streamed completion, as a strategy's client gets them.

    Args:
        model: The name that the client asked for.
        before: Tokens of the stages before, which usage in the middle of the stream is to hold.
        clean: Whether texts are cleaned.

    Attributes:
        head: What all chunks have in common: id, object, created, model.
        usage: As the model's server counted it for this stage.
    """

    def __init__(self, model: str, before: Mapping[str, int], clean: bool) -> None:
        self.head: dict[str, Any] = {}
        self.usage: dict[str, Any] = {}
        self._model, self._before, self._clean = model, before, clean
        self._events = Events()
        self._cleaners: dict[int, Cleaner] = {}
        self._reasons: dict[int, str] = {}

    @property
    def text(self) -> str:
        """All of the first choice, as the model sent it."""
        return self._cleaners[0].raw if 0 in self._cleaners else ""

    @property
    def reason(self) -> str | None:
        """Why the first choice ended."""
        return self._reasons.get(0)

    def feed(self, part: bytes) -> list[dict[str, Any]]:
        """What is to be sent on of the chunks that are whole now; one with the key "error" is the last."""
        found = []
        for data in self._events.feed(part):
            chunk = {} if data == "[DONE]" else json.loads(data)
            if "error" in chunk or (chunk and self._take(chunk)):
                found.append(chunk)
        return found

    def _take(self, chunk: dict[str, Any]) -> bool:
        """Rewrite a chunk; whether anything in it is to be sent on."""
        chunk["model"] = self._model
        self.head = {key: value for key, value in chunk.items() if key not in ("choices", "usage")}
        if usage := chunk.get("usage"):
            self.usage = usage
            chunk["usage"] = usage | {name: count + (usage.get(name) or 0) for name, count in self._before.items()}
        wanted = [self._take_choice(choice) for choice in chunk.get("choices", ())]
        return any(wanted)

    def _take_choice(self, choice: dict[str, Any]) -> bool:
        index, ended = choice.get("index", 0), choice.get("finish_reason")
        cleaner = self._cleaners.setdefault(index, Cleaner())
        delta = choice.setdefault("delta", {})
        said = delta.get("content") or ""
        clean = cleaner.feed(said)
        if ended:
            self._reasons[index] = ended
            clean += cleaner.end()
        if self._clean and (said or clean):
            delta["content"] = clean
        others = any(value not in (None, "", []) for key, value in delta.items() if key != "content")
        return bool(ended or others or delta.get("content"))

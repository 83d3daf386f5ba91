"""A streamed reply on its way to the client: events are read, cleaned as a whole reply would be, and written again."""

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from localemp.strategies.base import LEADING_ROLE, NEXT_TURN

_LEADING = ("listener", "assistant")
_NEXT = ("speaker", "user")


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


class Cleaner:
    r"""Cleans a reply that comes bit by bit, as `clean_reply` cleans a whole one.

    What may be the beginning of a role ("Listen", "\nSpea") is held back until the next bit decides.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._pending = self._space = ""
        self._begun = self._over = False
        self._new_line = True

    @property
    def raw(self) -> str:
        """All of it, as the model sent it."""
        return "".join(self._parts)

    def feed(self, text: str) -> str:
        """What can be sent on now."""
        self._parts.append(text)
        self._pending += text
        return self._next(last=False)

    def end(self) -> str:
        """What was held back, when nothing more comes."""
        return self._next(last=True)

    def _next(self, last: bool) -> str:
        if not self._begun:
            if not last and _may_become(_LEADING, self._pending):
                return ""
            self._pending, self._begun = LEADING_ROLE.sub("", self._pending, count=1).lstrip(), True
        taken = []
        while self._pending and not self._over:
            line, newline, rest = self._pending.partition("\n")
            if self._new_line:
                if NEXT_TURN.match(line):
                    self._over = True
                    break
                if not newline and not last and _may_become(_NEXT, line):
                    break
            taken.append(line + newline)
            self._pending, self._new_line = rest, bool(newline)
        # White space goes on only with what follows it.
        found = self._space + "".join(taken)
        clean = found.rstrip()
        self._space = found[len(clean) :]
        return clean


def _may_become(roles: Sequence[str], text: str) -> bool:
    """Whether more text may make one of these of it; white space around is no matter."""
    said = text.strip().lower()
    return any(role.startswith(said.removesuffix(":").rstrip()) for role in roles)


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

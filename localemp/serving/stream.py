"""A streamed reply on its way to the client: chunks are read, cleaned as a whole reply would be, and written again."""

from collections.abc import Iterable, Iterator
from typing import Any

from localemp.protocol.answers import Answer, Choice, Usage
from localemp.protocol.streams import StreamReader
from localemp.serving.thoughts import Thoughts
from localemp.serving.usage import TokenSum
from localemp.strategies.cleaning import Cleaner
from localemp.web.asgi import json_bytes

# What the reader has found under these is written anew.
_SAID = ("content", "reasoning_content", "reasoning", "thinking")


def event(content: Any) -> bytes:
    """An object as a server-sent event."""
    return b"data: " + json_bytes(content) + b"\n\n"


DONE = b"data: [DONE]\n\n"


class Chunks:
    """The chunks of a streamed completion, as a strategy's client gets them.

    Args:
        model: The name that the client asked for.
        before: Tokens of the stages before, which usage in the middle of the stream is to hold.
        clean: Whether texts are cleaned.
        thoughts: Sets thinking apart from the answer; None leaves texts as the model wrote them.

    Attributes:
        head: What all chunks have in common: id, object, created, model.
        usage: As the model's server counted it for this stage; None where it does not.
    """

    def __init__(self, model: str, before: TokenSum, clean: bool, thoughts: Thoughts | None) -> None:
        self.head: dict[str, Any] = {}
        self.usage: Usage | None = None
        self._model, self._before = model, before
        self._clean, self._thoughts = clean, thoughts
        self._reader = StreamReader()
        self._sides: dict[int, _Side] = {}

    @property
    def text(self) -> str:
        """All of the first choice that is no thought, as the model sent it."""
        return self._sides[0].raw if 0 in self._sides else ""

    @property
    def thinking(self) -> str:
        """What was thought for the first choice."""
        return "".join(self._sides[0].thoughts).strip() if 0 in self._sides else ""

    @property
    def reason(self) -> str | None:
        """Why the first choice ended."""
        return self._sides[0].reason if 0 in self._sides else None

    def feed(self, part: bytes) -> list[dict[str, Any]]:
        """What is to be sent on of the chunks that are whole now.

        Raises:
            AnswerError: The server reports an error, or this is no stream of chunks.
        """
        return list(self._taken(self._reader.feed(part)))

    def end(self) -> list[dict[str, Any]]:
        """What was held back, when the stream has ended.

        Raises:
            AnswerError: It was cut, or held no chunk.
        """
        found = list(self._taken(self._reader.end()))
        # Choices that "[DONE]" ended, without a reason.
        late = [(index, side.end(None)) for index, side in self._sides.items() if not side.reason]
        said = [{"index": index, "delta": delta, "finish_reason": None} for index, delta in late if delta]
        return [*found, self.head | {"choices": said}] if said else found

    def _taken(self, answers: Iterable[Answer]) -> Iterator[dict[str, Any]]:
        for answer in answers:
            chunk = {**answer.fields, "model": self._model, "object": "chat.completion.chunk"}
            self.head = {key: value for key, value in chunk.items() if key not in ("choices", "usage")}
            if answer.usage is not None:
                self.usage = answer.usage
                chunk["usage"] = self._before.plus(answer.usage).in_answer(answer.fields["usage"])
            choices = [self._choice(choice) for choice in answer.choices]
            if any(wanted for _, wanted in choices):
                yield chunk | {"choices": [choice for choice, _ in choices]}

    def _choice(self, choice: Choice) -> tuple[dict[str, Any], bool]:
        """A choice as it is sent on, and whether anything in it is."""
        side = self._sides.setdefault(choice.index, _Side(self._clean, self._thoughts))
        said = side.feed(choice)
        delta = {key: value for key, value in choice.message.items() if key not in _SAID} | said
        fields = {key: value for key, value in choice.fields.items() if key not in ("message", "text")}
        told = any(value not in (None, "", []) for value in delta.values())
        return {**fields, "index": choice.index, "delta": delta}, told or choice.finish_reason is not None


class _Side:
    """One choice of a stream.

    Attributes:
        reason: Why it ended.
        thoughts: All that was thought.
    """

    def __init__(self, clean: bool, thoughts: Thoughts | None) -> None:
        self._clean, self._cleaner = clean, Cleaner()
        self._splitter = thoughts.stream() if thoughts else None
        self.reason: str | None = None
        self.thoughts: list[str] = []

    @property
    def raw(self) -> str:
        """All of the answer."""
        return self._cleaner.raw

    def feed(self, choice: Choice) -> dict[str, str]:
        """What is to be said of a piece: "content", "reasoning_content"."""
        text, thought = choice.text, choice.thinking
        if self._splitter:
            text, inside = self._splitter.feed(text)
            thought += inside
        said = self._say(text, thought)
        if choice.finish_reason is None:
            return said
        self.reason = choice.finish_reason
        rest = self.end(self.reason)
        return {key: said.get(key, "") + rest.get(key, "") for key in {**said, **rest}}

    def end(self, reason: str | None) -> dict[str, str]:
        """What was held back."""
        rest = self._say(*self._splitter.end(reason)) if self._splitter else {}
        held = self._cleaner.end() if self._clean else ""
        return rest | {"content": rest.get("content", "") + held} if held else rest

    def _say(self, text: str, thought: str) -> dict[str, str]:
        clean = self._cleaner.feed(text)
        text = clean if self._clean else text
        self.thoughts.append(thought)
        return ({"content": text} if text else {}) | ({"reasoning_content": thought} if thought else {})

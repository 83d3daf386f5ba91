"""A streamed reply on its way to the client: its chunks are read, cleaned as a whole reply would be, and rewritten."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from localemp.protocol.completions import Choice, ParsedCompletion, Usage
from localemp.protocol.streams import StreamReader
from localemp.serving.handler.thinking import StreamSplitter
from localemp.serving.handler.usage import TokenSum
from localemp.strategies.cleaning import Cleaner
from localemp.web.asgi import json_bytes

DONE = b"data: [DONE]\n\n"

# Keys of a delta whose texts the reader has found, and that are rewritten.
_TEXT_KEYS = ("content", "reasoning_content", "reasoning", "thinking")


def event(content: Any) -> bytes:
    """Return an object as a server-sent event."""
    return b"data: " + json_bytes(content) + b"\n\n"


class ReplyStream:
    """The chunks of a streamed completion as a strategy's client gets them.

    Args:
        model: The name of the model that the client asked for.
        tokens: The tokens of the earlier stages, to which usage in the middle of the stream is added.
        cleans: Whether texts are cleaned.
        trims: Whether a truncated reply that is cleaned is cut at its last whole sentence.
        splitter: Makes the splitter that separates a choice's thinking; None leaves texts as the model wrote them.

    Attributes:
        head: What all chunks have in common: id, object, created, model.
        usage: The usage of this stage as the model's server counted it; None if it does not.
    """

    def __init__(
        self,
        model: str,
        tokens: TokenSum,
        *,
        cleans: bool,
        trims: bool = False,
        splitter: Callable[[], StreamSplitter] | None,
    ) -> None:
        self.head: dict[str, Any] = {}
        self.usage: Usage | None = None
        self._model, self._tokens = model, tokens
        self._cleans, self._trims, self._splitter = cleans, trims, splitter
        self._reader = StreamReader()
        self._choices: dict[int, _ChoiceStream] = {}

    @property
    def text(self) -> str:
        """The first choice's answer as the model sent it, without its thinking."""
        return self._choices[0].raw if 0 in self._choices else ""

    @property
    def thinking(self) -> str:
        """The first choice's thinking."""
        return "".join(self._choices[0].thoughts).strip() if 0 in self._choices else ""

    @property
    def reason(self) -> str | None:
        """The first choice's finish reason."""
        return self._choices[0].reason if 0 in self._choices else None

    def feed(self, part: bytes) -> list[dict[str, Any]]:
        """Return the chunks that are complete now, as they are sent on.

        Raises:
            ResponseError: The server reports an error, or this is not a stream of chunks.
        """
        return list(self._rewrite(self._reader.feed(part)))

    def end(self) -> list[dict[str, Any]]:
        """Return what was held back until the end of the stream.

        Raises:
            ResponseError: The stream was cut off, or held no chunk.
        """
        found = list(self._rewrite(self._reader.end()))
        # Choices that "[DONE]" ended, without a finish reason.
        late = [(index, choice.end(None)) for index, choice in self._choices.items() if not choice.reason]
        rest = [{"index": index, "delta": delta, "finish_reason": None} for index, delta in late if delta]
        return [*found, self.head | {"choices": rest}] if rest else found

    def _rewrite(self, answers: Iterable[ParsedCompletion]) -> Iterator[dict[str, Any]]:
        for answer in answers:
            chunk = {**answer.fields, "model": self._model, "object": "chat.completion.chunk"}
            self.head = {key: value for key, value in chunk.items() if key not in ("choices", "usage")}
            choices = [self._rewrite_choice(choice) for choice in answer.choices]
            if answer.usage is not None:
                self.usage = answer.usage
                chunk["usage"] = self._tokens.plus(self._so_far(answer.usage)).as_usage(answer.fields["usage"])
            if any(has_content for _, has_content in choices):
                yield chunk | {"choices": [choice for choice, _ in choices]}

    def _so_far(self, usage: Usage) -> Usage:
        """Return the counts of a chunk beside its thinking, of which any piece will do: servers may count in each."""
        pieces = self._choices[0].thoughts if 0 in self._choices else []
        return usage.beside(next(filter(str.strip, pieces), ""))

    def _rewrite_choice(self, choice: Choice) -> tuple[dict[str, Any], bool]:
        """Return a choice as it is sent on, and whether it has any content."""
        stream = self._choices.get(choice.index)
        if stream is None:
            stream = _ChoiceStream(self._cleans, self._trims, self._splitter() if self._splitter else None)
            self._choices[choice.index] = stream
        texts = stream.feed(choice)
        delta = {key: value for key, value in choice.message.items() if key not in _TEXT_KEYS} | texts
        fields = {key: value for key, value in choice.fields.items() if key not in ("message", "text")}
        has_content = any(value not in (None, "", []) for value in delta.values())
        return {**fields, "index": choice.index, "delta": delta}, has_content or choice.finish_reason is not None


class _ChoiceStream:
    """One choice of a stream.

    Attributes:
        reason: Its finish reason.
        thoughts: The pieces of its thinking.
    """

    def __init__(self, cleans: bool, trims: bool, splitter: StreamSplitter | None) -> None:
        self._cleans, self._cleaner, self._splitter = cleans, Cleaner(trims=trims), splitter
        self.reason: str | None = None
        self.thoughts: list[str] = []

    @property
    def raw(self) -> str:
        """The whole answer before cleaning."""
        return self._cleaner.raw

    def feed(self, choice: Choice) -> dict[str, str]:
        """Return the texts to send for a piece: "content", "reasoning_content"."""
        text, thought = choice.text, choice.thinking
        if self._splitter:
            text, inside = self._splitter.feed(text)
            thought += inside
        texts = self._take(text, thought)
        if choice.finish_reason is None:
            return texts
        self.reason = choice.finish_reason
        rest = self.end(self.reason)
        return {key: texts.get(key, "") + rest.get(key, "") for key in {**texts, **rest}}

    def end(self, reason: str | None) -> dict[str, str]:
        """Return the texts that were held back."""
        rest = self._take(*self._splitter.end(reason)) if self._splitter else {}
        held = self._cleaner.end(reason) if self._cleans else ""
        return rest | {"content": rest.get("content", "") + held} if held else rest

    def _take(self, text: str, thought: str) -> dict[str, str]:
        cleaned = self._cleaner.feed(text)
        text = cleaned if self._cleans else text
        if thought:
            self.thoughts.append(thought)
        return ({"content": text} if text else {}) | ({"reasoning_content": thought} if thought else {})

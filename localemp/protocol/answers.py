"""Reads whole completions as OpenAI-compatible servers send them; `streams.py` reads them streamed. Nothing is trusted.

Null is the same as absent, a text may come in parts, thinking is set apart, counts that are no counts are unknown, and
further fields are fine. HTTP's status 200 is no success: an error may stand inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from localemp.protocol.errors import ServedError, UnreadableAnswerError
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line, well_formed

LARGEST_ANSWER = 64 * 2**20
"""Bytes of an answer, or of all of a stream."""

MOST_VALUES = 500_000
"""JSON values of an answer; one with the probabilities of a thousand tokens has some ten thousand."""

_TEXT_PARTS = ("text", "output_text", "input_text")
_THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_content", "thought")
# The first that is there counts: some servers send the same under two names.
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them; None where it does not say.

    Attributes:
        cached_tokens: Of the prompt, those that came from a prefix cache.
        reasoning_tokens: Of the completion, those of thoughts.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the texts that were asked for, or a piece of it.

    Attributes:
        index: Which of them.
        text: What was said.
        thinking: What the server sets apart as thought.
        refusal: What was said in place of an answer.
        finish_reason: Why it ended; None where it goes on, or nobody says.
        fields: All of it, as it came.
        message: What `fields` has under "message" or "delta", as it came.
    """

    index: int
    text: str
    thinking: str = ""
    refusal: str = ""
    finish_reason: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    message: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole completion, or one chunk of a stream.

    Attributes:
        choices: In the order in which they came; a chunk may have none.
        usage: None where nothing is said of it.
        fields: All of it, as it came.
    """

    choices: tuple[Choice, ...]
    usage: Usage | None
    fields: Mapping[str, Any]


def read_answer(content: bytes | str) -> Answer:
    """Read the body of a whole completion.

    Raises:
        ServedError: There is an error inside, in place of a choice or in one.
        UnreadableAnswerError: It is no completion, or one without choices.
    """
    answer = to_answer(decode(content))
    if not answer.choices:
        raise UnreadableAnswerError(f"it has no choices: {one_line(str(answer.fields))}")
    choices = (with_texts(choice, well_formed(choice.text), well_formed(choice.thinking)) for choice in answer.choices)
    return replace(answer, choices=tuple(choices))


def first_choice(answer: Answer) -> Choice:
    """The choice of an answer that was asked for one.

    Raises:
        ServedError: The server's filter held it back.
    """
    choice = answer.choices[0]
    if choice.finish_reason == "content_filter":
        raise ServedError.read({"message": "the content filter held the answer back", "code": "content_filter"})
    return choice


def to_answer(value: Any) -> Answer:
    """Read a decoded completion or chunk; texts stay as they came.

    Raises:
        ServedError: It is an error, or holds one.
        UnreadableAnswerError: It is not a completion.
    """
    if not isinstance(value, dict):
        raise UnreadableAnswerError(f"it is no completion: {one_line(str(value))}")
    if value.get("error") or value.get("object") == "error":
        raise ServedError.read(value.get("error") or value)
    listed = value.get("choices")
    if listed is None and ("choices" in value or "usage" in value or value.get("object") in _OBJECTS):
        listed = []
    if not isinstance(listed, list):
        raise UnreadableAnswerError(f"it is no completion: {one_line(str(value))}")
    choices = tuple(_choice(one, place) for place, one in enumerate(listed))
    return Answer(choices, read_usage(value.get("usage")), value)


_OBJECTS = ("chat.completion", "chat.completion.chunk", "text_completion")


def read_usage(value: Any) -> Usage | None:
    """Read what an answer has under "usage"."""
    if not isinstance(value, dict):
        return None
    return Usage(
        _count(value.get("prompt_tokens")),
        _count(value.get("completion_tokens")),
        _count(value.get("total_tokens")),
        _count(_inner(value, "prompt_tokens_details").get("cached_tokens")),
        _count(_inner(value, "completion_tokens_details").get("reasoning_tokens")),
    )


def decode(content: bytes | str) -> Any:
    """Decode the JSON of an answer or a chunk.

    Raises:
        UnreadableAnswerError: It is not valid JSON, or holds too many values.
    """
    try:
        return parse_json(content, max_values=MOST_VALUES)
    except JSONError as error:
        beginning = content[:800] if isinstance(content, str) else content[:800].decode("utf-8", "replace")
        shown = one_line(beginning)
        raise UnreadableAnswerError(f"{error}: {shown}" if shown else str(error)) from error


def _choice(value: Any, place: int) -> Choice:
    if not isinstance(value, dict):
        raise UnreadableAnswerError(f"one of its choices is none: {one_line(str(value))}")
    if value.get("error"):
        raise ServedError.read(value["error"])
    message = value.get("message") or value.get("delta")
    # Without a message it is the older API of plain completions.
    message = message if isinstance(message, dict) else {"content": value.get("text")}
    text, thinking, refusal = _content(message.get("content"))
    set_apart = next((said for key in _THOUGHT_KEYS if (said := _words(message.get(key)))), "")
    reason = value.get("finish_reason")
    reason = one_line(reason, 50) if isinstance(reason, str) and reason else None
    if reason == "error":
        raise ServedError.read({"message": text or "it ended with the finish reason 'error'"})
    index = value.get("index")
    return Choice(
        index if isinstance(index, int) and not isinstance(index, bool) else place,
        text,
        set_apart + thinking,
        refusal or _words(message.get("refusal")),
        reason,
        value,
        message,
    )


def with_texts(choice: Choice, text: str, thinking: str) -> Choice:
    """Return a choice with other texts."""
    same = text == choice.text and thinking == choice.thinking
    return choice if same else replace(choice, text=text, thinking=thinking)


def _content(value: Any) -> tuple[str, str, str]:
    """Text, thought and refusal of what stands under "content"."""
    texts, thoughts, refusals = [], [], []
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = part.get("type")
            if kind in _THOUGHT_PARTS:
                thoughts.append(
                    next((said for key in (kind, "text", "summary") if (said := _words(part.get(key)))), "")
                )
            elif kind == "refusal":
                refusals.append(_words(part.get("refusal")))
            elif kind in _TEXT_PARTS or kind is None:
                texts.append(_words(part.get("text")))
            # Pictures, sounds and calls are no text.
        elif part is not None:
            raise UnreadableAnswerError(f"the text of a choice is none: {one_line(str(part))}")
    return "".join(texts), "".join(thoughts), "".join(refusals)


def _words(value: Any) -> str:
    """A text that may be in parts, or in an object that has it under "text", "value" or "content"."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_words, value))
    if isinstance(value, dict):
        return next((said for key in ("text", "value", "content") if (said := _words(value.get(key)))), "")
    return ""


def _inner(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _count(value: Any) -> int | None:
    """A number of tokens; None for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None

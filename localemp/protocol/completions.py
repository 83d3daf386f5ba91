"""Parses whole completions of OpenAI-compatible servers; `streams.py` parses streamed ones. No field is trusted.

Null means absent, a text may come in parts, thinking is separated, invalid counts are unknown, and further fields are
ignored. Status 200 does not mean success: the body may hold an error.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from localemp.protocol.errors import MalformedResponseError, ServerError
from localemp.protocol.refusals import FILTERED, why_blocked, why_withheld
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line, well_formed

MAX_RESPONSE_BYTES = 64 * 2**20
"""Largest response, or sum of all chunks of a stream, in bytes."""

MAX_VALUES = 500_000
"""Most JSON values of a response; one with the log probabilities of a thousand tokens has about ten thousand."""

_MOST_POSITIONS, _MOST_TOKENS = 16, 128  # of log probabilities that are read: positions, and tokens at each
_SURPLUS = 0.01  # by which probabilities may exceed 1, through rounding

# Gemini's own words, some of which its endpoint for OpenAI's clients passes on.
_REASONS = dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "spii"), FILTERED)
_REASONS["max_tokens"] = "length"

_TEXT_PARTS = ("text", "output_text", "input_text")
_THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_content", "thought")
# The first one present is used: some servers send the same text under two names.
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server reports them; None if it does not.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the completion.
        total_tokens: Sum of both.
        cached_tokens: Prompt tokens that came from the prefix cache.
        reasoning_tokens: Those of the completion that were thinking; never more than it has.
        cost: US dollars that the server says it charges.
        cache_write_tokens: Prompt tokens that were written to the prefix cache.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    cache_write_tokens: int | None = None

    def beside(self, thinking: str) -> "Usage":
        """Return the counts for a completion with this thinking: vLLM's server counts 0 where the prompt opened it."""
        return replace(self, reasoning_tokens=None) if thinking.strip() and self.reasoning_tokens == 0 else self

    def counted_before(self) -> "Usage":
        """Return the counts for a further choice of the same completion: 0 where they are known."""
        return Usage(*(None if count is None else 0 for count in astuple(self)))


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of a completion, or a piece of it.

    Attributes:
        index: Index of the choice.
        text: The answer.
        thinking: The thinking, if the server separates it.
        refusal: The model's refusal to answer.
        finish_reason: Why the text ended; None if it continues or the server does not say.
        fields: The whole choice, as received.
        message: The value of "message" or "delta" in `fields`, as received.
    """

    index: int
    text: str
    thinking: str = ""
    refusal: str = ""
    finish_reason: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    message: Mapping[str, Any] = field(default_factory=dict)

    @property
    def withheld(self) -> str:
        """Why it is no answer: the model refused, or a content filter withheld it; empty if it is one."""
        return why_withheld(self.text, self.refusal, self.finish_reason, self.fields)


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A whole completion, or one chunk of a stream.

    Attributes:
        choices: The choices, in order; a chunk may have none, and so does the answer to a prompt that was blocked.
        usage: Token counts; None if not given.
        fields: The whole object, as received.
    """

    choices: tuple[Choice, ...]
    usage: Usage | None
    fields: Mapping[str, Any]

    @property
    def blocked(self) -> str:
        """Why there is no choice: a content filter blocked the prompt; empty if it did not."""
        # Gemini says of a blocked prompt only how long it was.
        unanswered = self.usage is not None and bool(self.usage.prompt_tokens) and not self.usage.completion_tokens
        return "" if self.choices else why_blocked(self.fields, unanswered)


def read_completion(content: bytes | str) -> ParsedCompletion:
    """Parse the body of a whole completion.

    Raises:
        ServerError: The body holds an error, instead of a choice or inside one.
        MalformedResponseError: The body is not a completion, or has no choices although the prompt was not blocked.
    """
    return whole_completion(decode(content))


def whole_completion(value: Any) -> ParsedCompletion:
    """Do the same with a body that is decoded already."""
    answer = to_completion(value)
    if not answer.choices and not answer.blocked:
        raise MalformedResponseError(f"no choices: {one_line(str(answer.fields))}")
    choices = (with_texts(choice, well_formed(choice.text), well_formed(choice.thinking)) for choice in answer.choices)
    return replace(answer, choices=tuple(choices))


@dataclass(frozen=True, slots=True)
class TokenProbabilities:
    """The likeliest tokens at one position of a completion.

    Attributes:
        sampled: The token that was taken.
        likeliest: The probability of each of the likeliest tokens, and of the sampled one.
    """

    sampled: str
    likeliest: Mapping[str, float]


def token_probabilities(choice: Choice) -> tuple[TokenProbabilities, ...]:
    """Return the likeliest tokens of a completion's first positions, until the first that is missing or invalid."""
    content = _inner(choice.fields, "logprobs").get("content")
    found = []
    for place in content[:_MOST_POSITIONS] if isinstance(content, list) else ():
        if (position := _position(place)) is None:
            break
        found.append(position)
    return tuple(found)


def _position(place: Any) -> TokenProbabilities | None:
    """Parse one position; None if a value is invalid or the probabilities add up to more than 1."""
    listed = place.get("top_logprobs") if isinstance(place, dict) else None
    if not isinstance(listed, list) or not isinstance(sampled := place.get("token"), str):
        return None
    likeliest: dict[str, float] = {}
    for each in listed[:_MOST_TOKENS]:
        token = each.get("token") if isinstance(each, dict) else None
        probability = _probability(each.get("logprob")) if isinstance(token, str) else None
        if not isinstance(token, str) or probability is None:
            return None
        # Two tokens can have the same text, such as parts of different characters.
        likeliest[token] = likeliest.get(token, 0.0) + probability
    if sampled not in likeliest:
        if (probability := _probability(place.get("logprob"))) is None:
            return None
        likeliest[sampled] = probability
    return TokenProbabilities(sampled, likeliest) if sum(likeliest.values()) <= 1 + _SURPLUS else None


def _probability(logarithm: Any) -> float | None:
    """Return the probability of a logarithm; None if it is not a number, or above 0 by more than rounding."""
    if isinstance(logarithm, bool) or not isinstance(logarithm, int | float):
        return None
    if not logarithm <= math.log1p(_SURPLUS):  # NaN is not, either
        return None
    return min(1.0, math.exp(max(logarithm, -1000.0)))


def to_completion(value: Any) -> ParsedCompletion:
    """Parse a decoded completion or chunk; texts stay as received.

    Raises:
        ServerError: It is an error, or holds one.
        MalformedResponseError: It is not a completion.
    """
    if not isinstance(value, dict):
        raise MalformedResponseError(f"not a completion: {one_line(str(value))}")
    if value.get("error") or value.get("object") == "error":
        raise ServerError.parse(value.get("error") or value)
    listed = value.get("choices")
    if listed is None and ("choices" in value or "usage" in value or value.get("object") in _OBJECTS):
        listed = []
    if not isinstance(listed, list):
        raise MalformedResponseError(f"not a completion: {one_line(str(value))}")
    choices = tuple(_choice(one, place) for place, one in enumerate(listed))
    return ParsedCompletion(choices, read_usage(value.get("usage")), value)


_OBJECTS = ("chat.completion", "chat.completion.chunk", "text_completion")


# OpenAI's and OpenRouter's name, and LiteLLM's.
_CACHE_WRITES = ("cache_write_tokens", "cache_creation_tokens")


def read_usage(value: Any) -> Usage | None:
    """Parse the value of "usage"; None if there is none."""
    if not isinstance(value, dict):
        return None
    prompt, completion, total = (_count(value.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    reasoning = _count(_inner(value, "completion_tokens_details").get("reasoning_tokens"))
    if prompt is not None and completion is not None and total is not None and total > prompt + completion:
        # Gemini and xAI count thinking, which they bill as part of the completion, in the total only.
        beside = total - prompt - completion
        if reasoning in (None, 0, beside):
            completion, reasoning = completion + beside, beside
    prompt_details = _inner(value, "prompt_tokens_details")
    return Usage(
        prompt,
        completion,
        total,
        _first_count(prompt_details.get("cached_tokens"), value.get("prompt_cache_hit_tokens")),
        # Some servers count thinking apart from the completion: then it is no part of it.
        reasoning if reasoning is not None and completion is not None and reasoning <= completion else None,
        _dollars(value),
        _first_count(*(prompt_details.get(name) for name in _CACHE_WRITES)),
    )


def _dollars(usage: Mapping[str, Any]) -> float | None:
    """Return what OpenRouter charges, with what the provider charges to a key of the user's own there."""
    charged = [usage.get("cost")]
    if usage.get("is_byok") is True:
        charged.append(_inner(usage, "cost_details").get("upstream_inference_cost") or 0)
    dollars = [each for each in charged if isinstance(each, int | float) and not isinstance(each, bool)]
    return float(sum(dollars)) if len(dollars) == len(charged) and all(0 <= each < 1e6 for each in dollars) else None


def decode(content: bytes | str) -> Any:
    """Decode the JSON of a response or a chunk.

    Raises:
        MalformedResponseError: It is not valid JSON, or holds too many values.
    """
    try:
        return parse_json(content, max_values=MAX_VALUES)
    except JSONError as error:
        beginning = content[:800] if isinstance(content, str) else content[:800].decode("utf-8", "replace")
        shown = one_line(beginning)
        raise MalformedResponseError(f"{error}: {shown}" if shown else str(error)) from error


def _choice(value: Any, place: int) -> Choice:
    if not isinstance(value, dict):
        raise MalformedResponseError(f"invalid choice: {one_line(str(value))}")
    if value.get("error"):
        raise ServerError.parse(value["error"])
    message = value.get("message") or value.get("delta")
    # Without a message, it is the legacy completions API.
    message = message if isinstance(message, dict) else {"content": value.get("text")}
    text, thinking, refusal = _content(message.get("content"))
    set_apart = next((said for key in _THOUGHT_KEYS if (said := _words(message.get(key)))), "")
    reason = value.get("finish_reason")
    reason = _usual(one_line(reason, 50)) if isinstance(reason, str) and reason else None
    if reason == "error":
        raise ServerError.parse({"message": text or "the completion ended with the finish reason 'error'"})
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


def _usual(reason: str) -> str:
    """Return a finish reason in OpenAI's words, if it is known."""
    plain = reason.lower()
    return FILTERED if plain.startswith(FILTERED) else _REASONS.get(plain, reason)


def with_texts(choice: Choice, text: str, thinking: str) -> Choice:
    """Return a choice with other texts."""
    same = text == choice.text and thinking == choice.thinking
    return choice if same else replace(choice, text=text, thinking=thinking)


def _content(value: Any) -> tuple[str, str, str]:
    """Return text, thinking and refusal from the value of "content"."""
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
            # Images, audio and tool calls have no text.
        elif part is not None:
            raise MalformedResponseError(f"invalid text of a choice: {one_line(str(part))}")
    return "".join(texts), "".join(thoughts), "".join(refusals)


def _words(value: Any) -> str:
    """Return a text that may be in parts, or in an object under "text", "value" or "content"."""
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


def _first_count(*values: Any) -> int | None:
    """Return the first of some values that is a number of tokens."""
    return next((found for value in values if (found := _count(value)) is not None), None)


def _count(value: Any) -> int | None:
    """Return a number of tokens; None if the value is not one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None

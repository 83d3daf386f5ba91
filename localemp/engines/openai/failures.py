"""What it means that a server gave no answer: try again, change the request, or give up and say why.

AnswerError
├── ServedError             the server says that it failed: by the status, or inside an answer with status 200
├── UnreadableAnswerError   what came is no answer
│   └── WebPageError        it is a web page
└── NoAnswerError           nothing came, or not all of it
"""

import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from localemp.engines.openai.target import KEY_VARIABLE, URL_HINT, Target
from localemp.errors import EngineError, FatalEngineError, PromptTooLongError
from localemp.protocol.errors import UNKNOWN_STATUS, AnswerError, ServedError, UnreadableAnswerError

SERVER_HINT = f"{URL_HINT}; a server of your own must be running, for example `vllm serve MODEL`"

_REFUSALS = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_NO_ROOM = {"context_length_exceeded", "exceed_context_size_error"}
_NONSENSE = 31 * 86400  # seconds; no limit of a provider lasts longer than a month

# Proxies keep the sentence and lose the code: "Unsupported parameter: 'max_tokens' is not supported with this model."
_REFUSAL_TEXT = re.compile(r"\bun(?:supported|known) (?:parameter|value): '(\w{1,40})'", re.IGNORECASE)

# OpenAI, vLLM ("maximum model length", "max_model_len") and llama.cpp ("available context size"), as they put it.
_NO_ROOM_TEXT = re.compile(
    r"maximum context length|maximum model length|max_model_len|context window|available context size", re.IGNORECASE
)
_CONTEXT_LENGTH = re.compile(
    r"(?:maximum context length (?:is|of)|maximum model length of|max_model_len[= ]|context size \() ?(\d{1,12})"
)
# vLLM's "at least 4097 input tokens" is where it stopped counting, so it is no length.
_PROMPT_LENGTH = re.compile(
    r"resulted in (\d{1,12}) tokens|contains (\d{1,12}) input tokens|\((\d{1,12}) in (?:the messages|your prompt)"
    r"|request \((\d{1,12}) tokens\)|prompt \(length (\d{1,12})\)"
)


class NoAnswerError(AnswerError):
    """No whole answer came.

    Attributes:
        why: "unreachable": nobody is there; "broken": the connection was lost; "late": no answer in time.
    """

    def __init__(self, message: str, why: Literal["unreachable", "broken", "late"]) -> None:
        super().__init__(message)
        self.why = why

    @property
    def may_pass(self) -> bool:
        """Always."""
        return True


class WebPageError(UnreadableAnswerError):
    """A web page came: the address is another's, or a proxy speaks in the server's place."""


def may_retry(error: AnswerError, sent: Collection[str]) -> bool:
    """Whether the same request may succeed later.

    Args:
        error: What came of it.
        sent: Names of its fields.
    """
    if isinstance(error, ServedError) and (_quota_is_used_up(error) or _is_too_long(error)):
        return False
    return error.may_pass and refused_parameter(error) not in sent


def is_too_long(status: int, said: str) -> bool:
    """Whether an error says that prompt and reply do not fit the context.

    Args:
        status: Of HTTP.
        said: The message, or the whole body.
    """
    return status in (400, 413, 422) and bool(_NO_ROOM_TEXT.search(said) or any(code in said for code in _NO_ROOM))


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait (retry-after-ms, Retry-After in seconds or as a date), None if it does not."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return _believed(seconds)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return _believed((date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _believed(seconds: float) -> float | None:
    return seconds if 0 < seconds <= _NONSENSE else None


def refused_parameter(error: AnswerError) -> str | None:
    """The parameter that the model does not take, where that is what the error says."""
    if not isinstance(error, ServedError):
        return None
    # OpenAI's older models, DeepSeek, Groq and others refuse JSON schemas each in its own words, mostly without a code.
    names_it = "response_format" in f"{error.param} {error.message}" or "response format" in error.message
    if names_it and (error.status in (400, 422) or error.status >= 500):
        return "response_format"
    if error.code in _REFUSALS and error.param:
        return error.param
    found = _REFUSAL_TEXT.search(error.message)
    return found[1] if found else None


def explain(
    error: AnswerError, target: Target, reply_tokens: int, context_length: int | None, *, known: bool, answered: bool
) -> EngineError:
    """The error to raise for one that is not retried, or not any more.

    What would stop every other request, too, is fatal. What has worked before does not: then it is this one reply's.

    Args:
        error: What came in place of an answer.
        target: Who was asked.
        reply_tokens: Room that was asked for the reply.
        context_length: Context of the model in tokens, where it is known.
        known: Whether the server has shown that it speaks the API.
        answered: Whether it has given an answer before.

    Returns:
        A `PromptTooLongError`, a `FatalEngineError`, or else an `EngineError`.
    """
    if isinstance(error, ServedError):
        return _explain_served(error, target, reply_tokens, context_length, answered)
    if isinstance(error, NoAnswerError):
        if error.why == "late":
            return EngineError(f"{target.url} gave no answer in time", "ask fewer at once with a smaller --concurrency")
        if error.why == "broken" and answered:
            return EngineError(f"{target.url} broke off its answer ({error.message})")
        return FatalEngineError(f"no server answers at {target.url} ({error.message})", SERVER_HINT)
    kind = EngineError if known else FatalEngineError
    return kind(f"{target.url} gave an answer that cannot be used: {error.message}", "" if known else URL_HINT)


def _explain_served(
    error: ServedError, target: Target, reply_tokens: int, context_length: int | None, answered: bool
) -> EngineError:
    said, status = error.message, error.status
    if _is_too_long(error):
        return PromptTooLongError(
            _number(_PROMPT_LENGTH, said), reply_tokens, _number(_CONTEXT_LENGTH, said) or context_length
        )
    if _quota_is_used_up(error):
        return FatalEngineError(
            f"the quota at {target.url} is used up: {said}",
            "add credit to the account or use another key, then run the same command again",
        )
    if status == 401:
        return FatalEngineError(
            f"{target.url} refuses the key in {KEY_VARIABLE}: {said}",
            f"set it to a key of this server: export {KEY_VARIABLE}=...",
        )
    if status == 403 and not answered:
        return FatalEngineError(
            f"{target.url} does not let the key in {KEY_VARIABLE} use {target.model!r}: {said}",
            f"give the key access to the model, or set another one: export {KEY_VARIABLE}=...",
        )
    if status == 404 and not answered:
        return FatalEngineError(
            f"{target.url} has no model {target.model!r}: {said}", f"check the model's name, and {URL_HINT}"
        )
    if status == 429:
        return EngineError(
            f"{target.url} refused too many requests (429): {said}", "ask fewer at once with a smaller --concurrency"
        )
    return EngineError(f"{target.url} answered with {'an error' if error.inside else f'status {status}'}: {said}")


def _quota_is_used_up(error: ServedError) -> bool:
    # 402 (payment required) is how several hosts say it.
    return error.status == 402 or bool(_NO_QUOTA & {error.code, error.type})


def _is_too_long(error: ServedError) -> bool:
    status = 400 if error.status == UNKNOWN_STATUS else error.status
    return bool(_NO_ROOM & {error.code, error.type}) or is_too_long(status, error.message)


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return next((int(group) for group in found.groups() if group), None) if found else None

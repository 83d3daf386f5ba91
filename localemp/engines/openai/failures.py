"""Decides what a failed request means: retry it, change a parameter, or fail with an explanation.

ResponseError
├── ServerError              the server reports an error, by status or inside a response with status 200
├── MalformedResponseError   the response is not a completion
│   └── WebPageError         the response is a web page
└── NoResponseError          no response, or only a part of it
"""

import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from localemp.engines.openai.target import KEY_VARIABLE, URL_HINT, Target
from localemp.errors import EngineError, FatalEngineError, PromptTooLongError
from localemp.protocol.errors import UNKNOWN_STATUS, MalformedResponseError, ResponseError, ServerError

SERVER_HINT = f"{URL_HINT}; start your own server first, for example `vllm serve MODEL`"

_REFUSALS = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
_BUDGET = "thinking_token_budget"  # vLLM's own; its server refuses it without a parser of thinking
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_NO_ROOM = {"context_length_exceeded", "exceed_context_size_error"}
_LONGEST_LIMIT = 31 * 86400  # seconds; no rate limit lasts longer than a month

# Proxies forward the message but not the code: "Unsupported parameter: 'max_tokens' is not supported with this model."
_REFUSAL_TEXT = re.compile(r"\bun(?:supported|known) (?:parameter|value): '(\w{1,40})'", re.IGNORECASE)

# Wordings of OpenAI, vLLM ("maximum model length", "max_model_len") and llama.cpp ("available context size").
_NO_ROOM_TEXT = re.compile(
    r"maximum context length|maximum model length|max_model_len|context window|available context size", re.IGNORECASE
)
_CONTEXT_LENGTH = re.compile(
    r"(?:maximum context length (?:is|of)|maximum model length of|max_model_len[= ]|context size \() ?(\d{1,12})"
)
# vLLM's "at least 4097 input tokens" is where it stopped counting, not a length.
_PROMPT_LENGTH = re.compile(
    r"resulted in (\d{1,12}) tokens|contains (\d{1,12}) input tokens|\((\d{1,12}) in (?:the messages|your prompt)"
    r"|request \((\d{1,12}) tokens\)|prompt \(length (\d{1,12})\)"
)


class NoResponseError(ResponseError):
    """No complete response arrived.

    Attributes:
        why: "unreachable": no server; "broken": the connection was lost; "late": timeout.
    """

    def __init__(self, message: str, why: Literal["unreachable", "broken", "late"]) -> None:
        super().__init__(message)
        self.why = why

    @property
    def is_transient(self) -> bool:
        """Always."""
        return True


class WebPageError(MalformedResponseError):
    """The response is a web page: the address is wrong, or a proxy answered instead of the server."""


def is_retryable(error: ResponseError, sent: Collection[str]) -> bool:
    """Return whether the same request may succeed later.

    Args:
        error: The error.
        sent: Names of the request's fields.
    """
    if isinstance(error, ServerError) and (_quota_is_used_up(error) or _is_too_long(error)):
        return False
    return error.is_transient and refused_parameter(error) not in sent


def is_too_long(status: int, message: str) -> bool:
    """Return whether an error means that prompt and reply do not fit the context.

    Args:
        status: HTTP status.
        message: The error's message, or the whole body.
    """
    return status in (400, 413, 422) and bool(
        _NO_ROOM_TEXT.search(message) or any(code in message for code in _NO_ROOM)
    )


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """Return the wait that a server asks for (retry-after-ms; Retry-After, in seconds or as a date), or None."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return _plausible(seconds)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return _plausible((date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _plausible(seconds: float) -> float | None:
    return seconds if 0 < seconds <= _LONGEST_LIMIT else None


def refused_parameter(error: ResponseError) -> str | None:
    """Return the parameter that the model refuses; None if the error is about something else."""
    if not isinstance(error, ServerError):
        return None
    # OpenAI's older models, DeepSeek, Groq and others word this each in their own way, mostly without a code.
    names_it = "response_format" in f"{error.param} {error.message}" or "response format" in error.message
    if names_it and (error.status in (400, 422) or error.status >= 500):
        return "response_format"
    if _BUDGET in f"{error.param} {error.message}" and (error.status in (400, 422) or error.status >= 500):
        return _BUDGET
    # "You are not allowed to request logprobs from this model" comes with 403.
    if "logprobs" in f"{error.param} {error.message}" and error.status in (400, 403, 422):
        return "logprobs"
    if error.code in _REFUSALS and error.param:
        return error.param
    if found := _REFUSAL_TEXT.search(error.message):
        return found[1]
    return "n" if _may_refuse_number(error) else None


def _may_refuse_number(error: ServerError) -> bool:
    """Return whether an error can mean that a request has one answer only, which each server words in its own way."""
    if _is_too_long(error) or _quota_is_used_up(error) or error.code == "content_filter":
        return False
    return error.status in (400, 422, 501) or "completion choice" in error.message  # llama.cpp's, with status 500


def explain(
    error: ResponseError, target: Target, reply_tokens: int, context_length: int | None, *, known: bool, answered: bool
) -> EngineError:
    """Return the error to raise when a request is not retried, or not again.

    An error that would stop every other request is fatal, unless the server has already answered before.

    Args:
        error: The error of the last attempt.
        target: The server and the model.
        reply_tokens: Requested length of the reply.
        context_length: Length of the model's context in tokens, if known.
        known: Whether the server is known to have the API.
        answered: Whether the server has answered before.

    Returns:
        A `PromptTooLongError`, a `FatalEngineError`, or another `EngineError`.
    """
    if isinstance(error, ServerError):
        return _explain_served(error, target, reply_tokens, context_length, answered)
    if isinstance(error, NoResponseError):
        if error.why == "late":
            return EngineError(f"{target.url} did not answer in time", "lower --concurrency")
        if error.why == "broken" and answered:
            return EngineError(f"{target.url} closed the connection before the answer was complete ({error.message})")
        return FatalEngineError(f"no server answers at {target.url} ({error.message})", SERVER_HINT)
    kind = EngineError if known else FatalEngineError
    return kind(f"{target.url} returned an unusable answer: {error.message}", "" if known else URL_HINT)


def _explain_served(
    error: ServerError, target: Target, reply_tokens: int, context_length: int | None, answered: bool
) -> EngineError:
    message, status = error.message, error.status
    if _is_too_long(error):
        return PromptTooLongError(
            _number(_PROMPT_LENGTH, message), reply_tokens, _number(_CONTEXT_LENGTH, message) or context_length
        )
    if _quota_is_used_up(error):
        return FatalEngineError(
            f"the quota at {target.url} is used up: {message}",
            "add credit or use another key, then run the same command again",
        )
    if status == 401:
        return FatalEngineError(
            f"{target.url} rejects the key in {KEY_VARIABLE}: {message}",
            f"set it to a key for this server: export {KEY_VARIABLE}=...",
        )
    if status == 403 and not answered:
        return FatalEngineError(
            f"the key in {KEY_VARIABLE} may not use {target.model!r} at {target.url}: {message}",
            f"give the key access to the model, or use another one: export {KEY_VARIABLE}=...",
        )
    if status == 404 and (target.notice or not answered):
        return FatalEngineError(
            f"{target.url} has no model {target.model!r}: {message}",
            target.notice or f"check the name of the model, and {URL_HINT}",
        )
    if status == 429:
        return EngineError(f"{target.url} keeps limiting requests (429): {message}", "lower --concurrency")
    return EngineError(f"{target.url} answered with {'an error' if error.inside else f'status {status}'}: {message}")


def _quota_is_used_up(error: ServerError) -> bool:
    # Several hosts use 402 (payment required).
    return error.status == 402 or bool(_NO_QUOTA & {error.code, error.type})


def _is_too_long(error: ServerError) -> bool:
    status = 400 if error.status == UNKNOWN_STATUS else error.status
    return bool(_NO_ROOM & {error.code, error.type}) or is_too_long(status, error.message)


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return next((int(group) for group in found.groups() if group), None) if found else None

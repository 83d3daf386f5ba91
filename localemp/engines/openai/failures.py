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

from localemp.engines.openai.servers import Server
from localemp.engines.openai.target import Target
from localemp.errors import EngineError, FatalEngineError, PromptTooLongError, RefusalError
from localemp.protocol.errors import UNKNOWN_STATUS, MalformedResponseError, ResponseError, ServerError

_REFUSALS = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
_BUDGET = "thinking_token_budget"  # vLLM's own; its server refuses it without a parser of thinking
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_NO_ROOM = {"context_length_exceeded", "exceed_context_size_error"}
_LONGEST_LIMIT = 31 * 86400  # seconds; no rate limit lasts longer than a month

# Proxies forward the message but not the code: "Unsupported parameter: 'max_tokens' is not supported with this model."
# Then Claude, Gemini, servers that check requests with pydantic (Mistral, TensorRT-LLM), transformers, LiteLLM, Groq.
_REFUSAL_TEXT = re.compile(
    r"\bun(?:supported|known) (?:parameter|value): '(\w{1,40})'"
    r"|`temperature` and `(top_p)` cannot both be specified"
    r"|`(temperature|top_p)` (?:is deprecated|may only be|must be|is not supported)"
    r"|unknown name \\?\"(\w{1,40})\\?\""
    r"|extra_forbidden\b.{1,20}'body', '(\w{1,40})'"
    r"|unexpected (?:keys|fields) in the request: \{'(\w{1,40})'"
    r"|does not support parameters: [\[{]'(\w{1,40})'"
    r"|property '(\w{1,40})' is unsupported"
    r"|unrecognized request arguments? supplied: (\w{1,40})",
    re.IGNORECASE,
)

# Wordings of OpenAI, vLLM ("maximum model length", "max_model_len"), llama.cpp and Ollama ("available context size"),
# SGLang and LM Studio ("context length of only"), Claude ("prompt is too long"), Gemini, TensorRT-LLM.
_NO_ROOM_TEXT = re.compile(
    r"maximum context length|maximum model length|max_model_len|context window|available context size"
    r"|longer than the model's context length|exceeds the context length|context length of only|prompt is too long: \d"
    r"|greater than the context length|context size has been exceeded|must be less than max_seq_len"
    r"|input token count \(\d+\) exceeds|should not exceed max_(?:num_tokens|seq_len|input_len)",
    re.IGNORECASE,
)
_CONTEXT_LENGTH = re.compile(
    r"(?:maximum context length (?:is |of |\()|maximum model length of|max_model_len[= ]|context size \("
    r"|context length \(|context length of only |tokens > |tokens allowed \("
    r"|should not exceed max_\w{1,12} \() ?(\d{1,12})"
)
# vLLM's "at least 4097 input tokens" is where it stopped counting, not a length.
_PROMPT_LENGTH = re.compile(
    r"resulted in (\d{1,12}) tokens|contains (\d{1,12}) input tokens|\((\d{1,12}) in (?:the messages|your prompt)"
    r"|request \((\d{1,12}) tokens\)|prompt \(length (\d{1,12})\)|the input \((\d{1,12}) tokens\)"
    r"|prompt is too long: (\d{1,12}) tokens|input length \((\d{1,12})\)|input token count \((\d{1,12})\)",
    re.IGNORECASE,
)
_WRONG_KEY = "api key not valid"  # Gemini says so with status 400
_NO_KEYS = "no_db_connection"  # LiteLLM knows the master key only, and says 400 to others


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
    if isinstance(error, ServerError) and (_quota_is_used_up(error) or _is_too_long(error) or _is_above_limit(error)):
        return False
    return error.is_transient and refused_parameter(error) not in sent


def may_be_billed(error: BaseException) -> bool:
    """Return whether the service may bill a request that ended with this error.

    It does not bill what it refuses. It may have billed an answer that was lost on the way, or arrived in part.
    """
    if isinstance(error, NoResponseError):
        return error.why != "unreachable"
    return isinstance(error, MalformedResponseError) and not isinstance(error, WebPageError)


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
        return next((str(name) for name in found.groups() if name), None)
    return "n" if _may_refuse_number(error) else None


def _may_refuse_number(error: ServerError) -> bool:
    """Return whether an error can mean that a request has one answer only, which each server words in its own way."""
    if _is_too_long(error) or _quota_is_used_up(error) or error.is_filter:
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
        A `PromptTooLongError`, a `RefusalError`, a `FatalEngineError`, or another `EngineError`.
    """
    if isinstance(error, ServerError):
        return _explain_served(error, target, reply_tokens, context_length, answered)
    if isinstance(error, NoResponseError):
        if error.why == "late":
            return EngineError(f"{target.url} did not answer in time", "lower --concurrency")
        if error.why == "broken" and answered:
            return EngineError(f"{target.url} closed the connection before the answer was complete ({error.message})")
        hint = target.url_hint
        if target.given_by:
            start = target.server.start
            hint += f"; start {target.server.name}: `{start}`" if start else "; is it started? `vllm serve MODEL`"
        return FatalEngineError(f"no server answers at {target.url} ({error.message})", hint)
    kind = EngineError if known else FatalEngineError
    return kind(f"{target.url} returned an unusable answer: {error.message}", "" if known else target.url_hint)


def _explain_served(
    error: ServerError, target: Target, reply_tokens: int, context_length: int | None, answered: bool
) -> EngineError:
    message, status = error.message, error.status
    if _is_too_long(error):
        length = _number(_CONTEXT_LENGTH, message) or context_length
        return too_long(target.server, _number(_PROMPT_LENGTH, message), reply_tokens, length)
    if error.is_filter:
        told = f" ({error.filters})" if error.filters else ""
        return RefusalError(f"the content filter of {target.url} blocked it{told}: {message}")
    if _quota_is_used_up(error):
        return FatalEngineError(
            f"the quota at {target.url} is used up: {message}",
            "add credit or use another key, then run the same command again",
        )
    variable = target.key_variable
    if is_wrong_key(error) and not target.key:
        return FatalEngineError(
            f"{target.url} requires a key, and {variable} is not set",
            f"export {variable}=... with a key for this server",
        )
    if is_wrong_key(error):
        return FatalEngineError(
            f"{target.url} rejects the key in {variable}: {message}",
            f"set it to a key for this server: export {variable}=...",
        )
    if status == 403 and not answered:
        return FatalEngineError(
            f"the key in {variable} may not use {target.model!r} at {target.url}: {message}",
            f"give the key access to the model, or use another one: export {variable}=...",
        )
    if status == 404 and (target.notice or not answered):
        return FatalEngineError(
            f"{target.url} has no model {target.model!r}: {message}",
            target.notice or f"check the name of the model; {target.url_hint}",
        )
    if _is_above_limit(error):
        return EngineError(f"{target.url} takes no request of this size (429): {message}", "lower --max-tokens")
    if status == 429:
        return EngineError(f"{target.url} keeps limiting requests (429): {message}", "lower --concurrency")
    return EngineError(f"{target.url} answered with {'an error' if error.inside else f'status {status}'}: {message}")


def is_loading(error: ResponseError) -> bool:
    """Return whether the server is up, but still loads its model (llama.cpp)."""
    return isinstance(error, ServerError) and error.status == 503 and "loading model" in error.message.lower()


def is_wrong_key(error: ResponseError) -> bool:
    """Return whether the server does not know the key."""
    return isinstance(error, ServerError) and (
        error.status == 401 or error.type == _NO_KEYS or _WRONG_KEY in error.message.lower()
    )


def _quota_is_used_up(error: ServerError) -> bool:
    # Several hosts use 402 (payment required).
    return error.status == 402 or bool(_NO_QUOTA & {error.code, error.type})


def _is_above_limit(error: ServerError) -> bool:
    # More tokens than a whole minute has: waiting does not help.
    return error.status == 429 and error.message.lower().startswith("request too large")


def _is_too_long(error: ServerError) -> bool:
    status = 400 if error.status == UNKNOWN_STATUS else error.status
    return bool(_NO_ROOM & {error.code, error.type}) or is_too_long(status, error.message)


def too_long(
    server: Server, prompt_tokens: int | None, reply_tokens: int, context_length: int | None
) -> PromptTooLongError:
    """Return the error for a prompt that does not fit, with how this server is given a longer context."""
    error = PromptTooLongError(prompt_tokens, reply_tokens, context_length)
    if server.widen:
        error.hint = f"give {server.name} a longer context ({server.widen}), or use fewer --shots"
    return error


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return next((int(group) for group in found.groups() if group), None) if found else None

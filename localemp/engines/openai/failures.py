"""What an error of an OpenAI-compatible server means: try again, change the request, or give up and say why."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

from localemp.engines.openai.target import KEY_VARIABLE, URL_HINT, Target
from localemp.errors import EngineError, FatalEngineError, PromptTooLongError

SERVER_HINT = f"{URL_HINT}; a server of your own must be running, for example `vllm serve MODEL`"

_RETRIED = {408, 409, 429}
_REFUSALS = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_NO_ROOM = {"context_length_exceeded", "exceed_context_size_error"}

# Proxies keep the sentence and lose the code: "Unsupported parameter: 'max_tokens' is not supported with this model."
_REFUSAL_TEXT = re.compile(r"\bun(?:supported|known) (?:parameter|value): '(\w+)'", re.IGNORECASE)

# OpenAI, vLLM ("maximum model length", "max_model_len") and llama.cpp ("available context size"), as they put it.
_NO_ROOM_TEXT = re.compile(
    r"maximum context length|maximum model length|max_model_len|context window|available context size", re.IGNORECASE
)
_CONTEXT_LENGTH = re.compile(
    r"(?:maximum context length (?:is|of)|maximum model length of|max_model_len[= ]|context size \() ?(\d+)"
)
# vLLM's "at least 4097 input tokens" is where it stopped counting, so it is no length.
_PROMPT_LENGTH = re.compile(
    r"resulted in (\d+) tokens|contains (\d+) input tokens|\((\d+) in (?:the messages|your prompt)"
    r"|request \((\d+) tokens\)|prompt \(length (\d+)\)"
)


def server_message(error: openai.APIError, key: str = "") -> str:
    """What the server said, in one line of at most 300 characters, without the key."""
    body = error.body
    said = body.get("message") or body.get("detail") if isinstance(body, Mapping) else body
    if not said and error.__cause__ is not None:
        said = str(error.__cause__) or type(error.__cause__).__name__
    line = " ".join(str(said or error.message).split())
    line = line.replace(key, "***") if key else line
    return line if len(line) <= 300 else f"{line[:299]}…"


def may_retry(error: openai.APIError) -> bool:
    """Whether the same request may succeed later: 408, 409, 429, 5xx, a lost connection, no answer in time."""
    if isinstance(error, openai.APIConnectionError):
        return True
    if not isinstance(error, openai.APIStatusError) or _quota_is_used_up(error) or _is_too_long(error):
        return False
    return error.status_code in _RETRIED or error.status_code >= 500


def is_too_long(status: int, said: str) -> bool:
    """Whether an error says that prompt and reply do not fit the context.

    Args:
        status: Of HTTP.
        said: The message, or the whole body.
    """
    return status in (400, 413, 422) and bool(_NO_ROOM_TEXT.search(said) or any(code in said for code in _NO_ROOM))


def seconds_asked(error: openai.APIError) -> float | None:
    """How long the server asks to wait (retry-after-ms, Retry-After in seconds or as a date), None if it does not."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max((date.astimezone(UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def lists_nothing(error: openai.APIError) -> bool:
    """Whether a server that refuses to list its models may still answer: not every one lists, nor every key may."""
    if not isinstance(error, openai.APIStatusError):
        return False
    return error.status_code in (404, 405, 501) or (error.status_code == 403 and "model.read" in server_message(error))


def refused_parameter(error: openai.APIError) -> str | None:
    """The parameter that the model does not take, where that is what the error says."""
    if not isinstance(error, openai.APIStatusError) or error.status_code not in (400, 422):
        return None
    said = server_message(error)
    # OpenAI's older models, DeepSeek, Groq and others refuse JSON schemas each in its own words, mostly without a code.
    if "response_format" in f"{error.param} {said}" or "response format" in said:
        return "response_format"
    if error.code in _REFUSALS and error.param:
        return str(error.param)
    found = _REFUSAL_TEXT.search(said)
    return found[1] if found else None


def explain(error: openai.APIError, target: Target, reply_tokens: int, context_length: int | None) -> EngineError:
    """The error to raise for one that is not retried, or not any more.

    Args:
        error: What the `openai` package raised.
        target: Who was asked.
        reply_tokens: Room that was asked for the reply.
        context_length: Context of the model in tokens, where it is known.

    Returns:
        A `PromptTooLongError`, a `FatalEngineError` (wrong key, no quota, no such model, no server), or else an
        `EngineError`.
    """
    said = server_message(error, target.key)
    if isinstance(error, openai.APIStatusError):
        return _explain_status(error, said, target, reply_tokens, context_length)
    if isinstance(error, openai.APIConnectionError):
        # By name, since the package may have been given either of two HTTP libraries.
        if isinstance(error, openai.APITimeoutError) and type(error.__cause__).__name__ != "ConnectTimeout":
            return EngineError(f"{target.url} gave no answer in time", "ask fewer at once with a smaller --concurrency")
        return FatalEngineError(f"no server answers at {target.url} ({said})", SERVER_HINT)
    return EngineError(f"{target.url} gave an answer that cannot be read: {said}", URL_HINT)


def _explain_status(
    error: openai.APIStatusError, said: str, target: Target, reply_tokens: int, context_length: int | None
) -> EngineError:
    status = error.status_code
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
    if status == 403:
        return FatalEngineError(
            f"{target.url} does not let the key in {KEY_VARIABLE} use {target.model!r}: {said}",
            f"give the key access to the model, or set another one: export {KEY_VARIABLE}=...",
        )
    if status == 404:
        return FatalEngineError(
            f"{target.url} has no model {target.model!r}: {said}", f"check the model's name, and {URL_HINT}"
        )
    if status == 429:
        return EngineError(
            f"{target.url} refused too many requests (429): {said}", "ask fewer at once with a smaller --concurrency"
        )
    return EngineError(f"{target.url} answered with status {status}: {said}")


def _quota_is_used_up(error: openai.APIStatusError) -> bool:
    # 402 (payment required) is how several hosts say it.
    return error.status_code == 402 or bool(_NO_QUOTA & {error.code, error.type})


def _is_too_long(error: openai.APIStatusError) -> bool:
    return bool(_NO_ROOM & {error.code, error.type}) or is_too_long(error.status_code, server_message(error))


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return next((int(group) for group in found.groups() if group), None) if found else None

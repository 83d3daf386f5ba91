"""Errors of a server's response, whatever its status.

ResponseError
├── ServerError              the server reports an error, by status or inside a response with status 200
└── MalformedResponseError   the response is not a completion: a web page, an empty or a truncated body
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from localemp.protocol.refusals import filters_of, is_filter_error
from localemp.utils.json_reader import JSONError, parse_json
from localemp.utils.text import one_line, well_formed

MAX_MESSAGE_LENGTH = 300
"""Longest quotation of a server's message, in characters."""

MAX_ERROR_BYTES = 2**20
"""Largest response with an error status, in bytes."""

_RETRIED = frozenset({408, 409, 425, 429})
# Statuses by a word in the error code or type, for servers that give no status; the first match counts.
_STATUS_OF = (
    ("rate_limit", 429), ("ratelimit", 429), ("too_many_requests", 429), ("resource_exhausted", 429),
    ("quota", 429), ("overloaded", 503), ("unavailable", 503), ("timeout", 504), ("timed_out", 504), ("deadline", 504),
    ("context_length", 400), ("invalid", 400), ("bad_request", 400), ("badrequest", 400), ("content_filter", 400),
    ("content_policy", 400), ("unsupported", 400), ("authentication", 401), ("unauthorized", 401), ("api_key", 401),
    ("billing", 402), ("permission", 403), ("forbidden", 403), ("moderation", 403), ("not_found", 404),
    ("notfound", 404),
)  # fmt: skip
MODERATION = "moderation"
"""Code of an error that says that the prompt was blocked, for servers that give no code but reasons (OpenRouter)."""

UNKNOWN_STATUS = 502
"""Status of an error inside a response that does not say what kind it is."""


class ResponseError(Exception):
    """A response without a usable completion.

    Attributes:
        message: The problem, in one line.
        retry_after: Seconds that the server asks to wait before a retry; None if it does not.
        headers: The response's headers, names in lower case; empty if there was no response.
    """

    retry_after: float | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        raise NotImplementedError


class ServerError(ResponseError):
    """An error that the server reports.

    Attributes:
        status: HTTP status; for an error inside a response with status 200, the status that matches it.
        code, type, param: As in OpenAI's API; empty if not given.
        inside: Whether the error was inside a response, so that the status is inferred.
        is_filter: Whether a content filter blocked the prompt, or the answer.
        filters: Which filters did, if the server says so: "self_harm: high".
    """

    inside: bool = False
    is_filter: bool = False
    filters: str = ""

    def __init__(self, message: str, status: int, code: str = "", type: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.type, self.param = status, code, type, param

    @property
    def is_transient(self) -> bool:
        """Whether the status is transient: 408, 409, 425, 429 or 5xx. A content filter's never is."""
        return not self.is_filter and (self.status in _RETRIED or self.status >= 500)

    @classmethod
    def parse(cls, error: Any, status: int | None = None) -> "ServerError":
        """Parse a server's error, whatever its form.

        Args:
            error: The body of the response, decoded or not, or its value of "error".
            status: HTTP status, if it is an error.
        """
        error = _decoded(error) if isinstance(error, bytes) else error
        body = error.get("error") or error if isinstance(error, Mapping) else error
        # FastAPI and others send {"detail": ...}, some hosts a list of errors.
        if isinstance(body, list) and body:
            body = body[0].get("error", body[0]) if isinstance(body[0], Mapping) else body[0]
        fields = body if isinstance(body, Mapping) else {}
        code, kind, param = (_word(fields.get(name)) for name in ("code", "type", "param"))
        said = next((fields[name] for name in ("message", "detail", "msg", "error") if fields.get(name)), None)
        metadata = fields.get("metadata")
        more, code = _behind(metadata if isinstance(metadata, Mapping) else {}, code)
        message = one_line(well_formed(f"{said or body or ''}{more}"), MAX_MESSAGE_LENGTH)
        inside = _status(fields)
        found = status or inside or _by_name(f"{code} {kind}".lower())
        made = cls(message or "the server gave no reason", found, code, kind, param)
        made.inside = status is None
        inner = fields.get("innererror") or fields.get("inner_error")
        made.is_filter, made.filters = is_filter_error(code or kind, inner), filters_of(inner) or filters_of(fields)
        made.retry_after = _retry_delay(fields.get("details"))
        return made


class MalformedResponseError(ResponseError):
    """The response is not a completion. Proxies' pages, empty and truncated bodies are usually transient."""

    @property
    def is_transient(self) -> bool:
        """Always."""
        return True


def _decoded(body: bytes) -> Any:
    try:
        return parse_json(body)
    except JSONError:
        return body.decode("utf-8", "replace")


def _behind(metadata: Mapping[str, Any], code: str) -> tuple[str, str]:
    """Return what OpenRouter adds to an error: the provider's own words, and why a prompt was blocked."""
    provider, raw, reasons = (metadata.get(name) for name in ("provider_name", "raw", "reasons"))
    if isinstance(reasons, list) and reasons:
        return f" ({', '.join(map(str, reasons))})", MODERATION
    words = ": ".join(str(word) for word in (provider, raw) if word)
    return f" ({words})" if words else "", code


def _retry_delay(details: Any) -> float | None:
    """Return the seconds that Gemini asks to wait, which it says in the error and not in a header."""
    for detail in details if isinstance(details, list) else ():
        said = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(said, str) and (found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)s", said)) and float(found[1]) > 0:
            return float(found[1])
    return None


def _status(fields: Mapping[str, Any]) -> int | None:
    """Return the status that an error object names."""
    for name in ("status", "status_code", "http_status", "code"):
        value = fields.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return None


def _by_name(words: str) -> int:
    return next((status for word, status in _STATUS_OF if word in words), UNKNOWN_STATUS)


def _word(value: Any) -> str:
    if isinstance(value, str):
        return one_line(well_formed(value), 100)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**6 else ""

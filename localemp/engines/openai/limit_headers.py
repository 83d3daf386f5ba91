"""Reads what a response's headers say about rate limits, in the spellings of the services that send them.

    OpenAI, Azure, Groq      x-ratelimit-limit-requests: 500, x-ratelimit-remaining-tokens: 29000,
                             x-ratelimit-reset-tokens: 6m0s
    Cerebras, SambaNova      x-ratelimit-limit-requests-day, x-ratelimit-reset-tokens-minute: 45.5
    Mistral                  x-ratelimit-limit-req-minute
    OpenRouter, Together     x-ratelimit-limit, x-ratelimit-reset: 1764500000000 (milliseconds since 1970)
    Anthropic                anthropic-ratelimit-input-tokens-remaining, ...-reset: 2026-11-30T10:00:00Z

A value that makes no sense is left out, as if it had not been sent: Azure sends -1 for what it does not limit.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Kind = Literal["requests", "tokens", "prompt tokens", "completion tokens"]

_FIELD = r"(?P<field>limit|remaining|reset)"
_SCOPE = r"(?P<scope>(?:project-)?(?:requests|req|tokens)|input-tokens|output-tokens|tokens-prompt|tokens-generated)"
_PERIOD = r"(?P<period>second|minute|hour|day|month)"
_NAME = re.compile(rf"(?:x-)?ratelimit-{_FIELD}(?:-{_SCOPE})?(?:-{_PERIOD})?")
_ANTHROPIC = re.compile(rf"anthropic-ratelimit-{_SCOPE}-{_FIELD}(?P<period>)")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "month": 30 * 86400.0}
_KINDS: Mapping[str, Kind] = {
    "input-tokens": "prompt tokens", "tokens-prompt": "prompt tokens",
    "output-tokens": "completion tokens", "tokens-generated": "completion tokens",
    "tokens": "tokens", "project-tokens": "tokens",
}  # fmt: skip

_COUNT = re.compile(r"(\d{1,15})(?:\.\d*)?\s*(?:[,;].*)?")  # "100, 100;w=60" of the IETF's draft begins with the limit
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
_DURATION = re.compile(r"(?:(\d{1,6}(?:\.\d{1,9})?)(ms|us|µs|ns|s|m|h|d))")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SINCE_1970, _MILLISECONDS = 1e9, 1e11  # numbers from here on are times, not durations
_LONGEST = 32 * 86400.0  # seconds; no limit is reset later


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is allowed of one kind.

    Attributes:
        scope: Distinguishes the limits of a service, such as "requests" or "tokens-minute".
        kind: What is counted.
        limit: How much of it is allowed in a period; None if unknown.
        remaining: How much of that is left; None if unknown.
        reset: Seconds until all of it is allowed again; None if unknown.
        period: Seconds of the period, if the header names it.
    """

    scope: str
    kind: Kind
    limit: int | None
    remaining: int | None
    reset: float | None
    period: float | None


def read_allowances(headers: Mapping[str, str], now: float) -> list[Allowance]:
    """Return what headers allow; nothing of a kind for which neither limit nor remainder is known.

    Args:
        headers: The headers of a response, names in lower case.
        now: Seconds since 1970.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name, value in headers.items():
        # Most headers are others, and every response has them.
        if "ratelimit-" in name and (match := _NAME.fullmatch(name) or _ANTHROPIC.fullmatch(name)):
            scope, period = match["scope"] or "requests", match["period"] or ""
            found.setdefault((scope, period), {})[match["field"]] = value[:100].strip()
    allowances = []
    for (scope, period), fields in found.items():
        limit, remaining = _count(fields.get("limit", "")) or None, _count(fields.get("remaining", ""))
        if limit is None and (remaining is None or "limit" in fields):
            continue
        if limit is not None and remaining is not None:
            remaining = min(limit, remaining)
        name = f"{scope}-{period}" if period else scope
        reset = _seconds(fields.get("reset", ""), now)
        allowances.append(Allowance(name, _KINDS.get(scope, "requests"), limit, remaining, reset, _SECONDS.get(period)))
    return allowances


def _count(text: str) -> int | None:
    match = _COUNT.fullmatch(text)
    return int(match[1]) if match else None


def _seconds(text: str, now: float) -> float | None:
    """Return a time until reset in seconds: "6m0s", "20ms", "7.5", seconds or milliseconds since 1970, a date."""
    if _NUMBER.fullmatch(text):
        seconds = float(text)
        if seconds >= _SINCE_1970:
            seconds = seconds / (1000 if seconds >= _MILLISECONDS else 1) - now
    elif pieces := _DURATION.findall(text):
        if "".join(number + unit for number, unit in pieces) != text:
            return None
        seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in pieces)
    else:
        try:
            date = datetime.fromisoformat(text)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    # A reset that was due while the response travelled is due now.
    return max(0.0, seconds) if -60 <= seconds <= _LONGEST else None

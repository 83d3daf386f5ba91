"""Limits of requests and tokens a minute: token buckets, and the headers that tell how full they are.

A bucket is full at first, so that a key may spend a whole minute at once, and is filled evenly. The headers are those
of OpenAI: `reset` is the time until the bucket is full again ("12ms" after one request of 5,000 a minute, "6m0s").
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hosted.errors import ServiceError

ORGANISATION = "org-fake"
_MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."


@dataclass(frozen=True)
class Limits:
    """The limits of every model of a key; None for none.

    Attributes:
        requests, tokens: A minute.
        requests_per_day: As low usage tiers have it; the headers on requests are then those of the day.
        enqueued_tokens: Prompt tokens of a model's batches that are not finished.
        burst: Seconds of the rate that may be spent at once: 60 as documented; less holds to shorter periods than the
            headers tell, as OpenAI reserves for itself.
        refill: "steady", or "window": nothing until the end of the minute, then all of it, as some other services do.
        counts: What a request takes of the tokens. "larger": of the prompt's estimate and max_tokens, as OpenAI
            documents it; "sum": both, as Azure does.
        headers: "openai", "azure" (without the time until reset, as some of its models), "anthropic" (its own names,
            and a date for the reset), or "none" at all.
        rejected_count: Whether a refused request takes of the requests, as OpenAI's help pages say.
    """

    requests: float | None = None
    tokens: float | None = None
    requests_per_day: float | None = None
    enqueued_tokens: int | None = None
    burst: float = 60.0
    refill: str = "steady"
    counts: str = "larger"
    headers: str = "openai"
    rejected_count: bool = False

    def taken(self, prompt: int, most: int) -> int:
        """How many tokens a request takes, by the estimate of its prompt and the most that it may generate."""
        return prompt + most if self.counts == "sum" else max(prompt, most)


class Bucket:
    """A token bucket: `limit` per `period` seconds, of which `burst` seconds may be spent at once.

    Attributes:
        taken: All that was ever taken.
    """

    def __init__(self, limit: float, period: float, burst: float) -> None:
        self.limit, self.period, self.rate = limit, period, limit / period
        self.capacity = max(1.0, self.rate * min(burst, period))
        self.level, self.taken = self.capacity, 0.0
        self._at: float | None = None

    def fill(self, now: float) -> None:
        if self._at is not None:
            self.level = min(self.capacity, self.level + (now - self._at) * self.rate)
        self._at = now

    def wait(self, amount: float) -> float:
        """Seconds until there is enough; 0 if there is."""
        return max(0.0, (amount - self.level) / self.rate - 1e-9)

    def take(self, amount: float) -> None:
        self.level -= amount
        self.taken += amount

    @property
    def remaining(self) -> int:
        """What is told to be left of the whole period."""
        return max(0, math.floor(self.limit - self.capacity + self.level + 1e-6))

    @property
    def reset(self) -> float:
        """Seconds until the bucket is full."""
        return (self.capacity - self.level) / self.rate


class Window(Bucket):
    """A bucket that is filled at the end of a period that begins with its first request."""

    def __init__(self, limit: float, period: float) -> None:
        super().__init__(limit, period, period)
        self._ends: float | None = None
        self._now = 0.0

    def fill(self, now: float) -> None:
        if self._ends is None or now >= self._ends:
            self.level, self._ends = self.capacity, now + self.period
        self._now = now

    def wait(self, amount: float) -> float:
        return self.reset if amount > self.level else 0.0

    @property
    def reset(self) -> float:
        return (self._ends or self._now) - self._now


class Meter:
    """The buckets of one model."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.minute = _bucket(limits.requests, 60.0, limits)
        self.tokens = _bucket(limits.tokens, 60.0, limits)
        self.day = _bucket(limits.requests_per_day, 86400.0, limits)

    def admit(self, model: str, tokens: int, now: float) -> None:
        """Let a request in, or raise the error that refuses it."""
        buckets = [
            (self.minute, 1.0, "requests per min (RPM)", "requests"),
            (self.day, 1.0, "requests per day (RPD)", "requests"),
            (self.tokens, float(tokens), "tokens per min (TPM)", "tokens"),
        ]
        for bucket, _, _, _ in buckets:
            if bucket is not None:
                bucket.fill(now)
        for bucket, amount, unit, kind in buckets:
            if bucket is None or not (wait := bucket.wait(amount)):
                continue
            if self.limits.rejected_count and self.minute is not None:
                self.minute.level = max(0.0, self.minute.level - 1)
            raise self._refusal(bucket, amount, unit, kind, model, wait)
        for bucket, amount, _, _ in buckets:
            if bucket is not None:
                bucket.take(amount)

    def _refusal(self, bucket: Bucket, amount: float, unit: str, kind: str, model: str, wait: float) -> ServiceError:
        where, limit = f"{model} in organization {ORGANISATION} on {unit}", f"Limit {bucket.limit:.0f}"
        if amount > bucket.capacity:
            message = (
                f"Request too large for {where}: {limit}, Requested {amount:.0f}. The input or output tokens must be "
                f"reduced in order to run successfully. {_MORE}"
            )
            return ServiceError(429, message, kind=kind, code="rate_limit_exceeded", headers=self.headers())
        used = bucket.capacity - bucket.level
        message = (
            f"Rate limit reached for {where}: {limit}, Used {used:.0f}, Requested {amount:.0f}. "
            f"Please try again in {duration(wait)}. {_MORE}"
        )
        asked = {"retry-after-ms": str(math.ceil(wait * 1000)), "retry-after": str(math.ceil(wait))}
        return ServiceError(429, message, kind=kind, code="rate_limit_exceeded", headers={**self.headers(), **asked})

    def headers(self) -> dict[str, str]:
        """The headers of an answer."""
        shown = {"requests": self.day or self.minute, "tokens": self.tokens}
        found: dict[str, str] = {}
        for name, bucket in shown.items():
            if bucket is not None and self.limits.headers != "none":
                found |= _headers(self.limits.headers, name, bucket)
        return found


def _headers(style: str, name: str, bucket: Bucket) -> dict[str, str]:
    limit, remaining = f"{bucket.limit:.0f}", str(bucket.remaining)
    if style == "anthropic":
        begin, full = f"anthropic-ratelimit-{name}", datetime.now(UTC) + timedelta(seconds=bucket.reset)
        told = full.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {f"{begin}-limit": limit, f"{begin}-remaining": remaining, f"{begin}-reset": told}
    found = {f"x-ratelimit-limit-{name}": limit, f"x-ratelimit-remaining-{name}": remaining}
    return found if style == "azure" else {**found, f"x-ratelimit-reset-{name}": duration(bucket.reset)}


def _bucket(limit: float | None, period: float, limits: Limits) -> Bucket | None:
    if limit is None:
        return None
    if limits.refill == "window":
        return Window(limit, period)
    return Bucket(limit, period, limits.burst if period == 60.0 else period)


def duration(seconds: float) -> str:
    """A duration as Go writes it: "12ms", "1.5s", "6m0s", "1h0m0s"."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds * 1000) / 1000
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    text = f"{left:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours:.0f}h{minutes:.0f}m{text}"
    return f"{minutes:.0f}m{text}" if minutes else text

"""Faults that the service has now and then, chosen by seed, and those that a test asks for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["rate_limit", "rate_limit_wait", "server_error", "reset", "hang", "cut"]
KINDS: tuple[Kind, ...] = ("rate_limit", "rate_limit_wait", "server_error", "reset", "hang", "cut")


@dataclass(frozen=True)
class Faults:
    """Shares of requests for completions that fail, each kind for itself.

        rate_limit       429 without Retry-After, although the limits are not reached ("overloaded")
        rate_limit_wait  429 with Retry-After (`wait` seconds)
        server_error     500
        reset            the connection is reset before an answer; nothing was generated or charged
        hang             no answer ever comes; nothing is charged
        cut              half of the answer, then the connection is closed; it was generated and is charged

    Which attempt at which request fails depends on seed, body and number of the attempt only, not on the order in which
    requests come.
    """

    shares: Mapping[Kind, float] = field(default_factory=dict)
    wait: float = 0.05
    seed: int = 0

    @classmethod
    def all(cls, share: float, **rest: float) -> "Faults":
        """The same share of each kind."""
        return cls(dict.fromkeys(KINDS, share), **rest)  # type: ignore[arg-type]

    def of(self, digest: str, attempt: int) -> Kind | None:
        """The fault of an attempt at a request; None if it goes well."""
        place, below = chance(self.seed, "fault", digest, attempt), 0.0
        for kind in KINDS:
            below += self.shares.get(kind, 0.0)
            if place < below:
                return kind
        return None


@dataclass(frozen=True)
class Planned:
    """A fault of the next request of a method whose path begins so; `after` the request has had its effect."""

    kind: Kind
    method: str
    path: str
    after: bool = False


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on these values only."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

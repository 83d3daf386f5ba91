"""What a run really took, next to its estimate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from localemp.estimates.estimate import RowEstimate
from localemp.pipeline.generate import Tally

# Quantities in the order in which they are shown, by the names of `Truth`.
QUANTITIES = {
    "calls": "calls",
    "prompt_tokens": "prompt tokens",
    "cached_tokens": "of them cached",
    "reply_tokens": "reply tokens",
    "thinking_tokens": "of them thinking",
    "seconds": "seconds",
    "dollars": "US dollars",
}


@dataclass(frozen=True, slots=True)
class Truth:
    """What one or more runs took.

    Attributes:
        calls: Requests that were answered, without shared ones.
        prompt_tokens, cached_tokens, reply_tokens: As the engine counts them; None if it does not.
        seconds: From the first request to the last reply.
        dollars: By list price; None without one.
        thinking_tokens: Those of the reply that were thinking; None if the engine does not count them.
    """

    calls: int
    prompt_tokens: int | None
    cached_tokens: int | None
    reply_tokens: int | None
    seconds: float
    dollars: float | None
    thinking_tokens: int | None = 0

    @classmethod
    def of(cls, tallies: Sequence[Tally]) -> Self:
        """Return what runs that share an engine took together."""
        counted = not any(tally.uncounted for tally in tallies)
        cached = [tally.cached_tokens for tally in tallies if tally.cached_tokens is not None]
        thinking = [tally.thinking_tokens for tally in tallies if tally.thinking_tokens is not None]
        ended = [tally.ended for tally in tallies if tally.ended is not None]
        costs = [tally.cost for tally in tallies]
        known = [cost for cost in costs if cost is not None]
        return cls(
            calls=sum(tally.calls for tally in tallies),
            prompt_tokens=sum(tally.prompt_tokens for tally in tallies) if counted else None,
            cached_tokens=sum(cached) if cached else None,
            reply_tokens=sum(tally.completion_tokens for tally in tallies) if counted else None,
            thinking_tokens=sum(thinking) if len(thinking) == len(tallies) else None,
            seconds=max(ended) - min(tally.started for tally in tallies) if ended else 0.0,
            dollars=sum(known) if len(known) == len(costs) else None,
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """A quantity, as estimated and as it was.

    Attributes:
        name: Its name in `QUANTITIES`.
        estimated, actual: None if unknown.
    """

    name: str
    estimated: float | None
    actual: float | None

    @property
    def ratio(self) -> float | None:
        """Truth / estimate; None if there is none."""
        if self.actual is None or not self.estimated:
            return None
        return self.actual / self.estimated


def compare(estimate: RowEstimate, truth: Truth) -> tuple[Compared, ...]:
    """Return the quantities that are known of both, and thinking, if there was any: nobody can foresee it."""
    expected = {name: getattr(estimate, name, None) for name in QUANTITIES if name != "dollars"}
    expected["dollars"] = None if estimate.dollars is None else estimate.dollars.expected
    each = [Compared(name, expected[name], getattr(truth, name)) for name in QUANTITIES]
    thought = "thinking_tokens" if truth.thinking_tokens else ""
    return tuple(one for one in each if one.actual is not None and (one.estimated is not None or one.name == thought))

"""How fast a server may be asked: a level for each of its limits, filled by time, drained by requests, set by headers.

The services fill their limits steadily (OpenAI, Groq, Anthropic) or all at once at the end of a window (Azure,
Cerebras). Headers tell the two apart: with steady filling, the time until reset is that for what is missing.
Everything here takes the time as an argument; `pace.py` waits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from localemp.engines.openai.limit_headers import Allowance, Kind

ROOM = 0.03
"""Share of a limit that is left unused, for requests that overtake one another on their way."""
MINUTE = 60.0
"""Seconds of the period of a limit, unless a header says otherwise."""
LONGEST_HOLD = 60.0
"""Seconds without any request after which one is sent whatever the headers say: they may be wrong."""
_EVEN = 0.5  # seconds by which a request may be early if the pace is to be even
_OF_A_MINUTE = 1.5 * MINUTE  # a longer time until reset shows a longer period
_STEADY = 0.05  # share of a limit by which the time until reset may differ from that of steady filling
_MEMORY, _ENOUGH = 0.95, 20  # of responses: the share of the former ones' weight, and those that tell something
_MOST_WRONG = 4.0  # times that our estimates can be too high or too low
_NOT_FULL = 0.98  # share of a limit over which it may have been full, so that nothing is learnt
_KINDS: tuple[Kind, ...] = get_args(Kind)
_PERIODS = {1.0: "s", MINUTE: "min", 3600.0: "h", 86400.0: "day"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request counts for before it is answered: its prompt, as an estimate, and all that it may write.

    Attributes:
        prompt: Tokens of the prompt.
        completion: The most tokens of all answers.
    """

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, kind: Kind) -> float:
        """Return what it counts for in one kind of limit."""
        if kind == "tokens":
            return self.prompt + self.completion
        return {"requests": 1.0, "prompt tokens": self.prompt, "completion tokens": self.completion}[kind]


def cost_of(body: Mapping[str, object]) -> Cost:
    """Estimate the cost of a request: four bytes of the prompt's text a token."""
    messages, number = body.get("messages"), body.get("n", 1)
    texts = [body.get("prompt")]
    if isinstance(messages, list):
        texts = [each.get("content") for each in messages if isinstance(each, Mapping)]
    prompt = sum(4 + len(text.encode("utf-8", "replace")) / 4 for text in texts if isinstance(text, str))
    most = next((value for name in ("max_completion_tokens", "max_tokens") if (value := body.get(name))), 0)
    answers = number if isinstance(number, int) else 1
    return Cost(prompt, float(most) * answers if isinstance(most, int) else 0.0)


class Limit:
    """One limit of a server.

    Attributes:
        kind: What it counts.
        most: How much of it is allowed in a period; None if the server tells only what remains.
        period: Seconds of the period.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.most: float | None = None
        self.period = MINUTE
        self._refill = 0.0  # a second
        self._level, self._at = math.inf, 0.0
        self._ends: float | None = None  # of the window, if the level rises only then
        self._windows_until = -math.inf
        self._due = -math.inf  # when the next request is due if the pace is even
        # What the server has counted, and what was expected, over the latest responses.
        self._told: tuple[float, float, float] | None = None
        self._counted = self._expected = 0.0
        self._learned, self._factor = 0, 1.0

    def observe(self, told: Allowance, started: float, now: float, before: float, later: float) -> None:
        """Take over what a response says.

        Args:
            told: What it says.
            started: When its request was sent: the server counts it when it arrives.
            now: When the response arrived.
            before: What requests up to this one have cost, by our estimates.
            later: What later ones have cost.
        """
        known, self.most = self.most is not None, None if told.limit is None else float(told.limit)
        if self.most is None:
            self._level, self._at = float(told.remaining or 0) - later, now
            return
        remaining = self.most if told.remaining is None else float(told.remaining)
        missing, reset = self.most - remaining, None if told.remaining is None else told.reset
        self._ends, self.period = None, told.period or MINUTE
        if reset is not None and told.period is None and reset > _OF_A_MINUTE:
            self.period = max(MINUTE, reset * self.most / max(missing, 1.0))
        elif reset is not None:
            if abs(reset * self.most / self.period - missing) > _STEADY * self.most:
                self._windows_until = now + 2 * self.period  # once in a window both are the same by chance
            self._ends = now + reset if now < self._windows_until else None
        self._refill = self.most / self.period
        if told.remaining is not None or not known:
            gained = 0.0 if self._ends is not None else self._refill * (now - started)
            if told.remaining is not None:
                self._learn(remaining, started, before)
            self._level, self._at = min(self.most, remaining + gained) - later * self._factor, now

    def _learn(self, remaining: float, started: float, before: float) -> None:
        """Compare what the server has counted since the response before with what was expected.

        Services estimate tokens each in their own way, and others may use the same key.
        """
        assert self.most is not None
        told, self._told = self._told, (remaining, started, before)
        if self._ends is not None:
            self._told = None
        if told is None or self._told is None or remaining >= _NOT_FULL * self.most:
            return
        self._counted = _MEMORY * self._counted + told[0] - remaining + self._refill * (started - told[1])
        self._expected = _MEMORY * self._expected + before - told[2]
        self._learned += 1
        if self._learned >= _ENOUGH and self._expected > 0:
            self._factor = min(max(self._counted / self._expected, 1 / _MOST_WRONG), _MOST_WRONG)

    def level(self, now: float) -> float:
        """Return what is left; less than nothing if more was sent than the server knew of when it told."""
        if self.most is None:
            return self._level
        if self._ends is not None:
            return self._level if now < self._ends else self.most
        return min(self.most, self._level + self._refill * (now - self._at))

    def spend(self, cost: float, now: float) -> None:
        """Count a request that is sent now."""
        cost *= self._factor
        self._level, self._at = self.level(now) - cost, now
        if self._ends is not None and now >= self._ends:
            self._ends = None
        if self._refill:
            self._due = max(self._due, now) + cost / self._refill

    def wait(self, cost: float, now: float, *, even: bool = False) -> float:
        """Return the seconds until a request of this cost may start; see `Limits.even`."""
        cost *= self._factor
        level = self.level(now)
        if self.most is None:
            return 0.0 if level >= cost else math.inf
        early = max(0.0, self._due - _EVEN - now) if even and self.period <= MINUTE else 0.0
        lack = min(cost + ROOM * self.most, self.most) - level
        if lack <= 0:
            return early
        return max(early, lack / self._refill if self._ends is None else self._ends - now)

    def rate(self, cost: float, now: float, *, even: bool = False) -> float:
        """Return how many requests of this cost may start a second, until the limit is full or for a minute."""
        if self.most is None or not cost:
            return math.inf
        left, cost = max(0.0, self.level(now)), cost * self._factor
        if even and self.period <= MINUTE:
            return self._refill / cost
        if self._ends is not None and now < self._ends:
            return left / max(1.0, self._ends - now) / cost
        return (left / MINUTE + self._refill) / cost

    def __str__(self) -> str:
        """Return the limit for display: "500 requests/min"."""
        if self.most is None:
            return f"{max(0.0, self._level):,.0f} {self.kind} left"
        unit = _PERIODS.get(self.period) or f"{self.period / MINUTE:.0f} min"
        return f"{self.most:,.0f} {self.kind}/{unit}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that was sent.

    Attributes:
        number: Its number in the order of sending.
        cost: What it counts for.
        started: When it was sent.
        spent: What all requests up to this one have cost.
        held: The limits that would have held it back longer, had it not been for `LONGEST_HOLD`.
    """

    number: int
    cost: Cost
    started: float
    spent: Mapping[Kind, float]
    held: frozenset[str]


class Limits:
    """All limits of a server for one model, as far as its headers tell.

    Attributes:
        even: Whether what is left of a minute must not be used at once: the server holds to shorter periods.
    """

    def __init__(self) -> None:
        self.even = False
        self._limits: dict[str, Limit] = {}
        self._wrong: set[str] = set()  # limits that the server does not keep to
        self._latest, self._number = 0, 0
        self._last_start = -math.inf
        self._spent: dict[Kind, float] = dict.fromkeys(_KINDS, 0.0)

    def __bool__(self) -> bool:
        """Return whether any limit is known."""
        return bool(self._limits)

    def start(self, cost: Cost, now: float) -> Attempt:
        """Count a request that is sent now."""
        held = set()
        for name, limit in self._limits.items():
            if limit.wait(cost.of(limit.kind), now, even=self.even) > _EVEN:
                held.add(name)
            limit.spend(cost.of(limit.kind), now)
        for kind in _KINDS:
            self._spent[kind] += cost.of(kind)
        self._number += 1
        self._last_start = now
        return Attempt(self._number, cost, now, dict(self._spent), frozenset(held))

    def observe(self, attempt: Attempt, told: Sequence[Allowance], now: float, *, answered: bool) -> None:
        """Take over what a response says; only what later requests are told counts more.

        A limit is ignored from now on if its request was held back by it, was answered all the same, and the limit is
        still said to be used up.
        """
        if attempt.number < self._latest:
            return
        for each in told:
            if each.scope not in self._wrong:
                self._latest = attempt.number
                limit = self._limits.setdefault(each.scope, Limit(each.kind))
                before = attempt.spent[each.kind]
                limit.observe(each, attempt.started, now, before, self._spent[each.kind] - before)
        for name in attempt.held if answered else ():
            if (held := self._limits.get(name)) and held.wait(attempt.cost.of(held.kind), now, even=self.even) > _EVEN:
                self._wrong.add(name)
                del self._limits[name]

    def wait(self, cost: Cost, now: float, under_way: int) -> float:
        """Return the seconds until a request may start.

        Args:
            cost: What it costs.
            now: The time.
            under_way: Requests whose answers will say more.
        """
        waits = (limit.wait(cost.of(limit.kind), now, even=self.even) for limit in self._limits.values())
        wait = max(waits, default=0.0)
        if wait == math.inf and not under_way:
            return 0.0
        return max(0.0, min(wait, self._last_start + LONGEST_HOLD - now))

    def allow(self, cost: Cost, now: float) -> bool:
        """Return whether no limit is used up, as far as is known."""
        return all(limit.level(now) >= cost.of(limit.kind) for limit in self._limits.values())

    def rate(self, now: float) -> float:
        """Return how many requests of the usual cost may start a second, on average over the next minute."""
        return min((self._rate(limit, now) for limit in self._limits.values()), default=math.inf)

    def binding(self, now: float) -> Limit | None:
        """Return the limit that allows the fewest requests; None if none is known."""
        return min(self._limits.values(), key=lambda limit: self._rate(limit, now), default=None)

    def _rate(self, limit: Limit, now: float) -> float:
        return limit.rate(self._spent[limit.kind] / max(1, self._number), now, even=self.even)

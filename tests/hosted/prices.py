"""The models of the service, what they cost, and the bill.

Dollars per million tokens, as OpenAI's pages had them in 2026; written down here a second time, so that localemp's own
numbers (`models/*.toml`) are compared with something.
"""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Rates:
    """Dollars per million tokens; `write` of prompt tokens that go into the cache, None if they cost no more."""

    prompt: float
    cached: float
    completion: float
    write: float | None = None

    def times(self, factor: float) -> "Rates":
        write = None if self.write is None else self.write * factor
        return Rates(self.prompt * factor, self.cached * factor, self.completion * factor, write)


@dataclass(frozen=True)
class Tokens:
    """The tokens of one answer: `cached` and `written` are parts of `prompt`, `reasoning` of `completion`."""

    prompt: int = 0
    cached: int = 0
    written: int = 0
    completion: int = 0
    reasoning: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True)
class Model:
    """A model of the service.

    Attributes:
        tiers: Rates by tier: "default", "batch", and what else it is offered in ("flex", "priority").
        context: Of prompt and completion together.
        efforts: The values of reasoning_effort that it takes; the first is its own. A model without any takes
            max_tokens and temperature instead.
        long: Prompt tokens above which a whole request costs twice as much, and one and a half times for the
            completion; None if it never does.
        chat: Whether it chats; if not, it completes a text.
        dated: Whether answers name a dated snapshot.
    """

    name: str
    tiers: dict[str, Rates]
    context: int = 128_000
    efforts: tuple[str, ...] = ()
    long: int | None = None
    chat: bool = True
    dated: bool = True

    def cost(self, tier: str, tokens: Tokens) -> float:
        """What an answer costs in a tier, in dollars."""
        rates = self.tiers[tier]
        written = tokens.written if rates.write is not None else 0
        plain = tokens.prompt - tokens.cached - written
        prompt = plain * rates.prompt + tokens.cached * rates.cached + written * (rates.write or 0)
        completion = tokens.completion * rates.completion
        if self.long is not None and tokens.prompt > self.long:
            prompt, completion = 2 * prompt, 1.5 * completion
        return (prompt + completion) / 1e6


def _model(name: str, rates: Rates, *, flex: bool = False, priority: Rates | None = None, **rest: Any) -> Model:
    half = rates.times(0.5)
    tiers = {"default": rates, "batch": half}
    tiers |= {"flex": half} if flex else {}
    tiers |= {"priority": priority} if priority else {}
    return Model(name, tiers, **rest)


def _thinker(name: str, rates: Rates, *efforts: str, **rest: Any) -> Model:
    """A model that reasons: flex at half the price, priority at twice."""
    return _model(name, rates, flex=True, priority=rates.times(2), efforts=efforts, **rest)


def _sixth(name: str, rates: Rates, *efforts: str) -> Model:
    return _thinker(name, rates, *efforts, context=1_050_000, long=272_000, dated=False)


_ALL = ("medium", "none", "low", "high", "xhigh", "max")
_MOST = ("medium", "low", "high", "xhigh", "max")
MODELS = {
    model.name: model
    for model in (
        _model("gpt-4o-mini", Rates(0.15, 0.075, 0.60), priority=Rates(0.25, 0.125, 1.00)),
        _model("gpt-4o", Rates(2.50, 1.25, 10.00), priority=Rates(4.25, 2.125, 17.00)),
        _model("gpt-4.1", Rates(2.00, 0.50, 8.00), priority=Rates(3.50, 0.875, 14.00), context=1_047_576),
        _model("gpt-4", Rates(30.00, 30.00, 60.00), context=8_192),
        _model("gpt-3.5-turbo", Rates(0.50, 0.50, 1.50), context=16_385),
        _model("gpt-3.5-turbo-instruct", Rates(1.50, 1.50, 2.00), context=4_096, chat=False),
        _model("davinci-002", Rates(2.00, 2.00, 2.00), context=16_384, chat=False),
        _model("babbage-002", Rates(0.40, 0.40, 0.40), context=16_384, chat=False),
        _thinker("gpt-5", Rates(1.25, 0.125, 10.00), "medium", "minimal", "low", "high", context=400_000),
        _sixth("gpt-6-luna", Rates(0.10, 0.01, 0.50, 0.125), *_ALL),
        _sixth("gpt-6.1-terra", Rates(1.00, 0.05, 5.00, 1.25), *_ALL),
        _sixth("gpt-6.1-sol", Rates(2.00, 0.10, 10.00, 2.50), *_MOST),
        _sixth("gpt-6.2-sol", Rates(2.00, 0.10, 10.00, 2.50), *_MOST),
        _sixth("gpt-6.2-astra", Rates(8.00, 0.40, 40.00, 10.00), *_MOST),
    )
}


@dataclass
class Line:
    """What one model cost in one tier."""

    requests: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    dollars: float = 0.0


class Bill:
    """What the service charges, by model and tier ("default", "batch", "flex", "priority")."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, str], Line] = {}

    def add(self, model: Model, tier: str, tokens: Tokens) -> float:
        """Charge an answer; return its dollars."""
        line = self.lines.setdefault((model.name, tier), Line())
        dollars = model.cost(tier, tokens)
        line.requests += 1
        line.tokens.update({each.name: getattr(tokens, each.name) for each in fields(tokens)})
        line.dollars += dollars
        return dollars

    @property
    def requests(self) -> int:
        return sum(line.requests for line in self.lines.values())

    @property
    def total(self) -> float:
        """All dollars."""
        return sum(line.dollars for line in self.lines.values())

    def of(self, model: str, tier: str = "default") -> Line:
        return self.lines.get((model, tier), Line())

    def value(self) -> dict[str, Any]:
        """The bill as JSON values."""
        lines = [
            {"model": model, "tier": tier, "requests": line.requests, "dollars": line.dollars, **line.tokens}
            for (model, tier), line in sorted(self.lines.items())
        ]
        return {"dollars": self.total, "requests": self.requests, "lines": lines}

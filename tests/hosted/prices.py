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
class Model:
    """A model of the service.

    `tiers` has "default", "batch", and what else the model is offered in ("flex", "priority"). A reasoning model takes
    reasoning_effort and verbosity, and neither max_tokens nor temperature.
    """

    name: str
    tiers: dict[str, Rates]
    context: int = 128_000
    reasoning: bool = False
    chat: bool = True


def _model(name: str, rates: Rates, *, flex: bool = False, priority: Rates | None = None, **rest: Any) -> Model:
    half = rates.times(0.5)
    tiers = {"default": rates, "batch": half}
    tiers |= {"flex": half} if flex else {}
    tiers |= {"priority": priority} if priority else {}
    return Model(name, tiers, **rest)


MODELS = {
    model.name: model
    for model in (
        _model("gpt-4o-mini", Rates(0.15, 0.075, 0.60), priority=Rates(0.25, 0.125, 1.00)),
        _model("gpt-4o", Rates(2.50, 1.25, 10.00), priority=Rates(4.25, 2.125, 17.00)),
        _model("gpt-4.1", Rates(2.00, 0.50, 8.00), priority=Rates(3.50, 0.875, 14.00), context=1_047_576),
        _model(
            "gpt-5",
            Rates(1.25, 0.125, 10.00),
            flex=True,
            priority=Rates(2.50, 0.25, 20.00),
            context=400_000,
            reasoning=True,
        ),
        _model(
            "gpt-6-luna",
            Rates(0.10, 0.01, 0.50, 0.125),
            flex=True,
            priority=Rates(0.20, 0.02, 1.00, 0.25),
            context=1_050_000,
            reasoning=True,
        ),
        _model(
            "gpt-6.1-terra",
            Rates(1.00, 0.05, 5.00, 1.25),
            flex=True,
            priority=Rates(2.00, 0.10, 10.00, 2.50),
            context=1_050_000,
            reasoning=True,
        ),
        _model("gpt-3.5-turbo", Rates(0.50, 0.50, 1.50), context=16_385),
        _model("gpt-3.5-turbo-instruct", Rates(1.50, 1.50, 2.00), context=4_096, chat=False),
        _model("davinci-002", Rates(2.00, 2.00, 2.00), context=16_384, chat=False),
    )
}


@dataclass(frozen=True)
class Tokens:
    """The tokens of one answer: `cached` and `written` are parts of `prompt`, `reasoning` of `completion`."""

    prompt: int = 0
    cached: int = 0
    written: int = 0
    completion: int = 0
    reasoning: int = 0

    def cost(self, rates: Rates) -> float:
        """What they cost, in dollars."""
        written = self.written if rates.write is not None else 0
        plain = self.prompt - self.cached - written
        dollars = plain * rates.prompt + self.cached * rates.cached + written * (rates.write or 0)
        return (dollars + self.completion * rates.completion) / 1e6


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
        dollars = tokens.cost(model.tiers[tier])
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

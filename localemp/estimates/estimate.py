"""What a run will take: one row for each batch, and how each number was made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from localemp.utils.formatting import count, duration, share
from localemp.utils.formatting import dollars as in_dollars

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Dollars:
    """US dollars by list price.

    Attributes:
        standard: Of ordinary requests, without any discount.
        cached: The same with the discount for prompt tokens from the provider's cache; None if its price is unknown.
        batch: In the batch tier, without the cache; None if its price is unknown.
        most: Of the requests that will be made, if every reply is as long as `max_tokens` allows, without the cache.
        flex, priority: In these tiers, with the cache if they have a price for it; None if their price is unknown.
        chosen: In the tier that was asked for; None for ordinary requests.
    """

    standard: float
    cached: float | None
    batch: float | None
    most: float
    flex: float | None = None
    priority: float | None = None
    chosen: float | None = None

    @property
    def expected(self) -> float:
        """What the requests will cost."""
        if self.chosen is not None:
            return self.chosen
        return self.standard if self.cached is None else self.cached


@dataclass(frozen=True, slots=True)
class RowEstimate:
    """What one run will still take.

    Attributes:
        name: The row of an experiment; empty for a single run.
        model, strategy: What answers.
        dialogues: Dialogues of the run.
        pending: Those that are still to be answered; all numbers below are of these.
        calls: Requests: one for each stage.
        prompt_tokens: Tokens of all prompts.
        cached_tokens: Those that will come from the prefix cache; None if the server's cache is unknown.
        reply_tokens: Tokens of all completions, as assumed.
        most_reply_tokens: The same, if each is as long as `max_tokens` allows.
        will_not_fit: Dialogues whose prompt does not fit the context, so that they will fail.
        exemplars_dropped: Dialogues that fit only with fewer exemplars.
        shared: Calls that another row's identical request answers; no other number counts them.
        seconds: From the first request to the last reply; None if the speed is unknown.
        dollars: None for a model that runs here, or without a known price.
        how: For each of "tokens", "cache", "replies", "seconds", "dollars" how it was made, or why it is unknown.
    """

    name: str
    model: str
    strategy: str
    dialogues: int
    pending: int
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = 0
    reply_tokens: int = 0
    most_reply_tokens: int = 0
    will_not_fit: int = 0
    exemplars_dropped: int = 0
    shared: int = 0
    seconds: float | None = None
    dollars: Dollars | None = None
    how: Mapping[str, str] = field(default_factory=dict)

    @property
    def cached_share(self) -> float | None:
        """The share of prompt tokens that will come from the prefix cache."""
        return None if self.cached_tokens is None else self.cached_tokens / max(self.prompt_tokens, 1)

    @property
    def unpriced(self) -> str:
        """Why it is not known what a service will charge; empty if it is, or if nobody charges anything."""
        known, _, why = self.how.get("dollars", "").partition("unknown: ")
        return "" if known else why


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one or more runs will take.

    Attributes:
        rows: One for each run.
        start_seconds: Until the engines are ready; None if unknown. Not part of the rows' seconds.
        lookup_seconds: What looking up exemplars and inferences took for this estimate; the run does it again, from
            COMET's cache. Not part of the rows' seconds.
        budget: What is left of the budget, in US dollars; None without one.
    """

    rows: tuple[RowEstimate, ...]
    start_seconds: float | None = None
    lookup_seconds: float | None = None
    budget: float | None = None

    @property
    def within_budget(self) -> int | None:
        """About how many of the pending dialogues the budget is enough for; None if for all, or without one."""
        total = self.total
        if self.budget is None or total.dollars is None or total.dollars.expected <= self.budget:
            return None
        return int(total.pending * self.budget / total.dollars.expected)

    @property
    def total(self) -> RowEstimate:
        """All rows together."""
        rows = self.rows
        dollars = [row.dollars for row in rows if row.dollars is not None]
        return RowEstimate(
            name="total",
            model=", ".join(dict.fromkeys(row.model for row in rows)),
            strategy=", ".join(dict.fromkeys(row.strategy for row in rows)),
            dialogues=sum(row.dialogues for row in rows),
            pending=sum(row.pending for row in rows),
            calls=sum(row.calls for row in rows),
            prompt_tokens=sum(row.prompt_tokens for row in rows),
            cached_tokens=_sum(rows, lambda row: row.cached_tokens),
            reply_tokens=sum(row.reply_tokens for row in rows),
            most_reply_tokens=sum(row.most_reply_tokens for row in rows),
            will_not_fit=sum(row.will_not_fit for row in rows),
            exemplars_dropped=sum(row.exemplars_dropped for row in rows),
            shared=sum(row.shared for row in rows),
            seconds=_sum([row for row in rows if row.pending], lambda row: row.seconds),
            dollars=_together(dollars) if dollars else None,
        )

    @property
    def line(self) -> str:
        """The estimate in one line, for a log."""
        total = self.total
        shared = "" if total.cached_share is None else f", {total.cached_share:.0%} from the prefix cache"
        parts = [
            f"{count(total.calls, 'call')}, {total.prompt_tokens:,} prompt tokens{shared}",
            f"{total.reply_tokens:,} reply tokens assumed",
        ]
        if total.seconds is not None:
            parts.insert(0, f"about {duration(total.seconds)}")
        if total.dollars is not None:
            parts.append(f"about {in_dollars(total.dollars.expected)} US dollars")
        parts += dict.fromkeys(f"unpriced ({why})" for row in self.rows if (why := row.unpriced))
        if self.within_budget is not None:
            parts.append(f"the budget is enough for about {share(self.within_budget, total.pending, 'dialogue')}")
        if total.will_not_fit:
            parts.append(f"{count(total.will_not_fit, 'prompt')} will not fit")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values: the rows, and their total."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "total": asdict(self.total)}


def _sum(rows: Sequence[RowEstimate], value: Callable[[RowEstimate], N | None]) -> N | None:
    values = [value(row) for row in rows]
    known = [each for each in values if each is not None]
    return sum(known) if len(known) == len(values) else None


def _together(dollars: Sequence[Dollars]) -> Dollars:
    def total(amounts: Sequence[float | None]) -> float | None:
        known = [each for each in amounts if each is not None]
        return sum(known) if len(known) == len(amounts) else None

    expected = sum(each.expected for each in dollars)
    return Dollars(
        standard=sum(each.standard for each in dollars),
        cached=expected if all(each.chosen is None for each in dollars) else total([each.cached for each in dollars]),
        batch=total([each.batch for each in dollars]),
        most=sum(each.most for each in dollars),
        flex=total([each.flex for each in dollars]),
        priority=total([each.priority for each in dollars]),
        chosen=expected if any(each.chosen is not None for each in dollars) else None,
    )

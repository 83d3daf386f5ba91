"""What a hosted model costs: list prices with their date, for each tier of the service.

    [price]                             # of ordinary requests
    prompt = 1.0
    completion = 5.0
    cached = 0.05
    cache_write = 1.25
    as_of = 2026-10-26
    batch = 0.5                         # every price above times 0.5

    [price.priority]                    # or prices of their own
    prompt = 2.0
    completion = 10.0

A tier that is not in the table has no known price; its answers are unpriced.
"""

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

TIERS = ("batch", "flex", "priority")
"""The tiers that can have a price of their own; the empty text is that of ordinary requests."""

_STANDARD = ("", "auto", "default", "on_demand", "standard")
_OTHER_NAMES = {"fast": "priority"}  # OpenAI's name since July 2026, which its newer models answer with
_LARGEST_SHARE = {"batch": 1, "flex": 1, "priority": 10}  # of the ordinary prices; more is a mistake

_Dollars = Annotated[float, Field(ge=0, le=1e6)]  # a dollar a token; more is a mistake


class Counts(Protocol):
    """Token counts of an answer as the service reports them; None for what it does not.

    Attributes:
        prompt_tokens: Of the prompt, those of the next two included.
        completion_tokens: Of the completion, its thinking included.
        cached_tokens: Those of the prompt that the service read from its cache.
        cache_write_tokens: Those that it wrote to its cache.
    """

    @property
    def prompt_tokens(self) -> int | None: ...  # noqa: D102
    @property
    def completion_tokens(self) -> int | None: ...  # noqa: D102
    @property
    def cached_tokens(self) -> int | None: ...  # noqa: D102
    @property
    def cache_write_tokens(self) -> int | None: ...  # noqa: D102


class Rates(BaseModel):
    """Prices of one tier, in US dollars per million tokens.

    Attributes:
        prompt, completion: Of prompt and completion tokens.
        cached: Of prompt tokens that were read from the service's cache; None if they cost what others do, or if that
            is unknown.
        cache_write: Of prompt tokens that were written to the cache; None if they cost what others do. Such a cache
            keeps prompts up to their last message, so that different dialogues share nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: _Dollars
    completion: _Dollars
    cached: _Dollars | None = None
    cache_write: _Dollars | None = None

    def cost(self, counts: Counts) -> float | None:
        """Return what an answer costs in US dollars; None if the service does not count its tokens."""
        prompt, completion = counts.prompt_tokens, counts.completion_tokens
        if prompt is None or completion is None:
            return None
        cached = min(counts.cached_tokens or 0, prompt)
        written = min(counts.cache_write_tokens or 0, prompt - cached)
        read_at = self.prompt if self.cached is None else self.cached
        written_at = self.prompt if self.cache_write is None else self.cache_write
        fresh = (prompt - cached - written) * self.prompt
        return (fresh + cached * read_at + written * written_at + completion * self.completion) / 1e6

    def most(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the most that these tokens cost in US dollars, whatever the cache does."""
        highest = max(self.prompt, self.cached or 0.0, self.cache_write or 0.0)
        return (prompt_tokens * highest + completion_tokens * self.completion) / 1e6


class Price(Rates):
    """List prices of a model as of a date: those of ordinary requests, and those of its other tiers.

    Attributes:
        as_of: The date of all of these.
        batch, flex, priority: Prices of these tiers; None if unknown. A file may give a share of the ordinary prices.
    """

    as_of: date
    batch: Rates | None = None
    flex: Rates | None = None
    priority: Rates | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_shares(cls, table: Any) -> Any:
        """Replace shares by prices; also those in manifests of older versions."""
        if not isinstance(table, dict):
            return table
        ordinary = {name: value for name in Rates.model_fields if _is_number(value := table.get(name))}
        return table | {name: _rates(name, table[name], ordinary) for name in TIERS if table.get(name) is not None}

    def rates(self, tier: str = "") -> Rates | None:
        """Return the prices of a tier; None if they are unknown."""
        if not tier:
            return self
        found: Rates | None = getattr(self, tier) if tier in TIERS else None
        return found

    def of(self, counts: Counts, tier: str = "") -> float | None:
        """Return what an answer costs in US dollars; None if its tier has no known price, or its tokens no count.

        Args:
            counts: Its tokens.
            tier: The tier it was billed in, as `billed_tier` returns it.
        """
        rates = self.rates(tier)
        return None if rates is None else rates.cost(counts)

    def most_in(self, prompt_tokens: int, completion_tokens: int, tiers: Iterable[str]) -> float | None:
        """Return the most that an answer costs in any of some tiers; None if one of them has no known price."""
        rates = [self.rates(tier) for tier in tiers]
        known = [each.most(prompt_tokens, completion_tokens) for each in rates if each is not None]
        return max(known) if known and len(known) == len(rates) else None

    def describe(self) -> dict[str, Any]:
        """Return it for a manifest, as JSON values; `Price(**described)` reads it."""
        return self.model_dump(mode="json", exclude_none=True)


def billed_tier(said: str | None, asked: str | None = None) -> str:
    """Return the tier that an answer is billed in: the one that the response names, else the one that was asked for.

    Services bill a request in another tier than was asked for where that one has no room, and say so. Their names of
    the ordinary tier ("default", "standard", ...) are returned as the empty text.
    """
    tier = (said or asked or "").strip().lower()
    return "" if tier in _STANDARD else _OTHER_NAMES.get(tier, tier)


def _rates(tier: str, told: Any, ordinary: dict[str, Any]) -> Any:
    if isinstance(told, dict | Rates):
        return told
    most = _LARGEST_SHARE[tier]
    if not _is_number(told) or not 0 < told <= most:
        raise ValueError(
            f"{tier}: {told!r} is neither a share of the ordinary prices, above 0 and at most {most}, nor a table"
        )
    return {name: value * told for name, value in ordinary.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

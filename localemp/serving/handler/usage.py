"""Sums the tokens of all stages for a response's usage. What a server did not count is unknown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from localemp.protocol.completions import Usage

_DETAILS = "completion_tokens_details"


@dataclass(frozen=True, slots=True)
class TokenSum:
    """A sum over stages; one unknown number makes the sum unknown."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    total_tokens: int | None = 0
    reasoning_tokens: int | None = 0

    def plus(self, usage: Usage | None) -> "TokenSum":
        """Return the sum with one more stage; None is a stage whose usage is unknown."""
        usage = usage or Usage()
        prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        return TokenSum(
            _sum(self.prompt_tokens, prompt),
            _sum(self.completion_tokens, completion),
            _sum(self.total_tokens, total),
            _sum(self.reasoning_tokens, usage.reasoning_tokens),
        )

    def as_usage(self, last: Any = None) -> dict[str, Any] | None:
        """Return the usage of a response: these sums, with what the last stage's server reported besides.

        Args:
            last: The value of "usage" in the last stage's response.

        Returns:
            None if all sums are unknown.
        """
        counts = asdict(self)
        reasoning = counts.pop("reasoning_tokens")
        known: dict[str, Any] = {name: count for name, count in counts.items() if count is not None}
        if not known:
            return None
        others = last if isinstance(last, Mapping) else {}
        inner = others.get(_DETAILS)
        details = {**inner} if isinstance(inner, Mapping) else {}
        details.pop("reasoning_tokens", None)  # of the last stage alone
        details |= {"reasoning_tokens": reasoning} if reasoning is not None else {}
        known |= {_DETAILS: details} if details else {}
        return {key: value for key, value in others.items() if key not in (*counts, _DETAILS)} | known


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other

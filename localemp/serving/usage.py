"""Tokens of all stages of a strategy, as the answer's usage tells them. What a server did not count is unknown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from localemp.protocol.answers import Usage


@dataclass(frozen=True, slots=True)
class TokenSum:
    """A sum in which one unknown number makes the sum unknown."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    total_tokens: int | None = 0

    def plus(self, usage: Usage | None) -> "TokenSum":
        """The sum with one stage more; None is a stage of which nothing is known."""
        usage = usage or Usage()
        prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        return TokenSum(
            _sum(self.prompt_tokens, prompt), _sum(self.completion_tokens, completion), _sum(self.total_tokens, total)
        )

    def in_answer(self, last: Any = None) -> dict[str, Any] | None:
        """The usage of an answer: what the last stage's server said beside, with these sums; None where all is unknown.

        Args:
            last: What the last stage's answer has under "usage".
        """
        known = {name: count for name, count in asdict(self).items() if count is not None}
        if not known:
            return None
        beside = last if isinstance(last, Mapping) else {}
        return {key: value for key, value in beside.items() if key not in asdict(self)} | known


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other

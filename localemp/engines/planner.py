"""An engine without a model that measures prompts: how long each one is, and whether it fits the context."""

from collections.abc import Callable, Sequence
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.errors import PromptTooLongError
from localemp.sampling import Sampling

# A reply can take a few more tokens as part of the next prompt.
MARGIN = 16


class Planner(Engine):
    """Dry-runs strategies: the same prompts, the longest possible answer to stage 1, no model.

    Args:
        count: Counts the tokens of a prompt; None if only the server can.
        limit: Length of the model's context, in tokens.
        filler: The answer to every prompt; None for the longest one that `max_tokens` allows.

    Attributes:
        longest: Tokens of the longest prompt so far, including its reply.
    """

    name = "planner"

    def __init__(
        self, count: Callable[[Sequence[Message]], int] | None, limit: int = 0, filler: str | None = None
    ) -> None:
        self.count, self.limit, self.filler = count, limit, filler
        self.longest = 0

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Measure one prompt.

        Raises:
            PromptTooLongError: Prompt and reply exceed the limit.
        """
        tokens = None if self.count is None else self.count(messages)
        if tokens is not None:
            if tokens + sampling.max_tokens > self.limit:
                raise PromptTooLongError(tokens, sampling.max_tokens, self.limit)
            self.longest = max(self.longest, tokens + sampling.max_tokens)
        text = " word" * sampling.max_tokens if self.filler is None else self.filler
        return Completion(text, "planned", prompt_tokens=tokens, completion_tokens=sampling.max_tokens)

    @property
    def context_needed(self) -> int:
        """Length of the context that holds every prompt and reply seen so far, with a margin, in tokens."""
        return min(self.longest + MARGIN, self.limit)

    def describe(self) -> dict[str, Any]:
        """Return the limit."""
        return {"engine": self.name, "limit": self.limit}

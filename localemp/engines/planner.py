"""An engine that answers nothing but measures: how long will each prompt be, and does it fit."""

from collections.abc import Callable, Sequence
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.errors import PromptTooLongError
from localemp.sampling import Sampling

# A reply can take a few tokens more when it is read again as part of the next prompt.
MARGIN = 16


class Planner(Engine):
    """Runs strategies dry: the same prompts, the longest possible answer of stage 1, no model.

    Args:
        count: Tokens of a prompt; None where only a server knows.
        limit: What the model's context can hold, in tokens.
        filler: The text to answer with; None gives the longest answer that `max_tokens` allows.

    Attributes:
        longest: Tokens of the longest prompt so far together with its reply.
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
        """Tokens of context that hold every prompt and reply seen, with a margin."""
        return min(self.longest + MARGIN, self.limit)

    def describe(self) -> dict[str, Any]:
        """The limit."""
        return {"engine": self.name, "limit": self.limit}

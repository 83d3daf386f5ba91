"""An engine without a model that measures prompts: how long each one is, and whether it fits the context."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import PLANNED, Completion, Engine
from localemp.errors import PromptTooLongError
from localemp.sampling import Sampling

# A reply can take a few more tokens as part of the next prompt.
MARGIN = 16

# Returns the tokens of a prompt.
Encode = Callable[[Sequence[Message]], Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call of a dry run.

    Attributes:
        messages: The prompt.
        tokens: Its tokens; None if only the server can count them.
        sampling: Sampling parameters.
        filler: The text in it that stands for an earlier answer; empty if there is none.
    """

    messages: Sequence[Message]
    tokens: Sequence[Hashable] | None
    sampling: Sampling
    filler: str = ""


class Planner(Engine):
    """Dry-runs strategies: the same prompts, the longest possible answer to stage 1, no model.

    Args:
        encode: Returns the tokens of a prompt; None if only the server can count them.
        limit: Length of the model's context, in tokens.
        filler: The answer to every prompt; None for the longest one that `max_tokens` allows.

    Attributes:
        longest: Tokens of the longest prompt so far, including its reply.
        calls: Receives the calls that fit, if it is a list.
    """

    name = "planner"

    def __init__(self, encode: Encode | None, limit: int = 0, filler: str | None = None) -> None:
        self.encode, self.limit, self.filler = encode, limit, filler
        self.longest = 0
        self.calls: list[PlannedCall] | None = None

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Measure one prompt.

        Raises:
            PromptTooLongError: Prompt and reply exceed the limit.
        """
        tokens = None if self.encode is None else self.encode(messages)
        if tokens is not None:
            if len(tokens) + sampling.most_tokens > self.limit:
                raise PromptTooLongError(len(tokens), sampling.most_tokens, self.limit)
            self.longest = max(self.longest, len(tokens) + sampling.most_tokens)
        text = " word" * sampling.max_tokens if self.filler is None else self.filler
        if self.calls is not None:
            answer = text.strip()  # as strategies quote it
            quoted = answer if self.calls and any(answer in each.content for each in messages) else ""
            self.calls.append(PlannedCall(messages, tokens, sampling, quoted))
        return Completion(
            text,
            PLANNED,
            prompt_tokens=None if tokens is None else len(tokens),
            completion_tokens=sampling.most_tokens,
        )

    @property
    def context_needed(self) -> int:
        """Length of the context that holds every prompt and reply seen so far, with a margin, in tokens."""
        return min(self.longest + MARGIN, self.limit)

    def describe(self) -> dict[str, Any]:
        """Return the limit."""
        return {"engine": self.name, "limit": self.limit}

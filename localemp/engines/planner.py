"""An engine without a model that measures prompts: how long each one is, and whether it fits the context."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import PLANNED, STAGE, Completion, Engine
from localemp.errors import PromptTooLongError
from localemp.sampling import Sampling

# A reply can take a few more tokens as part of the next prompt.
MARGIN = 16

# What answers consist of, one word for each stage, so that a prompt says whose answers it quotes. Common words are one
# token each.
_WORDS = (
    "word", "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company",
    "system", "program", "question", "work", "government", "number", "night",
)  # fmt: skip

# Returns the tokens of a prompt.
Encode = Callable[[Sequence[Message]], Sequence[Hashable]]
Filler = str | Callable[[str], str] | None


@dataclass(frozen=True, slots=True)
class Quote:
    """An earlier answer in a prompt.

    Attributes:
        stage: Whose answer it is.
        text: The text that stands for it.
        times: How often the prompt has it.
    """

    stage: str
    text: str
    times: int


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call of a dry run.

    Attributes:
        stage: The name of the stage; empty outside of strategies.
        messages: The prompt.
        tokens: Its tokens; None if only the server can count them.
        sampling: Sampling parameters.
        answer: The text that stands for the answer.
        quotes: The earlier answers in the prompt.
    """

    stage: str
    messages: Sequence[Message]
    tokens: Sequence[Hashable] | None
    sampling: Sampling
    answer: str = ""
    quotes: Sequence[Quote] = ()


class Planner(Engine):
    """Dry-runs strategies: the same prompts, the longest possible answers, no model.

    Args:
        encode: Returns the tokens of a prompt; None if only the server can count them.
        limit: Length of the model's context, in tokens.
        filler: The answer to every prompt, or to those of a stage, by its name; None for the longest one that
            `max_tokens` allows.

    Attributes:
        longest: Tokens of the longest prompt so far, including its reply.
        calls: Receives the calls that fit, if it is a list; a new one for each dialogue.
    """

    name = "planner"

    def __init__(self, encode: Encode | None, limit: int = 0, filler: Filler = None) -> None:
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
        text = self._answer(sampling)
        if self.calls is not None:
            self.calls.append(
                PlannedCall(STAGE.get(), messages, tokens, sampling, text.strip(), self._quotes(messages))
            )
        return Completion(
            text,
            PLANNED,
            prompt_tokens=None if tokens is None else len(tokens),
            completion_tokens=sampling.most_tokens,
        )

    def _answer(self, sampling: Sampling) -> str:
        if callable(self.filler):
            return self.filler(STAGE.get())
        if self.filler is not None:
            return self.filler
        stages = list(dict.fromkeys([*(call.stage for call in self.calls or ()), STAGE.get()]))
        return f" {_WORDS[stages.index(STAGE.get()) % len(_WORDS)]}" * sampling.max_tokens

    def _quotes(self, messages: Sequence[Message]) -> list[Quote]:
        """Return the answers to earlier calls that a prompt has."""
        earlier = {call.stage: call.answer for call in self.calls or () if call.answer}
        found = (
            Quote(stage, text, sum(each.content.count(text) for each in messages)) for stage, text in earlier.items()
        )
        return [quote for quote in found if quote.times]

    @property
    def context_needed(self) -> int:
        """Length of the context that holds every prompt and reply seen so far, with a margin, in tokens."""
        return min(self.longest + MARGIN, self.limit)

    def describe(self) -> dict[str, Any]:
        """Return the limit."""
        return {"engine": self.name, "limit": self.limit}

"""Sampling parameters: how a reply is drawn from a model's distribution."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of a reply. Temperature 0 (greedy) is the paper's setting (section 4.4).

    Attributes:
        max_tokens: Longest reply, in tokens, without thinking if that has a budget.
        schema: A JSON schema, as text, that the engine enforces if it can.
        repetition_penalty: How much less likely tokens become that the prompt or the reply already has; 1 for not at
            all. vLLM's server takes it and OpenAI's does not, so it is sent only if it is not 1.
        choices: The only answers; an engine that can gives the probability of each (`Completion.choices`), at
            temperature 1 whatever `temperature` is.
        thinking_budget: The most tokens of thinking before the reply, besides `max_tokens`; None if the model does not
            think.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str | None = None
    repetition_penalty: float = 1.0
    choices: tuple[str, ...] = ()
    thinking_budget: int | None = None

    @property
    def most_tokens(self) -> int:
        """The most tokens that one answer can have, thinking included."""
        return self.max_tokens + (self.thinking_budget or 0)

    def describe(self) -> dict[str, Any]:
        """Return the parameters for a manifest; those that most runs lack only if they are set."""
        unused = {"schema": None, "repetition_penalty": 1.0, "choices": (), "thinking_budget": None}
        return {name: value for name, value in asdict(self).items() if name not in unused or value != unused[name]}

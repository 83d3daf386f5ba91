"""What the body of a response means: completions with their counts and their cost, or an error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.choices import masses_in, normalised
from localemp.errors import EngineError, PromptTooLongError
from localemp.models.profiles import Price
from localemp.protocol.completions import Choice, Usage, first_choice, read_completion, token_probabilities
from localemp.protocol.thinking import opens_thinking, split_thinking
from localemp.sampling import Sampling

_STANDARD = ("default", "standard", "auto")


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to one request.

    Attributes:
        choices: One or more: those that the server did not withhold.
        number: How many the server gave, withheld ones included.
        usage: The counts of all.
        tier: The tier of the service that answered, as the response says; empty for the standard one, or if unsaid.
        waited: Seconds before the request was first sent.
    """

    choices: tuple[Choice, ...]
    number: int
    usage: Usage
    tier: str = ""
    waited: float = 0.0


def read_answers(content: bytes) -> Answers:
    """Parse the body of a response.

    Raises:
        ResponseError: It is not a completion, or all answers are withheld.
    """
    answer = read_completion(content)
    given = tuple(choice for choice in answer.choices if choice.finish_reason != "content_filter")
    told = answer.fields.get("service_tier")
    tier = told[:40] if isinstance(told, str) and told not in _STANDARD else ""
    return Answers(given or (first_choice(answer),), len(answer.choices), answer.usage or Usage(), tier)


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Turns answers into completions.

    Attributes:
        url: The server, for messages.
        api: "chat" or "completions".
        price: Price of the model; None if unknown.
        tier: The tier that answers have unless they say one.
    """

    url: str
    api: Literal["chat", "completions"]
    price: Price | None = None
    tier: str = ""

    def completions(
        self,
        answers: Answers,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        context_length: int | None = None,
        seconds: float = 0.0,
        notes: tuple[str, ...] = (),
    ) -> list[Completion]:
        """Return what was answered; the counts of all are the first one's.

        Args:
            answers: The answers to one request.
            messages: What was asked.
            sampling: Its sampling parameters.
            context_length: Length of the model's context in tokens, if known.
            seconds: From the call to the answer.
            notes: Changes to the request.

        Raises:
            PromptTooLongError: The server truncated an answer for which the prompt left no room.
            EngineError: No answer has a text.
        """
        texts = [self._split(choice, messages) for choice in answers.choices]
        reasons = [choice.finish_reason or "unknown" for choice in answers.choices]
        usage, limit = answers.usage.beside("".join(thinking for _, thinking in texts)), context_length
        # vLLM's server accepts a prompt that leaves too little room and truncates the reply.
        if limit and usage.prompt_tokens and "length" in reasons and usage.prompt_tokens + sampling.most_tokens > limit:
            raise PromptTooLongError(usage.prompt_tokens, sampling.most_tokens, limit)
        if not any(text or thinking for text, thinking in texts) and not any(each.refusal for each in answers.choices):
            self._check_empty(answers.choices[0], reasons[0], usage)
        completions = []
        tier = answers.tier or self.tier
        for choice, (text, thinking), reason in zip(answers.choices, texts, reasons, strict=True):
            refused = not text and choice.refusal
            choices, mass = _choices(choice, sampling)
            completion = Completion(
                text=choice.refusal if refused else text,
                finish_reason="refusal" if refused else reason,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
                seconds=seconds,
                cost=self._cost(usage, tier),
                notes=notes,
                thinking=thinking,
                thinking_tokens=usage.reasoning_tokens,
                choices=choices,
                choice_mass=mass,
                tier=tier,
            )
            completions.append(completion)
            usage = usage.counted_before()
        return completions

    def _split(self, choice: Choice, messages: Sequence[Message]) -> tuple[str, str]:
        """Return text and thinking, which servers separate or leave in the text."""
        opened = self.api == "completions" and opens_thinking(messages[-1].content)
        text, thinking = split_thinking(choice.text, opened)
        return text, "\n".join(filter(None, (choice.thinking.strip(), thinking)))

    def _check_empty(self, choice: Choice, reason: str, usage: Usage) -> None:
        if reason == "length":
            raise EngineError(
                f"{self.url} returned no text within the token limit; {_spent(usage)}",
                "give more room with --thinking-budget (or --max-tokens), or use a lower --reasoning-effort",
            )
        if choice.message.get("content") is None:
            raise EngineError(f"{self.url} returned an answer without text (finish reason {reason!r})")

    def _cost(self, usage: Usage, tier: str) -> float | None:
        if self.price is None or usage.prompt_tokens is None or usage.completion_tokens is None or tier:
            return None
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        return self.price.of(usage.prompt_tokens, usage.completion_tokens, cached)


def _spent(usage: Usage) -> str:
    """Return what an answer without a text spent its tokens on, as far as that is known."""
    used, written = usage.reasoning_tokens, usage.completion_tokens
    if not used:
        return "the model may think before it answers"
    if used == written:
        return f"all {used:,} tokens of the answer went into reasoning"
    return f"{used:,} tokens went into reasoning"


def _choices(choice: Choice, sampling: Sampling) -> tuple[dict[str, float] | None, float | None]:
    """Return the probability of each choice and of all together; None where the server does not give them."""
    if not sampling.choices or (masses := masses_in(token_probabilities(choice), sampling.choices)) is None:
        return None, None
    return normalised(masses)

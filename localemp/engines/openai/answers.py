"""What the body of a response means: completions with their counts and their cost, or an error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.choices import masses_in, normalised
from localemp.engines.spending import charge
from localemp.errors import EngineError, PromptTooLongError, RefusalError
from localemp.models.price import Price, billed_tier
from localemp.protocol.completions import Choice, ParsedCompletion, Usage, read_completion, token_probabilities
from localemp.protocol.refusals import FILTERED
from localemp.protocol.thinking import opens_thinking, split_thinking
from localemp.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to one request.

    Attributes:
        choices: Those that neither the model nor a content filter withheld.
        number: How many the server gave, withheld ones included.
        usage: The counts of all.
        tier: The tier of the service that answered, in the words of the response; empty if it does not say.
        id: The server's id of the response; empty if it has none.
        waited: Seconds before the request was first sent.
        seconds: How long the answer took, where the service says so; None where it is measured.
        batch_id: The request's id in its batch; empty for one that was sent by itself.
        withheld: Why the first of the others is none; empty if there is none.
        reason: The finish reason of the first answer, withheld or not; empty if there is none.
    """

    choices: tuple[Choice, ...]
    number: int
    usage: Usage
    tier: str = ""
    id: str = ""
    waited: float = 0.0
    seconds: float | None = None
    batch_id: str = ""
    withheld: str = ""
    reason: str = ""


def read_answers(content: bytes) -> Answers:
    """Parse the body of a response.

    Raises:
        ResponseError: It is not a completion.
    """
    return answers_in(read_completion(content))


def answers_in(answer: ParsedCompletion) -> Answers:
    """Return the answers of a whole completion."""
    withheld = [choice.withheld for choice in answer.choices]
    given = tuple(choice for choice, why in zip(answer.choices, withheld, strict=True) if not why)
    tier, name = (_short(answer.fields.get(key)) for key in ("service_tier", "id"))
    return Answers(
        given,
        len(answer.choices),
        answer.usage or Usage(),
        tier,
        name,
        withheld=next(filter(None, withheld), answer.blocked),
        reason=(answer.choices[0].finish_reason or "") if answer.choices else FILTERED,
    )


def _short(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Turns answers into completions.

    Attributes:
        url: The server, for messages.
        api: "chat" or "completions".
        price: Price of the model; None if unknown.
        tier: The tier that was asked for; None for none. "batch" for answers of the Batch API, which are billed as such
            whatever they say.
        charges: Whether the server says what it charges.
    """

    url: str
    api: Literal["chat", "completions"]
    price: Price | None = None
    tier: str | None = None
    charges: bool = False

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

        The answers are charged to the request under way, also those that cannot be used.

        Args:
            answers: The answers to one request.
            messages: What was asked.
            sampling: Its sampling parameters.
            context_length: Length of the model's context in tokens, if known.
            seconds: From the call to the answer.
            notes: Changes to the request.

        Raises:
            PromptTooLongError: The server truncated an answer for which the prompt left no room.
            RefusalError: The model refused, or a content filter withheld all answers.
            EngineError: No answer has a text.
        """
        usage = answers.usage
        tier = "batch" if self.tier == "batch" else billed_tier(answers.tier, self.tier)
        name = answers.id if tier == "batch" else ""
        charge(
            usage,
            self._cost(usage, tier),
            answers.reason or "unknown",
            thinking_tokens=usage.reasoning_tokens,
            tier=tier,
            response_id=name,
        )
        if not answers.choices:
            raise RefusalError(answers.withheld)
        texts = [self._split(choice, messages) for choice in answers.choices]
        reasons = [choice.finish_reason or "unknown" for choice in answers.choices]
        usage, limit = usage.beside("".join(thinking for _, thinking in texts)), context_length
        # vLLM's server accepts a prompt that leaves too little room and truncates the reply.
        if limit and usage.prompt_tokens and "length" in reasons and usage.prompt_tokens + sampling.most_tokens > limit:
            raise PromptTooLongError(usage.prompt_tokens, sampling.most_tokens, limit)
        if not any(text or thinking for text, thinking in texts):
            self._check_empty(answers.choices[0], reasons[0], usage)
        completions = []
        for choice, (text, thinking), reason in zip(answers.choices, texts, reasons, strict=True):
            choices, mass = _choices(choice, sampling)
            completion = Completion(
                text=text,
                finish_reason=reason,
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
                response_id=name,
            )
            completions.append(completion)
            usage, name = usage.counted_before(), ""
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
        if self.charges and usage.cost is not None:
            return usage.cost
        return None if self.price is None else self.price.of(usage, tier)


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

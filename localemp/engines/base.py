"""The engine interface: one async method that answers a list of messages. An engine knows nothing about empathy.

Life cycle: construct it (cheap), `await start()` (loads weights or checks the server), any number of concurrent
`await chat(...)`, then `await close()`. `async with engine:` calls `start` and `close`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from localemp.dialogue import Message
from localemp.errors import FatalEngineError, OptionError, StillThinkingError
from localemp.sampling import Sampling
from localemp.utils.text import is_well_formed, well_formed
from localemp.utils.together import together

if TYPE_CHECKING:
    from localemp.models.adapters import Adapter

TURN: ContextVar[int] = ContextVar("turn", default=0)
"""When the dialogue of the current task began, as a number; an engine with a queue answers lower numbers first."""

STAGE: ContextVar[str] = ContextVar("stage", default="")
"""The name of the stage of a strategy that the current task's last call belongs to; empty outside of strategies."""

ON_TEXT: ContextVar[Callable[[str], object] | None] = ContextVar("on_text", default=None)
"""Who is told pieces of the current task's answer as they are written, without thinking; an engine may tell none."""

PLANNED = "planned"
"""The finish reason of an engine that only measures prompts; the texts of its completions are not a model's."""

TRUNCATED = "length"
"""The finish reason of an answer that the limit of tokens ended, and not the model."""

_ONLY_IF_SET = ("thinking_tokens", "asked_by", "choices", "choice_mass", "tier", "response_id")


@dataclass(frozen=True, slots=True)
class Completion:
    """The model's answer to one list of messages.

    Texts are made well-formed Unicode, whatever the engine returns.

    Attributes:
        text: The model's text, without its thinking.
        finish_reason: "stop", "length", or another reason that the server gives.
        prompt_tokens: Length of the prompt; None if the server does not report it. A further answer to one request
            has 0, in all counts and the cost: the first one has those of the request.
        completion_tokens: Length of the completion; None if the server does not report it.
        cached_tokens: Prompt tokens that came from the prefix cache; None if unknown.
        seconds: From the call to the last token, including time in the queue; of a server, from the first attempt.
        cost: US dollars; None if the model has no known price.
        notes: Changes to the request that were needed to get an answer ("temperature dropped: the model refuses it").
        thinking: The model's thinking, without marks, if the server separates it or the model marks it.
        thinking_tokens: Completion tokens of the thinking, marks included: 0 for none; None if they were not counted.
        asked_by: Who asked the very same request first, if this is the answer to that; empty for a call of its own.
        choices: The probability of each of `Sampling.choices` among them; None if it was not asked for or is unknown.
        choice_mass: The probability that the reply begins with any of them, by which `choices` were divided.
        tier: The tier of the service that answered: "batch", "flex", "priority"; empty for the standard one.
        response_id: The service's id of an answer of a batch, which can arrive again; empty for others.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    seconds: float = 0.0
    cost: float | None = None
    notes: tuple[str, ...] = ()
    thinking: str = ""
    thinking_tokens: int | None = None
    asked_by: str = ""
    choices: Mapping[str, float] | None = None
    choice_mass: float | None = None
    tier: str = ""
    response_id: str = ""

    def __post_init__(self) -> None:
        for name in ("text", "thinking", "finish_reason"):
            if not is_well_formed(text := getattr(self, name)):
                object.__setattr__(self, name, well_formed(text))

    def record(self) -> dict[str, Any]:
        """Return the fields for a line of a journal; those that most answers lack only if they are set."""
        return {name: value for name, value in asdict(self).items() if name not in _ONLY_IF_SET or value}

    def require_text(self) -> str:
        """Return the text.

        Raises:
            StillThinkingError: There is no text because the completion ended while the model was thinking.
        """
        if self.thinking.strip() and not self.text.strip():
            raise StillThinkingError(by_itself=self.finish_reason == "stop")
        return self.text


@dataclass(frozen=True, slots=True)
class TextScore:
    """How probable a model finds a given text as its answer to a list of messages.

    Attributes:
        logprob: Natural logarithm of the text's probability: the sum over its tokens.
        tokens: Number of its tokens. The end of the turn is not one of them, and is not in `logprob` either.
    """

    logprob: float
    tokens: int


class Engine(ABC):
    """A model that answers lists of messages.

    Attributes:
        name: The name it is registered under.
        concurrency: How many calls of `chat` should be in flight at once.
        finds_again: Whether a rerun finds the answers that were not used, and pays nothing for them.
    """

    name: str
    concurrency: int = 16
    finds_again: bool = False

    @abstractmethod
    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages. Safe to call many times at once.

        Raises:
            PromptTooLongError: Prompt and reply do not fit the context.
            FatalEngineError: No further request can succeed.
            EngineError: This request failed.
        """

    async def candidates(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers to one list of messages, each with a seed of its own.

        Raises:
            EngineError: As `chat` does.
        """
        own = [sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + n) for n in range(number)]
        return await together(self.chat(messages, each) for each in own)

    async def score(self, messages: Sequence[Message], text: str) -> TextScore:
        """Return how probable the model finds a text as its answer. Safe to call many times at once.

        Raises:
            FatalEngineError: The engine cannot do that, or no further request can succeed.
            PromptTooLongError: Messages and text do not fit the context.
            EngineError: This request failed.
        """
        raise FatalEngineError(
            f"the engine {self.name!r} cannot score a given text",
            "use a model that runs here, with its weights: servers return probabilities of their own answers only",
        )

    def adapted(self, adapter: "Adapter | None") -> "Engine":
        """Return the engine as one that asks with an adapter; without one, the engine itself.

        Raises:
            OptionError: The engine takes no adapters, or was not made with this one.
        """
        if adapter is not None:
            raise OptionError(f"the engine {self.name!r} takes no adapters", "omit --adapter")
        return self

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return versions and settings for the manifest, as JSON values without secrets."""

    def check(self) -> None:
        """Check what can be known before `start`, without a request: a missing key, for example.

        Raises:
            FatalEngineError: The engine could not start.
        """
        return

    async def start(self) -> None:
        """Load the weights, or connect to the server.

        Raises:
            FatalEngineError: The engine cannot start; the message says why, the hint what to change.
        """
        return

    async def close(self) -> None:
        """Release what `start` acquired."""
        return

    def status(self) -> str:
        """Return in a few words what the engine waits for, to be shown with the progress; empty if there is nothing."""
        return ""

    async def reset_prefix_cache(self) -> bool:
        """Forget earlier prompts, so that none is answered with their help; return whether that is known to be so."""
        return False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

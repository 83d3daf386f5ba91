"""What an engine is: one async method that answers a list of messages. It knows nothing of empathy.

Life cycle: build it (cheap), `await start()` (loads weights or checks the server), any number of concurrent
`await chat(...)`, `await close()`. `async with engine:` does the first and the last.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from localemp.dialogue import Message
from localemp.errors import StillThinkingError
from localemp.sampling import Sampling
from localemp.utils.text import is_well_formed, well_formed


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for one list of messages.

    Texts are well-formed, whatever an engine gives them.

    Attributes:
        text: The text as the model sent it, without what it thought before.
        finish_reason: "stop", "length", or what the server said.
        prompt_tokens: Tokens of the prompt, None where the server does not count.
        completion_tokens: Tokens of the text, None where the server does not count.
        cached_tokens: Prompt tokens that came from the prefix cache, None where unknown.
        seconds: From the call to the last token, waiting in the queue included.
        cost: US dollars, None where the model has no known price.
        notes: What had to be changed to get an answer ("temperature dropped: the model refuses it").
        thinking: What it thought before it answered, where that is set apart or marked; without marks.
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

    def __post_init__(self) -> None:
        for name in ("text", "thinking", "finish_reason"):
            if not is_well_formed(text := getattr(self, name)):
                object.__setattr__(self, name, well_formed(text))

    def said(self) -> str:
        """The text.

        Raises:
            StillThinkingError: There is none: the tokens were used up before the model had thought to the end.
        """
        if self.thinking.strip() and not self.text.strip():
            raise StillThinkingError
        return self.text


class Engine(ABC):
    """Answers lists of messages.

    Attributes:
        name: The name it is registered under.
        concurrency: How many calls of `chat` it likes to have in flight at once.
    """

    name: str
    concurrency: int = 16

    @abstractmethod
    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages. Safe to call many times at once.

        Raises:
            PromptTooLongError: The prompt and the reply do not fit the context.
            FatalEngineError: No further reply can be had.
            EngineError: This reply could not be had.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Versions and settings for the manifest; JSON, no secrets."""

    async def start(self) -> None:
        """Load or connect whatever `chat` needs.

        Raises:
            FatalEngineError: It cannot start; says why and what to change.
        """
        return

    async def close(self) -> None:
        """Give back what `start` took."""
        return

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

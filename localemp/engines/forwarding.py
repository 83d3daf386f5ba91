"""An engine that passes everything on to another; a view of an engine is a subclass that changes what it must."""

from collections.abc import Sequence
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine, TextScore
from localemp.sampling import Sampling


class ForwardingEngine(Engine):
    """Passes everything on but `adapted`, which would lose the view.

    Args:
        engine: The engine; both start and close together.
    """

    def __init__(self, engine: Engine) -> None:
        self.name, self.concurrency, self.finds_again = engine.name, engine.concurrency, engine.finds_again
        self.engine = engine

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages; see `Engine.chat`."""
        return await self.engine.chat(messages, sampling)

    async def candidates(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers to one list of messages; see `Engine.candidates`."""
        return await self.engine.candidates(messages, sampling, number)

    async def score(self, messages: Sequence[Message], text: str) -> TextScore:
        """Return how probable the model finds a text; see `Engine.score`."""
        return await self.engine.score(messages, text)

    def describe(self) -> dict[str, Any]:
        """Return the engine's description."""
        return self.engine.describe()

    def check(self) -> None:
        """Check the engine; see `Engine.check`."""
        self.engine.check()

    async def start(self) -> None:
        """Start the engine, which may know its concurrency only then."""
        await self.engine.start()
        self.concurrency = self.engine.concurrency

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()

    def status(self) -> str:
        """Return what the engine waits for."""
        return self.engine.status()

    async def reset_prefix_cache(self) -> bool:
        """Empty the engine's prefix cache; see `Engine.reset_prefix_cache`."""
        return await self.engine.reset_prefix_cache()

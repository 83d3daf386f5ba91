"""Engines whose requests can have an adapter, and the view of such an engine through which one run asks."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine, TextScore
from localemp.engines.forwarding import ForwardingEngine
from localemp.errors import OptionError
from localemp.models.adapters import Adapter
from localemp.sampling import Sampling


class AdaptableEngine(Engine):
    """An engine that can answer each request with one of several adapters, or with none.

    Args:
        adapters: The adapters that requests can have.
    """

    def __init__(self, adapters: Sequence[Adapter] = ()) -> None:
        self.adapters = {adapter.sha256: adapter for adapter in adapters}

    @abstractmethod
    async def chat(self, messages: Sequence[Message], sampling: Sampling, adapter: Adapter | None = None) -> Completion:
        """Answer one list of messages, with an adapter if one is given; see `Engine.chat`."""

    async def score(self, messages: Sequence[Message], text: str, adapter: Adapter | None = None) -> TextScore:
        """Return how probable the model finds a text, with an adapter if one is given; see `Engine.score`."""
        return await super().score(messages, text)

    def adapted(self, adapter: Adapter | None) -> Engine:
        """Return the engine as one that asks with an adapter; see `Engine.adapted`."""
        if adapter is None:
            return self
        if adapter.sha256 not in self.adapters:
            raise OptionError(f"the engine was made without the adapter {adapter.name}", "name it when it is made")
        return AdaptedEngine(self, adapter)


class AdaptedEngine(ForwardingEngine):
    """An engine as one that asks with an adapter."""

    engine: AdaptableEngine

    def __init__(self, engine: AdaptableEngine, adapter: Adapter) -> None:
        super().__init__(engine)
        self.adapter = adapter

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages with the adapter; see `Engine.chat`."""
        return await self.engine.chat(messages, sampling, self.adapter)

    async def candidates(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers to one list of messages, each with the adapter; see `Engine.candidates`."""
        return await Engine.candidates(self, messages, sampling, number)

    async def score(self, messages: Sequence[Message], text: str) -> TextScore:
        """Return how probable the model with the adapter finds a text; see `Engine.score`."""
        return await self.engine.score(messages, text, self.adapter)

    def adapted(self, adapter: Adapter | None) -> Engine:
        """Return the engine as one that asks with another adapter, or with none."""
        return self.engine.adapted(adapter)

    def describe(self) -> dict[str, Any]:
        """Return the engine's description and the adapter."""
        return {**self.engine.describe(), "adapter": self.adapter.describe()}

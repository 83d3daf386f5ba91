"""An engine for tests of flows: it answers as a test tells it, and keeps what it was asked."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.prompting.flow_files import parse_flow
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.flows import StagedFlow


@dataclass(frozen=True)
class Asked:
    """One call."""

    messages: tuple[Message, ...]
    sampling: Sampling

    @property
    def last(self) -> str:
        return self.messages[-1].content

    @property
    def text(self) -> str:
        return "\n\n".join(message.content for message in self.messages)


class ToldEngine(Engine):
    """Answers with the first text whose key is in the last message, or by a function of the call.

    Attributes:
        calls: All calls.
        most_at_once: The most calls in flight together.
        enough: Set when as many calls are in flight as it waits for.
        cancelled: The last messages of calls that were cancelled.
    """

    name = "told"

    def __init__(self, answers: dict[str, Any] | Callable[[Asked], Any], waits_for: int = 0) -> None:
        """`waits_for` calls must be in flight before any is answered."""
        self.calls: list[Asked] = []
        self.cancelled: list[str] = []
        self.most_at_once = self._at_once = 0
        self._answers, self._waits_for, self.enough = answers, waits_for, asyncio.Event()

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        asked = Asked(tuple(messages), sampling)
        self.calls.append(asked)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        if self._at_once >= self._waits_for:
            self.enough.set()
        try:
            await self.enough.wait()
            return await self._answer(asked)
        except asyncio.CancelledError:
            self.cancelled.append(asked.last)
            raise
        finally:
            self._at_once -= 1

    async def _answer(self, asked: Asked) -> Completion:
        if callable(self._answers):
            said = self._answers(asked)
        else:
            said = next((said for key, said in self._answers.items() if key in asked.last), "All is well.")
        if isinstance(said, list):
            said = said.pop(0)
        if isinstance(said, asyncio.Event):
            await said.wait()
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, Completion) else Completion(str(said), "stop", 10, 2)

    def describe(self) -> dict[str, Any]:
        return {}


def file_flow(stages: str, variant: str = "paper", seed: int = 0) -> StagedFlow:
    """A flow with these stages, as TOML."""
    content = f'about = "a test"\n{stages}'.encode()
    return StagedFlow(parse_flow(content, "mine", "mine.toml"), load_template(variant), seed=seed)

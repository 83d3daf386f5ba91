"""The prompts that a flow sends, stage by stage."""

import asyncio
import copy
from collections.abc import Sequence
from typing import Any

from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion, Engine
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.base import Draft, Exemplar, Flow
from localemp.strategies.parts import PartContext
from localemp.strategies.registry import find_part
from localemp.strategies.strategy import Strategy


class SameAnswer(Engine):
    """Answers everything with one text, and keeps what it was asked."""

    name = "same-answer"

    def __init__(self, answer: str) -> None:
        self.answer, self.asked = answer, []

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.asked.append(copy.copy(list(messages)))
        return Completion(self.answer, "stop")

    def describe(self) -> dict[str, Any]:
        return {}


def flow_of(name: str = "two-stage", variant: str = "paper", **options: Any) -> Flow:
    """Return a flow by its name or path."""
    flow = find_part(name).make(PartContext(template=load_template(variant), options=options))
    assert isinstance(flow, Flow)
    return flow


def prompts_of(
    prompts: Prompts,
    dialogue: Dialogue,
    flow: str = "two-stage",
    *,
    exemplars: Sequence[Dialogue] = (),
    additions: Sequence[str] = (),
    answer: str = "He is sad.",
    **options: Any,
) -> list[list[Message]]:
    """Return the messages of each stage, if every stage is answered with `answer`."""
    made = find_part(flow).make(PartContext(template=prompts.template, options=options))
    draft = Draft(dialogue, tuple(map(Exemplar, exemplars)), additions=tuple(additions))
    engine = SameAnswer(answer)
    asyncio.run(Strategy("test", prompts, Sampling(), (), made).respond(draft, engine))
    return engine.asked

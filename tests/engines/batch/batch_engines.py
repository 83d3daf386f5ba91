"""Engines that ask the fake service by batch, without long waits."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hosted import HostedService, Pace
from patience import patience

from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.openai.batch.engine import OpenAIBatchEngine
from localemp.engines.openai.batch.service import Timing
from localemp.errors import EngineError
from localemp.sampling import Sampling

MODEL = "gpt-4o-mini"
QUICK = Pace(0.02, 0.05, 0.02, 0.02)
SHORT = Timing(lull=0.1, longest_lull=0.1, poll=0.01, longest_poll=0.05)


def batch_engine(service: HostedService, folder: Path, **options: Any) -> OpenAIBatchEngine:
    options = {"timing": SHORT, "api_key": "sk-of-a-test", **options}
    return OpenAIBatchEngine(options.pop("model", MODEL), service.url, folder=folder, **options)


async def ask(engine: OpenAIBatchEngine, text: str, **sampling: Any) -> Completion:
    return await engine.chat([Message("user", text)], Sampling(**sampling))


async def ask_all(engine: OpenAIBatchEngine, texts: Sequence[str]) -> list[Completion | BaseException]:
    """The answers to all, or their errors; started and closed."""
    async with engine:
        return await asyncio.gather(*(ask(engine, text) for text in texts), return_exceptions=True)


def answers(service: HostedService, folder: Path, texts: Sequence[str], **options: Any) -> list[Any]:
    """The answers of an engine, or their errors."""
    return asyncio.run(ask_all(batch_engine(service, folder, **options), texts))


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fail at the deadline."""
    began, most = time.monotonic(), patience()
    while not condition():
        assert time.monotonic() - began < most, "it never became true"
        await asyncio.sleep(0.005)


async def while_asking(
    engine: OpenAIBatchEngine, texts: Sequence[str], service: HostedService, *steps: Callable[[], object]
) -> list[Any]:
    """Ask all, and meanwhile wait for each condition that is among the steps until it is true."""
    asked = asyncio.create_task(ask_all(engine, texts))
    for step in steps:
        await until(lambda step=step: step() or asked.done())
    return await asked


def texts_of(found: Sequence[Any]) -> list[str]:
    """The texts of answers, none of which is an error."""
    wrong = [each for each in found if not isinstance(each, Completion)]
    assert not wrong, wrong
    return [each.text for each in found]


def errors_of(found: Sequence[Any]) -> list[EngineError]:
    return [each for each in found if isinstance(each, EngineError)]

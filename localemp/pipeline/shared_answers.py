"""Asks the same question once: identical requests of several dialogues or rows share one answer."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.forwarding import ForwardingEngine
from localemp.engines.spending import wait_for_another
from localemp.errors import FatalEngineError
from localemp.models.adapters import Adapter
from localemp.sampling import Sampling


@dataclass(slots=True)
class _Call:
    """A call of the engine.

    Attributes:
        asked_by: Who asked first.
        task: The call.
        waiting: How many askers await it.
    """

    asked_by: str
    task: "asyncio.Task[Completion]"
    waiting: int = 0


class SharedAnswers:
    """Sends requests to an engine; those with the same messages and sampling, at temperature 0, only once.

    Failures are not shared: whoever waited for a call that failed asks again. Kept are hashes of requests and their
    answers, not the requests.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls: dict[bytes, _Call] = {}

    def asking(self, name: str, adapter: Adapter | None = None) -> Engine:
        """Return the engine as one asker sees it, with its adapter; answers to others have its name (`asked_by`)."""
        return _Asker(self, self._engine.adapted(adapter), name, adapter)

    async def answer(
        self,
        engine: Engine,
        name: str,
        messages: Sequence[Message],
        sampling: Sampling,
        adapter: Adapter | None = None,
    ) -> Completion:
        """Answer a request, or await the answer to the same request.

        Args:
            engine: The engine as it asks with the adapter.
            name: Who asks.
            messages: The messages.
            sampling: Sampling parameters.
            adapter: The adapter; requests with different ones are different.

        Raises:
            EngineError: The request failed, as in `Engine.chat`.
        """
        key = request_key(messages, sampling, adapter)
        if key is None:
            return await engine.chat(messages, sampling)
        while call := self._calls.get(key):
            if not call.task.done():
                wait_for_another()
            try:
                return replace(await self._wait(key, call), asked_by=call.asked_by)
            except FatalEngineError:
                raise
            except Exception:
                continue  # the failed call is gone: ask again, or await whoever was faster
        task = asyncio.create_task(_chat(engine, messages, sampling))
        call = self._calls[key] = _Call(name, task)
        return await self._wait(key, call)

    async def _wait(self, key: bytes, call: _Call) -> Completion:
        """Await a call. It is cancelled with its last asker, and forgotten unless it succeeds."""
        call.waiting += 1
        try:
            return await asyncio.shield(call.task)
        finally:
            call.waiting -= 1
            if not call.task.done():
                succeeds = call.waiting > 0 or not call.task.cancel()
            else:
                succeeds = not call.task.cancelled() and call.task.exception() is None
            if not succeeds and self._calls.get(key) is call:
                del self._calls[key]


class _Asker(ForwardingEngine):
    """One asker's view of the shared engine."""

    def __init__(self, shared: SharedAnswers, engine: Engine, asker: str, adapter: Adapter | None) -> None:
        super().__init__(engine)
        self._shared, self._asker, self._adapter = shared, asker, adapter

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer a request; see `SharedAnswers.answer`."""
        return await self._shared.answer(self.engine, self._asker, messages, sampling, self._adapter)


async def _chat(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> Completion:
    return await engine.chat(messages, sampling)


def request_key(messages: Sequence[Message], sampling: Sampling, adapter: Adapter | None = None) -> bytes | None:
    """Return a hash of everything that is asked; None if the same request can have another answer."""
    if sampling.temperature > 0:
        return None
    request = [
        [(message.role, message.content) for message in messages],
        astuple(sampling),
        None if adapter is None else adapter.sha256,
    ]
    return hashlib.sha256(json.dumps(request).encode()).digest()

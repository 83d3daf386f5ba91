"""Bounds the context that rows need before their dialogues are looked up, so that the engine can start meanwhile."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.engines.forwarding import ForwardingEngine
from localemp.engines.planner import Encode, Planner
from localemp.errors import DryRunError, EngineError, LocalempError, PromptTooLongError
from localemp.pipeline.batch import Batch
from localemp.sampling import Sampling
from localemp.strategies.base import Draft
from localemp.utils.progress import OnProgress, Progress

# Tokens by which a text can differ from the sum of its parts: with the longest additions, the longest prompt is that of
# a dialogue whose prompt is about the longest without any.
_NEAR = 32
# Tokens by which an exemplar or a block of inferences may be longer in a prompt than alone.
_SLACK = 8


class ContextBound:
    """Bounds prompts and replies of rows of one model, in tokens.

    The dialogues of a row are measured without additions; those with the longest prompts also with the longest
    additions that the row's lookups can make. Rows that differ only in their lookups are measured once.

    Args:
        encode: Returns the tokens of a prompt.
        on_progress: Called with dialogues measured.
    """

    def __init__(self, encode: Encode, on_progress: OnProgress) -> None:
        self._planner = Planner(encode, sys.maxsize)
        self._on_progress = on_progress
        self._bare: dict[Any, list[int]] = {}

    async def of(self, batch: Batch, longest: Draft) -> int:
        """Return how many tokens hold every prompt of a batch and its reply.

        Args:
            batch: The batch.
            longest: A draft with the longest additions of any dialogue.
        """
        lengths = await self._without_additions(batch)
        if longest == Draft(longest.dialogue):
            return max(lengths)
        near = max(lengths) - _NEAR
        drafts = [
            replace(longest, dialogue=dialogue)
            for dialogue, length in zip(batch.pending, lengths, strict=True)
            if length >= near
        ]
        parts = len(longest.exemplars) + (longest.inferences is not None) + len(longest.additions)
        return max([await self._length(batch, draft) for draft in drafts]) + _SLACK * parts

    async def _without_additions(self, batch: Batch) -> list[int]:
        strategy, pending = batch.pipeline.strategy, batch.pending
        flow = type(strategy.flow), repr(strategy.flow.describe())
        key = (*flow, repr(strategy.prompts.describe()), strategy.sampling, tuple(each.id for each in pending))
        if key not in self._bare:
            lengths = self._bare[key] = []
            for dialogue in pending:
                lengths.append(await self._length(batch, Draft(dialogue)))
                progress = Progress("Measuring", len(lengths), len(pending), "dialogues", row=batch.name)
                self._on_progress(progress)
                if len(lengths) % 32 == 0:
                    await asyncio.sleep(0)  # lets Ctrl-C and the progress display in
        return self._bare[key]

    async def _length(self, batch: Batch, draft: Draft) -> int:
        self._planner.longest = 0
        try:
            await batch.pipeline.strategy.respond(draft, self._planner)
        except DryRunError:  # later prompts are unknown: all of the model's context
            return self._planner.limit
        except EngineError:  # rejected: it fails again when answered, and is recorded then
            pass
        return self._planner.longest


class ContextTooShortError(LocalempError):
    """A prompt fits the model's context, but not the one that the engine was started with."""


class BoundedEngine(ForwardingEngine):
    """An engine whose context may have been bounded too low: no exemplar is dropped for that.

    Args:
        engine: The engine.
        limit: Length of the model's context, in tokens.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        super().__init__(engine)
        self._limit = limit

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer one list of messages.

        Raises:
            ContextTooShortError: The model's context would hold prompt and reply.
            EngineError: As the engine raises it.
        """
        with self._bounded():
            return await self.engine.chat(messages, sampling)

    async def candidates(self, messages: Sequence[Message], sampling: Sampling, number: int) -> list[Completion]:
        """Return several answers to one list of messages; raises as `chat` does."""
        with self._bounded():
            return await self.engine.candidates(messages, sampling, number)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            yield
        except PromptTooLongError as error:
            if error.prompt_tokens is None or error.prompt_tokens + error.reply_tokens > self._limit:
                raise
            raise ContextTooShortError(error.message, error.hint) from error

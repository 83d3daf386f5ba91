"""A Ray actor with its own strategy and engine, run by Ray Data in a cluster (`ray_cluster.py`).

An actor builds both from the config, then drafts and answers its shares of the dialogues, several at once, so that its
engine never idles.
"""

import asyncio
import os
import pickle
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.dialogue import Dialogue
from localemp.errors import FatalEngineError, LocalempError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import answer_one, draft_all, for_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.responder import CHAT_CONTEXT
from localemp.strategies.base import Draft
from localemp.utils.config_diff import compare_settings
from localemp.utils.machine import gpu


@dataclass(frozen=True, slots=True)
class ShareResult:
    """An actor's results for one share of the dialogues.

    Attributes:
        who: The actor: node, process and GPU, if it has one.
        engine: The engine's description, for the manifest.
        records: Lines for the run, see `localemp.runs.run`.
        seconds: Seconds since the engine was ready.
        stopped: Why the actor stopped, if the rest of the share is missing.
    """

    who: str
    engine: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    seconds: float
    stopped: FatalEngineError | None


class EngineActor:
    """Strategy and engine in one process, for Ray Data.

    Args:
        config: The configuration.
        settings: The run's settings.
        folder: The folder that the run was started in; file names are relative to it.
        sample: A dialogue for loading encoder and COMET before the engine, which takes the remaining memory.
    """

    def __init__(self, config: RunConfig, settings: dict[str, Any], folder: Path, sample: Dialogue) -> None:
        with suppress(OSError):
            os.chdir(folder)
        self._pipeline = Pipeline(config)
        self._context = CHAT_CONTEXT
        self._stopped: FatalEngineError | None = None
        device = gpu()
        self._who = f"{socket.gethostname()} {os.getpid()}" + (f" ({device})" if device != "none" else "")
        try:
            asyncio.run(self._start(settings, sample))
        except LocalempError as error:
            self._stopped = _portable(error)
        self._ready = time.perf_counter()

    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer a share. Errors for the user are returned as part of the result."""
        records: list[Mapping[str, Any]] = []
        stopped = self._stopped
        if stopped is None:
            try:
                await self._answer(pickle.loads(row["share"]), records)
            except LocalempError as error:
                stopped = _portable(error)
        engine = self._engine.describe() if self._stopped is None else {}
        answers = ShareResult(self._who, engine, records, time.perf_counter() - self._ready, stopped)
        return {"answers": pickle.dumps(answers)}

    async def _start(self, settings: dict[str, Any], sample: Dialogue) -> None:
        pipeline = self._pipeline
        here = pipeline.settings([], settings["split"]) | {"data_sha256": settings["data_sha256"]}
        if difference := compare_settings(settings, here, "in the run", f"on {socket.gethostname()}"):
            raise FatalEngineError(
                f"a node of the cluster has other settings: {'; '.join(difference)}",
                "give every node the same weights, data and version of localemp",
            )
        await pipeline.strategy.draft(sample)
        context = None
        if pipeline.runs_here:
            context = self._context = min(self._context, pipeline.context_length)
        self._engine = pipeline.engine(context)
        await self._engine.start()
        self._slots = asyncio.Semaphore(pipeline.config.concurrency or self._engine.concurrency)

    async def _answer(self, dialogues: Sequence[Dialogue], records: list[Mapping[str, Any]]) -> None:
        pipeline = self._pipeline
        drafts = await draft_all(pipeline.strategy, dialogues)
        if pipeline.runs_here and "max_model_len" not in pipeline.config.engine_args:
            await self._check_length(drafts)

        async def answer(draft: Draft) -> None:
            async with self._slots:
                records.append(await answer_one(pipeline.strategy, draft, self._engine))

        await for_all(drafts, answer, len(drafts))

    async def _check_length(self, drafts: Sequence[Draft]) -> None:
        """Raise FatalEngineError if a prompt does not fit: exemplars must not be dropped that fit on one machine."""
        needed = await plan(self._pipeline.strategy, drafts, self._pipeline.planner())
        if needed > self._context:
            raise FatalEngineError(
                f"a prompt and its reply need {needed} tokens, but the engines hold {self._context}",
                f"add --engine-arg max_model_len={needed} or more",
            )


def _portable(error: LocalempError) -> FatalEngineError:
    """Return the same error in a form that can be pickled."""
    portable = FatalEngineError(error.message, error.hint)
    portable.exit_code = error.exit_code
    return portable

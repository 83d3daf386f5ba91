"""Strategy and engine in a process of their own, as Ray Data runs them somewhere in a cluster (`cluster.py`).

An actor builds both from the config where it runs, drafts its own shares of the dialogues and answers them, several at
once, so that its engine never waits for the end of one.
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
from localemp.pipeline.responder import TALK_CONTEXT
from localemp.strategies.base import Draft
from localemp.utils.config_diff import compare_settings
from localemp.utils.machine import gpu


@dataclass(frozen=True, slots=True)
class Answers:
    """What an actor made of a share.

    Attributes:
        who: The actor: node and process, and its GPU where it has one.
        engine: What its engine tells of itself, for the manifest.
        records: Lines for the run, see `localemp.runs.run`.
        seconds: Since its engine was ready.
        stopped: Why there are no further replies to be had, and the rest of the share is missing.
    """

    who: str
    engine: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    seconds: float
    stopped: FatalEngineError | None


class EngineActor:
    """Strategy and engine in a process of their own, for Ray Data.

    Args:
        config: What to make them from.
        settings: The run's.
        folder: Where the run was started: names of files are meant from there.
        sample: A dialogue to load encoder and COMET with: the engine takes what memory they leave.
    """

    def __init__(self, config: RunConfig, settings: dict[str, Any], folder: Path, sample: Dialogue) -> None:
        with suppress(OSError):
            os.chdir(folder)
        self._assembly = Pipeline(config)
        self._context = TALK_CONTEXT
        self._stopped: FatalEngineError | None = None
        device = gpu()
        self._who = f"{socket.gethostname()} {os.getpid()}" + (f" ({device})" if device != "none" else "")
        try:
            asyncio.run(self._start(settings, sample))
        except LocalempError as error:
            self._stopped = _portable(error)
        self._ready = time.perf_counter()

    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer a share. It never raises what a person should read: an error travels as part of the answer."""
        records: list[Mapping[str, Any]] = []
        stopped = self._stopped
        if stopped is None:
            try:
                await self._answer(pickle.loads(row["share"]), records)
            except LocalempError as error:
                stopped = _portable(error)
        engine = self._engine.describe() if self._stopped is None else {}
        answers = Answers(self._who, engine, records, time.perf_counter() - self._ready, stopped)
        return {"answers": pickle.dumps(answers)}

    async def _start(self, settings: dict[str, Any], sample: Dialogue) -> None:
        pipeline = self._assembly
        here = pipeline.settings([], settings["split"]) | {"data_sha256": settings["data_sha256"]}
        if difference := compare_settings(settings, here, "in the run", f"on {socket.gethostname()}"):
            raise FatalEngineError(
                f"a node of the cluster would answer otherwise: {'; '.join(difference)}",
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
        pipeline = self._assembly
        drafts = await draft_all(pipeline.strategy, dialogues)
        if pipeline.runs_here and "max_model_len" not in pipeline.config.engine_args:
            await self._check_length(drafts)

        async def answer(draft: Draft) -> None:
            async with self._slots:
                records.append(await answer_one(pipeline.strategy, draft, self._engine))

        await for_all(drafts, answer, len(drafts))

    async def _check_length(self, drafts: Sequence[Draft]) -> None:
        """A run on one machine makes its context as long as needed; what is too long here must not be cut instead."""
        needed = await plan(self._assembly.strategy, drafts, self._assembly.planner())
        if needed > self._context:
            raise FatalEngineError(
                f"a prompt and its reply need {needed} tokens, and the engines hold {self._context}",
                f"add --engine-arg max_model_len={needed} or more",
            )


def _portable(error: LocalempError) -> FatalEngineError:
    """The same error as one that can be pickled, whatever its own arguments are."""
    told = FatalEngineError(error.message, error.hint)
    told.exit_code = error.exit_code
    return told

"""A Ray actor with one engine for all rows of a model, run by Ray Data in a cluster (`ray_cluster.py`).

An actor builds each row's strategy and the engine from the configs, then drafts and answers its shares of the
dialogues, several at once, so that its engine never idles.
"""

import asyncio
import itertools
import os
import pickle
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from localemp.dialogue import Dialogue
from localemp.engines.base import TURN
from localemp.errors import FatalEngineError, LocalempError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.flow_copies import Copies, with_copies
from localemp.pipeline.generate import answer_one, draft_all, for_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.responder import CHAT_CONTEXT
from localemp.pipeline.shared_answers import SharedAnswers
from localemp.strategies.base import Draft
from localemp.utils.config_diff import compare_settings
from localemp.utils.machine import gpu


@dataclass(frozen=True, slots=True)
class ActorRow:
    """What an actor is told about a row.

    Attributes:
        name: The row's name; empty if there is only one.
        config: The configuration.
        settings: The run's settings.
        sample: A dialogue for loading encoder and COMET before the engine, which takes the remaining memory.
        flows: The files of the strategy.
    """

    name: str
    config: RunConfig
    settings: Mapping[str, Any]
    sample: Dialogue
    flows: Copies = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """Dialogues of one row that an actor receives and returns together.

    Attributes:
        row: Number of the row.
        dialogues: The dialogues.
    """

    row: int
    dialogues: Sequence[Dialogue]


@dataclass(slots=True)
class ShareResult:
    """An actor's results for one share.

    Attributes:
        row: Number of the row.
        who: The actor: node, process and GPU, if it has one.
        engine: The engine's description, for the manifest; empty if it did not start.
        records: Lines for the run, see `localemp.runs.run`.
        notes: Notes on all dialogues that the actor has drafted for the row, by topic.
        seconds: Seconds since the engine was ready.
        failed: Why the rest of the share is missing, if the actor can still answer other rows.
        stopped: Why the rest of the share is missing, if it cannot.
    """

    row: int
    who: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    notes: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    failed: FatalEngineError | None = None
    stopped: FatalEngineError | None = None


class EngineActor:
    """The strategies of all rows and one engine in one process, for Ray Data.

    Args:
        rows: The rows, all of the same model.
        folder: The folder that the command was started in; file names are relative to it.
    """

    def __init__(self, rows: Sequence[ActorRow], folder: Path) -> None:
        with suppress(OSError):
            os.chdir(folder)
        self._flows = TemporaryDirectory(prefix="localemp-flows-")
        configs = [_with_own_flows(row, Path(self._flows.name, str(number))) for number, row in enumerate(rows)]
        self._first = Pipeline(configs[0])
        self._pipelines = [self._first, *(self._first.sharing(config) for config in configs[1:])]
        self._names = [row.name for row in rows]
        self._context, self._turns = CHAT_CONTEXT, itertools.count(1)
        self._failed: dict[int, FatalEngineError] = {}
        self._stopped: FatalEngineError | None = None
        device = gpu()
        self._who = f"{socket.gethostname()} {os.getpid()}" + (f" ({device})" if device != "none" else "")
        try:
            asyncio.run(self._start(rows))
        except LocalempError as error:
            self._stopped = _portable(error)
        self._ready = time.perf_counter()

    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer a share. Errors for the user are returned as part of the result."""
        share: Share = pickle.loads(row["share"])
        result = ShareResult(share.row, self._who, failed=self._failed.get(share.row), stopped=self._stopped)
        if result.failed is None and result.stopped is None:
            await self._answer(share, result)
            pipeline = self._pipelines[share.row]
            result.engine = self._engine.adapted(pipeline.adapter).describe()
            result.notes = pipeline.strategy.notes()
        result.seconds = time.perf_counter() - self._ready
        return {"answers": pickle.dumps(result)}

    async def _start(self, rows: Sequence[ActorRow]) -> None:
        """Load what every row needs, then start the engine; a row that cannot be answered here does not stop others."""
        for number, (row, pipeline) in enumerate(zip(rows, self._pipelines, strict=True)):
            try:
                await _load(row, pipeline)
            except LocalempError as error:
                self._failed[number] = _portable(error)
        if len(self._failed) == len(rows):
            return
        context = None
        if self._first.runs_here:
            context = self._context = min(self._context, self._first.context_length)
        able = [pipeline for number, pipeline in enumerate(self._pipelines) if number not in self._failed]
        self._engine = self._first.engine(context, adapters=[pipeline.adapter for pipeline in able])
        await self._engine.start()
        self._slots = asyncio.Semaphore(self._first.config.concurrency or self._engine.concurrency)
        self._shared = SharedAnswers(self._engine) if len(rows) > 1 else None

    async def _answer(self, share: Share, result: ShareResult) -> None:
        """Answer the dialogues of a share, as far as possible, into its result."""
        pipeline, name = self._pipelines[share.row], self._names[share.row]

        async def answer(draft: Draft) -> None:
            asker = f"{name}: {draft.dialogue.id}"
            adapter = pipeline.adapter
            engine = self._engine.adapted(adapter) if self._shared is None else self._shared.asking(asker, adapter)
            async with self._slots:
                TURN.set(next(self._turns))
                result.records.append(await answer_one(pipeline.strategy, draft, engine))

        try:
            drafts = await draft_all(pipeline.strategy, share.dialogues)
            if pipeline.runs_here and "max_model_len" not in pipeline.config.engine_args:
                await self._check_length(pipeline, drafts)
        except LocalempError as error:
            result.failed = _portable(error)
            return
        try:
            await for_all(drafts, answer, len(drafts))
        except FatalEngineError as error:
            result.stopped = _portable(error)
        except LocalempError as error:
            result.failed = _portable(error)

    async def _check_length(self, pipeline: Pipeline, drafts: Sequence[Draft]) -> None:
        """Raise FatalEngineError if a prompt does not fit: exemplars must not be dropped that fit on one machine."""
        needed = await plan(pipeline.strategy, drafts, pipeline.planner())
        if needed > self._context:
            raise FatalEngineError(
                f"a prompt and its reply need {needed} tokens, but the engines hold {self._context}",
                f"add --engine-arg max_model_len={needed} or more",
            )


def _with_own_flows(row: ActorRow, folder: Path) -> RunConfig:
    """Return a row's configuration with copies of its flows here, whatever this machine has at their paths."""
    return replace(row.config, strategy=with_copies(row.config.strategy, row.flows, folder))


async def _load(row: ActorRow, pipeline: Pipeline) -> None:
    """Load encoder and COMET, and check that this node answers as the run says.

    Raises:
        LocalempError: Its settings differ, or something is missing.
    """
    settings = row.settings
    of_data = {name: settings[name] for name in ("data_sha256", "sample_seed") if name in settings}
    here = pipeline.settings([], settings["split"]) | of_data
    if difference := compare_settings(settings, here, "in the run", f"on {socket.gethostname()}"):
        raise FatalEngineError(
            f"a node of the cluster has other settings: {'; '.join(difference)}",
            "give every node the same weights, data and version of localemp",
        )
    await pipeline.strategy.draft(row.sample)
    pipeline.strategy.count_anew()  # the sample is drafted again with its share


def _portable(error: LocalempError) -> FatalEngineError:
    """Return the same error in a form that can be pickled."""
    portable = FatalEngineError(error.message, error.hint)
    portable.exit_code = error.exit_code
    return portable

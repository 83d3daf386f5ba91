"""`generate`: answer every dialogue of a data set, into a run that can be stopped and resumed."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue
from localemp.errors import OptionError
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.generate import Tally, answer_all, draft_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import Run, default_folder, newest, read_lines
from localemp.utils.asynchronous import run_here
from localemp.utils.formatting import count, share
from localemp.utils.interrupts import noting
from localemp.utils.machine import machine, versions
from localemp.utils.option import check_at_least
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import shown_command

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """A run after `generate`.

    Attributes:
        folder: The run's folder.
        settings: Everything that can change the replies, as in the run's manifest.
        dialogues: Number of dialogues requested.
        answered: Ids of those that have a reply now, in the order of the data.
        failed: Number of those that have an error instead.
        tally: Totals of this call: dialogues, tokens, seconds, US dollars. None if nothing was left to do.
        notes: Notes on how prompts were built, such as truncated dialogues.
    """

    folder: Path
    settings: Mapping[str, Any]
    dialogues: int
    answered: tuple[str, ...]
    failed: int
    tally: Tally | None = None
    notes: tuple[str, ...] = ()

    def records(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the newest line of each answered dialogue, as in `responses.jsonl`: "id", "reply", "stages", ...

        Args:
            limit: Only the first N.

        Raises:
            RunError: The run cannot be read.
        """
        chosen = self.answered[:limit]
        wanted = set(chosen)
        lines = (line for line in read_lines(self.folder) if line[1]["id"] in wanted)
        kept = {record["id"]: record for record in newest(lines)}
        return [kept[name] for name in chosen]


def generate(
    config: RunConfig | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    ray: str | None = None,
    actors: int | None = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> GenerateResult:
    """Answer every dialogue of a data set. Replies are written as they finish; the same call resumes a stopped run.

        result = generate(model="llama", strategy="two-stage", data="empathetic-dialogues", limit=100)

    Args:
        config: The configuration; alternatively, give its settings as keywords.
        split: Of the data: "train", "valid" or "test".
        limit: Answer only the first N dialogues, from 1.
        out: The run's folder; by default `runs/MODEL-STRATEGY-HASH`, the same for the same settings.
        retry_errors: Retry dialogues that failed before.
        ray: Answer on a Ray cluster: "auto", "local", "HOST:PORT" or "ray://HOST:PORT".
        actors: Engines on the cluster; by default as many as fit its GPUs, or one per machine.
        on_progress: Called at every step: weights fetched, dialogues looked up, measured, answered.
        **settings: Settings of `RunConfig`.

    Raises:
        LocalempError: Something is missing or invalid, or the engine failed for good. Finished replies are in the run;
            the error's note says how many. A single dialogue that fails is recorded as a line of the run.
        KeyboardInterrupt: Ctrl-C. Finished replies are in the run; the note says how many.
    """
    batch = _Batch(
        RunConfig.of(settings, config), split, limit, out=out, ray=ray, actors=actors, on_progress=on_progress
    )
    with Run.open(batch.folder, batch.settings) as run:
        pending = batch.pending(run, retry_errors)
        if not pending:
            return batch.result(run, None)
        with noting(partial(batch.saved, run)):
            if ray is None:
                tally = run_here(batch.answer(run, pending), "await generate_async(...) there")
            else:
                tally = batch.answer_on_cluster(run, pending, ray, actors)
        return batch.result(run, tally)


async def generate_async(
    config: RunConfig | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> GenerateResult:
    """Do the same as `generate` in a running event loop, without a cluster. Reading data and weights blocks the loop.

    Arguments and errors are those of `generate`; a cancelled task can be resumed, as after Ctrl-C.
    """
    batch = _Batch(RunConfig.of(settings, config), split, limit, out=out, on_progress=on_progress)
    with Run.open(batch.folder, batch.settings) as run:
        pending = batch.pending(run, retry_errors)
        if not pending:
            return batch.result(run, None)
        with noting(partial(batch.saved, run)):
            tally = await batch.answer(run, pending)
        return batch.result(run, tally)


class _Batch:
    """One call of `generate`: its dialogues, pipeline and settings."""

    def __init__(
        self,
        config: RunConfig,
        split: str,
        limit: int | None,
        *,
        out: str | PathLike[str] | None,
        ray: str | None = None,
        actors: int | None = None,
        on_progress: OnProgress,
    ) -> None:
        if actors is not None and ray is None:
            raise OptionError("--actors says how many engines a Ray cluster runs", "add --ray ADDRESS, or leave it out")
        check_at_least(1, limit=limit, actors=actors)
        if out is not None:
            Run.check_place(Path(out))
        dialogues = load_dialogues(config.data, split, config.instances)
        self.on_progress = on_progress
        self.pipeline = Pipeline(config, on_progress)
        if notice := self.pipeline.profile.notice:
            _log.info("note: %s", notice)
        if ray is not None and not self.pipeline.runs_here and config.script is None:
            raise OptionError("--ray is for models that run on the cluster, and a server answers here", "leave one out")
        self.settings = self.pipeline.settings(dialogues, split)
        self.folder = default_folder(self.settings) if out is None else Path(out)
        self.chosen = dialogues[:limit]
        for dialogue in self.chosen:
            self.pipeline.strategy.check(dialogue)

    def pending(self, run: Run, retry_errors: bool) -> list[Dialogue]:
        """Return the dialogues to answer now; logs how many are skipped."""
        pending = [
            dialogue
            for dialogue in self.chosen
            if dialogue.id not in run.answered and (retry_errors or dialogue.id not in run.failed)
        ]
        before = sum(dialogue.id in run.answered for dialogue in self.chosen)
        left_out = len(self.chosen) - len(pending) - before
        if before or left_out:
            failures = f", {left_out} failed before (--retry-errors asks again)" if left_out else ""
            done = share(before, len(self.chosen), "reply", "replies")
            _log.info("resuming: %s already in %s%s", done, run.folder, failures)
        return pending

    def saved(self, run: Run) -> str:
        """The number of replies in the run's file, read each time."""
        written = run.written()
        done = sum(dialogue.id in written for dialogue in self.chosen)
        return f"{share(done, len(self.chosen), 'reply', 'replies')} saved to {run.folder}"

    def result(self, run: Run, tally: Tally | None) -> GenerateResult:
        """Return the result so far."""
        return GenerateResult(
            run.folder,
            self.settings,
            len(self.chosen),
            tuple(dialogue.id for dialogue in self.chosen if dialogue.id in run.answered),
            sum(dialogue.id in run.failed for dialogue in self.chosen),
            tally,
            tuple(self.pipeline.strategy.notes().values()),
        )

    async def answer(self, run: Run, pending: Sequence[Dialogue]) -> Tally:
        """Answer with an engine of this process."""
        pipeline, strategy = self.pipeline, self.pipeline.strategy
        drafts = await draft_all(strategy, pending, self.on_progress)
        notes = list(strategy.notes().values())
        for note in notes:
            _log.info("note: %s", note)
        context = None
        if pipeline.runs_here:
            context = await plan(strategy, drafts, pipeline.planner(), self.on_progress)
        engine = pipeline.engine(context, run.folder / "engine.log")
        self.on_progress(Progress(f"Starting {engine.name} ({pipeline.profile.name})"))
        await engine.start()
        try:
            run.add_session(self._session({**engine.describe(), **({"notes": notes} if notes else {})}))
            return await answer_all(strategy, drafts, engine, run, self.on_progress)
        finally:
            await engine.close()

    def answer_on_cluster(self, run: Run, pending: Sequence[Dialogue], address: str, actors: int | None) -> Tally:
        """Answer with engines on a Ray cluster; only this process writes the run."""
        from localemp.pipeline.ray_cluster import Cluster

        pipeline = self.pipeline
        with Cluster(address, run.folder / "ray.log") as cluster, ExitStack() as stack:
            actors = min(actors or cluster.actors_for(pipeline.config), len(pending))
            answers = stack.enter_context(closing(cluster.answers(pipeline, self.settings, pending, actors)))
            self.on_progress(Progress(f"Starting {count(actors, 'engine')} on Ray ({pipeline.profile.name})"))
            first = next(answers)
            tally = Tally(len(pending), started=time.perf_counter() - first.seconds)
            who: list[str] = []
            left = {dialogue.id for dialogue in pending}
            for part in chain([first], answers):
                if part.engine and not who:
                    run.add_session(self._session({**part.engine, **cluster.describe(), "actors": actors}))
                if part.engine and part.who not in who:
                    who.append(part.who)
                    run.change_session({"engines": who})
                for record in part.records:
                    if record["id"] in left:  # Ray may repeat a task; each reply is written once
                        left.remove(record["id"])
                        run.append(record)
                        tally.add(record)
                self.on_progress(tally.progress())
                if part.stopped is not None:
                    raise part.stopped
            tally.ended = time.perf_counter()
            return tally

    def _session(self, engine: Mapping[str, Any]) -> dict[str, Any]:
        """Return the session for the manifest: number of dialogues, command, versions, machine, engine."""
        return {
            "command": shown_command(),
            "dialogues": len(self.chosen),
            "versions": versions(),
            "machine": machine(),
            **engine,
        }

"""`experiment`: answer all rows of a plan, and make of them what the plan wants."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from localemp.commands.experiment_plan import PlannedExperiment, Settings
from localemp.commands.experiment_results import Finished, finish
from localemp.engines.budget import Budget
from localemp.errors import RunError
from localemp.estimates.estimate import RowEstimate
from localemp.estimates.recorded import Estimates
from localemp.estimates.truth import Truth
from localemp.experiments.plan import Plan
from localemp.experiments.rows import RowResult
from localemp.experiments.runner import Runner
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunSettings
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.ray_driver import check_actors
from localemp.runs.truncation import Truncation, read_truncation
from localemp.utils.asynchronous import run_here
from localemp.utils.interrupts import noting
from localemp.utils.progress import OnProgress, silent

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """An experiment after `experiment`.

    Attributes:
        folder: Its folder.
        rows: How far each row is.
        written: Files and folders that were made of the rows, such as the report; also those that were up to date.
        failures: Steps after the answers that failed, each with the reason and the command that repeats it.
        notes: What a reader of the results has to know.
        compared: Estimate and truth of each model, all its rows together, as far as they were answered now.
    """

    folder: Path
    rows: tuple[RowResult, ...]
    written: tuple[Path, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    compared: tuple[tuple[RowEstimate, Truth], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every dialogue of every row has a reply, and every step succeeded."""
        return all(row.complete for row in self.rows) and not self.failures


def experiment(
    plan: str | PathLike[str] | Plan,
    *,
    models: str | Settings | Iterable[str | Settings] = (),
    split: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    budget: float | None = None,
    after: Mapping[str, Any] = {},
    ray: str | None = None,
    actors: int | None = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> ExperimentResult:
    """Answer all rows of a plan, then score, compare and report them as the plan says. The same call resumes.

        result = experiment("paper", models=["llama", "qwen"], data="empathetic-dialogues", limit=100)

    Every row is an ordinary run. Each model has one engine, on which all of its rows are in flight; models that run
    here follow one another, those on servers are asked at the same time. What fails stops nothing else: look at
    `ExperimentResult.rows` and `.failures`.

    Args:
        plan: The name of a bundled plan, a TOML file, or a plan.
        models: The models, instead of the plan's: names, or tables as in a plan.
        split: Of the data: "train", "valid" or "test".
        limit: Answer only the first N dialogues, from 1.
        sample: Answer only N dialogues at random, from 1: the same for every row, drawn with `seed`, else with that of
            the plan's defaults.
        out: The experiment's folder; by default `experiments/PLAN-MODEL`.
        retry_errors: Retry dialogues that failed before.
        budget: US dollars that all rows, and the judges afterwards, may cost together, earlier sessions included; by
            default the plan's. What does not fit any more is not asked.
        after: Steps afterwards, by the keys of a plan's `[after]`, such as `{"score": {"no_bertscore": True}}`. Their
            options are joined with the plan's; true keeps those, false omits a step.
        ray: Answer on a Ray cluster: "auto", "local", "HOST:PORT" or "ray://HOST:PORT".
        actors: Engines on the cluster; by default as many as fit its GPUs, or one per machine.
        on_progress: Called at every step. `Progress.row` names the row that it is about.
        **settings: Settings of `RunConfig`, for all rows; those of a row in the plan come first. `data` replaces the
            plan's.

    Raises:
        LocalempError: The plan or a row is invalid, or something is missing; names row and key. No engine was started.
        KeyboardInterrupt: Ctrl-C. Finished replies are in the runs; the note says how many. No further step follows.
    """
    check_actors(ray, actors)
    planned = PlannedExperiment.of(
        plan, settings, models=models, split=split, limit=limit, sample=sample, out=out, after=after
    )
    if ray is None:
        _check_process(planned)
    work = _Work.of(planned, retry_errors, budget, on_progress)
    with work.runner as runner, noting(runner.saved):
        if ray is not None:
            runner.run_on_cluster(ray, actors)
        if runner.pending:
            run_here(runner.run(), "await experiment_async(...) there")
        return work.result(work.finish())


async def experiment_async(
    plan: str | PathLike[str] | Plan,
    *,
    models: str | Settings | Iterable[str | Settings] = (),
    split: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    budget: float | None = None,
    after: Mapping[str, Any] = {},
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> ExperimentResult:
    """Do the same as `experiment` in a running event loop, without a cluster. Reading data and weights blocks the loop.

    Arguments and errors are those of `experiment`; a cancelled task can be resumed, as after Ctrl-C.
    """
    planned = PlannedExperiment.of(
        plan, settings, models=models, split=split, limit=limit, sample=sample, out=out, after=after
    )
    _check_process(planned)
    work = _Work.of(planned, retry_errors, budget, on_progress)
    with work.runner as runner, noting(runner.saved):
        if runner.pending:
            await runner.run()
        # Steps such as a judge have event loops of their own.
        return work.result(await asyncio.to_thread(work.finish))


def _check_process(planned: PlannedExperiment) -> None:
    for row in {row.model: row for row in planned.rows}.values():
        Pipeline(row.config).check_process()


@dataclass(frozen=True, slots=True)
class _Work:
    """What both functions do."""

    experiment: PlannedExperiment
    runner: Runner
    on_progress: OnProgress
    estimates: Estimates

    @classmethod
    def of(
        cls, planned: PlannedExperiment, retry_errors: bool, limit: float | None, on_progress: OnProgress
    ) -> "_Work":
        plan = planned.plan
        budget = Budget(plan.budget if limit is None else limit)
        estimates = Estimates(lambda estimate: _log.info("estimate, %s: %s", estimate.total.model, estimate.line))
        runner = Runner(
            planned.rows,
            planned.folder,
            plan.name,
            plan.model_dump(mode="json"),
            retry_errors=retry_errors,
            budget=budget,
            on_progress=on_progress,
            observe=estimates.observe,
        )
        return cls(planned, runner, on_progress, estimates)

    def finish(self) -> Finished:
        compared = self.estimates.compared()
        facts = {batch.folder: {"estimate": asdict(each), "truth": asdict(truth)} for batch, each, truth in compared}
        if facts:
            self.runner.folder.change_rows(facts)
        plan = self.experiment.plan
        rows, budget = self.runner.results(), self.runner.budget
        return finish(self.experiment.folder, rows, plan.after, plan.name, self.on_progress, budget)

    def result(self, finished: Finished) -> ExperimentResult:
        rows = tuple(replace(row, truncation=_truncation(row)) for row in self.runner.results())
        compared = tuple(
            (replace(estimate, model=self._models_of(batches)), truth)
            for batches, estimate, truth in self.estimates.totals()
        )
        return ExperimentResult(
            self.experiment.folder, rows, finished.written, finished.failures, finished.notes, compared
        )

    def _models_of(self, batches: Sequence[Batch]) -> str:
        """The models of batches, as the plan calls them."""
        rows = zip(self.runner.rows, self.runner.batches, strict=True)
        return ", ".join(dict.fromkeys(row.model for row, batch in rows if batch in batches))


def _truncation(row: RowResult) -> Truncation:
    """Return how many replies of a row were truncated; nothing is known of a run that cannot be read."""
    if row.folder is None or not row.answered:
        return Truncation()
    try:
        return read_truncation(row.folder)
    except RunError:  # the report has named it
        return Truncation()

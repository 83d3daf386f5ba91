"""`generate`: answer every dialogue of a data set, into a run that can be stopped and resumed."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from localemp.data.subset import Subset
from localemp.engines.budget import Budget, Limit
from localemp.errors import BudgetError, OptionError
from localemp.estimates.estimate import Estimate
from localemp.estimates.estimator import Estimator
from localemp.estimates.truth import Truth
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.generate import Tally
from localemp.pipeline.going_on import say_how
from localemp.pipeline.pipeline import Pipeline
from localemp.pipeline.ray_driver import answer_batches_on_cluster, check_actors
from localemp.pipeline.schedule import answer_batches
from localemp.runs.bill import Bill
from localemp.runs.order import in_order
from localemp.runs.run import read_lines
from localemp.runs.truncation import Truncation, truncation_of
from localemp.utils.asynchronous import run_here
from localemp.utils.interrupts import noting
from localemp.utils.progress import OnProgress, silent

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
        estimate: What this call was estimated to take before the engine started; None if nothing was left to do, or on
            a cluster. The tally is the truth.
        bill: What the run has cost over all sessions; `tally.bill` is this session's.
    """

    folder: Path
    settings: Mapping[str, Any]
    dialogues: int
    answered: tuple[str, ...]
    failed: int
    tally: Tally | None = None
    notes: tuple[str, ...] = ()
    estimate: Estimate | None = None
    bill: Bill = field(default_factory=Bill)

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
        kept = {record["id"]: record for record in in_order(self.folder, lines)}
        return [kept[name] for name in chosen]

    def truncation(self) -> Truncation:
        """Return how many of the answered dialogues have a reply that the limit of tokens ended.

        Raises:
            RunError: As in `records`.
        """
        return truncation_of(self.records(), self.settings)


def generate(
    config: RunConfig | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    sample: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    budget: Limit = None,
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
        sample: Answer only N dialogues at random, from 1, drawn with `seed`: the same for every strategy, and part of
            every larger sample of the seed, which continues the run. docs/data.md says how they are drawn.
        out: The run's folder; by default `runs/MODEL-STRATEGY-HASH`, the same for the same settings.
        retry_errors: Retry dialogues that failed before.
        budget: US dollars that the run may cost in all, earlier sessions included. It is never passed: what does not
            fit any more is not asked, and a `BudgetError` says how to go on.
        ray: Answer on a Ray cluster: "auto", "local", "HOST:PORT" or "ray://HOST:PORT".
        actors: Engines on the cluster; by default as many as fit its GPUs, or one per machine.
        on_progress: Called at every step: weights fetched, dialogues looked up, measured, answered.
        **settings: Settings of `RunConfig`.

    Raises:
        LocalempError: Something is missing or invalid, or the engine failed for good. Finished replies are in the run;
            the error's note says how many. A single dialogue that fails is recorded as a line of the run.
        KeyboardInterrupt: Ctrl-C. Finished replies are in the run; the note says how many.
    """
    config = RunConfig.of(settings, config)
    batch = _batch(config, split, Subset(limit, sample, config.seed), out, on_progress, budget, ray=ray, actors=actors)
    estimator = Estimator(on_estimate=_say)
    with batch.open(retry_errors):
        if batch.pending:
            with noting(batch.saved), _saying_how(batch):
                if ray is None:
                    answering = answer_batches([batch], batch.folder / "engine.log", on_progress, estimator)
                    run_here(answering, "await generate_async(...) there")
                else:
                    answer_batches_on_cluster([batch], ray, actors, batch.folder / "ray.log", on_progress)
        return _result(batch, estimator)


async def generate_async(
    config: RunConfig | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    sample: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    budget: Limit = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> GenerateResult:
    """Do the same as `generate` in a running event loop, without a cluster. Reading data and weights blocks the loop.

    Arguments and errors are those of `generate`; a cancelled task can be resumed, as after Ctrl-C.
    """
    config = RunConfig.of(settings, config)
    batch = _batch(config, split, Subset(limit, sample, config.seed), out, on_progress, budget)
    estimator = Estimator(on_estimate=_say)
    with batch.open(retry_errors):
        if batch.pending:
            with noting(batch.saved), _saying_how(batch):
                await answer_batches([batch], batch.folder / "engine.log", on_progress, estimator)
        return _result(batch, estimator)


def _batch(
    config: RunConfig,
    split: str,
    subset: Subset,
    out: str | PathLike[str] | None,
    on_progress: OnProgress,
    budget: Limit,
    *,
    ray: str | None = None,
    actors: int | None = None,
) -> Batch:
    check_actors(ray, actors)
    pipeline = Pipeline(config, on_progress, Budget.of(budget))
    if note := pipeline.check_budget():
        _log.info("note: %s", note)
    pipeline.note_end()
    if ray is None:
        pipeline.check_process()
    if ray is not None and not pipeline.runs_here and config.script is None:
        raise OptionError("--ray is for models that run on the cluster, and a server answers here", "leave one out")
    batch = Batch(pipeline, split, subset, folder=out)
    if note := batch.sample_note:
        _log.info("note: %s", note)
    return batch


@contextmanager
def _saying_how(batch: Batch) -> Iterator[None]:
    """Say how to go on where the budget ended."""
    try:
        yield
    except BudgetError as error:
        say_how(error, batch.answered + batch.failed, len(batch.chosen), "dialogue")
        raise


def _say(estimate: Estimate) -> None:
    _log.info("estimate: %s", estimate.line)


def _result(batch: Batch, estimator: Estimator) -> GenerateResult:
    run, estimate, tally = batch.opened, estimator.estimate, batch.tally
    if estimate is not None and tally is not None:
        run.change_session({"estimate": asdict(estimate.rows[0]), "truth": asdict(Truth.of([tally]))})
    return GenerateResult(
        run.folder,
        batch.settings,
        len(batch.chosen),
        tuple(dialogue.id for dialogue in batch.chosen if dialogue.id in run.answered),
        batch.failed,
        tally,
        batch.notes,
        estimate,
        run.bill,
    )

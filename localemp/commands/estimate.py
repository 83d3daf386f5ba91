"""`--estimate`, of `generate` and `experiment`: what runs will take, before they take it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from os import PathLike
from typing import Any, Unpack

from localemp.commands.experiment_plan import PlannedExperiment
from localemp.data.subset import Subset
from localemp.engines.budget import Budget
from localemp.estimates.estimate import Estimate
from localemp.estimates.planning import estimate_batches
from localemp.experiments.checks import build_batches
from localemp.experiments.folder import ExperimentFolder, run_folders
from localemp.experiments.plan import Plan
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.journal import MANIFEST
from localemp.utils.asynchronous import run_here
from localemp.utils.progress import OnProgress, Progress, silent


def estimate(
    config: RunConfig | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    sample: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    budget: float | None = None,
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> Estimate:
    """Return what `generate` with the same arguments will still take: tokens, seconds, US dollars.

        estimate(model="llama", strategy="few-shot", data="empathetic-dialogues").total.prompt_tokens

    No engine is started, and no run is made. Exemplars and inferences are looked up, since they are part of the
    prompts. Without a result of `localemp bench` on this machine, its peak is measured for some seconds.

    Args:
        config: The configuration; alternatively, give its settings as keywords.
        split: As in `generate`.
        limit: As in `generate`.
        sample: As in `generate`.
        out: The run's folder, as in `generate`. What it already has is not counted.
        retry_errors: As in `generate`.
        budget: As in `generate`; the estimate says how far it will last.
        on_progress: Called at every step: weights fetched, dialogues looked up and measured.
        **settings: Settings of `RunConfig`.

    Raises:
        LocalempError: Something is missing or invalid.
    """
    config = RunConfig.of(settings, config)
    subset = Subset(limit, sample, config.seed)
    pipeline = Pipeline(config, on_progress, Budget.of(budget))
    pipeline.check_budget()
    pipeline.note_end()
    return _estimate([Batch(pipeline, split, subset, folder=out)], retry_errors, on_progress)


def estimate_experiment(
    plan: str | PathLike[str] | Plan,
    *,
    models: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]] = (),
    split: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
    budget: float | None = None,
    after: Mapping[str, Any] = {},
    on_progress: OnProgress = silent,
    **settings: Unpack[RunSettings],
) -> Estimate:
    """Return what `experiment` with the same arguments will still take, row by row; see `estimate`.

    The steps afterwards are checked, but not in the numbers: scores, comparisons, a study and its judge.

    Raises:
        LocalempError: The plan or a row is invalid, or something is missing; names row and key.
    """
    planned = PlannedExperiment.of(
        plan, settings, models=models, split=split, limit=limit, sample=sample, out=out, after=after
    )
    ExperimentFolder.check_place(planned.folder)
    money = Budget.of(planned.plan.budget if budget is None else budget)
    # Rows of the same settings have one run.
    batches = list(dict.fromkeys(build_batches(planned.rows, on_progress, money)))
    folders = run_folders(planned.folder, [(batch.name, batch.settings) for batch in batches])
    for batch, folder in zip(batches, folders, strict=True):
        # What `generate` has answered with the same settings is taken over.
        if (folder / MANIFEST).exists() or not (batch.folder / MANIFEST).exists():
            batch.folder = folder
    return _estimate(batches, retry_errors, on_progress)


def _estimate(batches: Sequence[Batch], retry_errors: bool, on_progress: OnProgress) -> Estimate:
    from localemp.bench.roofline.hardware import Hardware, measure_hardware

    @cache  # one measurement for all rows
    def peak() -> Hardware:
        on_progress(Progress("Measuring this machine's peak"))
        return measure_hardware()

    planning = estimate_batches(batches, retry_errors=retry_errors, hardware=peak, on_progress=on_progress)
    found = run_here(planning, "await estimate_batches(...) of localemp.estimates.planning there")
    return replace(found, budget=batches[0].pipeline.budget.left)

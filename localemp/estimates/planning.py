"""Plans runs without starting an engine, for `--estimate`. The prompts are the real ones: everything is looked up."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from localemp.estimates.estimate import Estimate, RowEstimate
from localemp.estimates.estimator import Estimator
from localemp.pipeline.batch import Batch
from localemp.pipeline.generate import draft_all, plan
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.bench.roofline.hardware import Hardware


async def estimate_batches(
    batches: Sequence[Batch],
    *,
    retry_errors: bool = False,
    hardware: "Callable[[], Hardware] | None" = None,
    on_progress: OnProgress = silent,
) -> Estimate:
    """Estimate batches of one or more models; nothing but caches is written.

    Args:
        batches: The batches, not opened. Those of the same `Pipeline.engine_key` share an engine.
        retry_errors: Whether dialogues that failed before will be retried.
        hardware: Measures the peak of this device where no result of `localemp bench` has it.
        on_progress: Called with dialogues looked up and measured.

    Raises:
        LocalempError: A dialogue lacks something, or something cannot be looked up.
    """
    groups: dict[str, list[Batch]] = {}
    for batch in batches:
        batch.look(retry_errors)
        groups.setdefault(batch.pipeline.engine_key, []).append(batch)
    found: dict[int, RowEstimate] = {}
    lookups, done, total = 0.0, 0, sum(len(batch.pending) for batch in batches)
    starts: list[float | None] = []
    for group in groups.values():
        estimator, planner = Estimator(hardware), group[0].pipeline.planner()
        for batch in group:
            estimator.add(batch)
            started = time.perf_counter()
            tell = partial(_tell, on_progress, batch, done, total)
            drafts = await draft_all(batch.pipeline.strategy, batch.pending, tell)
            lookups += time.perf_counter() - started
            await plan(batch.pipeline.strategy, drafts, planner, tell, partial(estimator.planned, batch))
            done += len(batch.pending)
        estimator.ready()
        assert estimator.estimate is not None, "`ready` made it"
        found |= {id(batch): row for batch, row in zip(group, estimator.estimate.rows, strict=True)}
        if group[0].pipeline.runs_here and any(batch.pending for batch in group):
            starts.append(estimator.estimate.start_seconds)
    known = [each for each in starts if each is not None]
    start = sum(known) if known and len(known) == len(starts) else None
    return Estimate(tuple(found[id(batch)] for batch in batches), start, lookups)


def _tell(on_progress: OnProgress, batch: Batch, before: int, total: int, progress: Progress) -> None:
    """Report the prompts of all batches as one task, with the row whose prompts are made or looked up."""
    if progress.task == "Measuring":
        on_progress(Progress("Measuring", before + progress.done, total, "dialogues", batch.name))
    elif progress.task == "Looking up":
        how_far = f"{progress.done}/{progress.total}"
        what = ", ".join(filter(None, (batch.name, f"looking up {how_far}")))
        on_progress(Progress("Measuring", before, total, "dialogues", what))
    else:
        on_progress(progress)

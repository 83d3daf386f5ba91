"""Plans runs without starting an engine, for `--estimate`. The prompts are the real ones: everything is looked up."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from localemp.estimates.estimate import Estimate, RowEstimate
from localemp.estimates.estimator import Estimator
from localemp.pipeline.batch import Batch
from localemp.pipeline.generate import draft_all, plan
from localemp.utils.progress import OnProgress, silent

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
    lookups = 0.0
    starts: list[float | None] = []
    for group in groups.values():
        estimator, planner = Estimator(hardware), group[0].pipeline.planner()
        for batch in group:
            estimator.add(batch)
            started = time.perf_counter()
            drafts = await draft_all(batch.pipeline.strategy, batch.pending, on_progress)
            lookups += time.perf_counter() - started
            await plan(batch.pipeline.strategy, drafts, planner, on_progress, partial(estimator.planned, batch))
        estimator.ready()
        assert estimator.estimate is not None, "`ready` made it"
        found |= {id(batch): row for batch, row in zip(group, estimator.estimate.rows, strict=True)}
        if group[0].pipeline.runs_here and any(batch.pending for batch in group):
            starts.append(estimator.estimate.start_seconds)
    known = [each for each in starts if each is not None]
    start = sum(known) if known and len(known) == len(starts) else None
    return Estimate(tuple(found[id(batch)] for batch in batches), start, lookups)

"""`generate --estimate`: what a run will take, before it takes it."""

from os import PathLike
from typing import Unpack

from localemp.estimates.estimate import Estimate
from localemp.estimates.planning import estimate_batches
from localemp.pipeline.batch import Batch
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.pipeline import Pipeline
from localemp.utils.asynchronous import run_here
from localemp.utils.progress import OnProgress, silent


def estimate(
    config: RunConfig | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    out: str | PathLike[str] | None = None,
    retry_errors: bool = False,
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
        out: The run's folder, as in `generate`. What it already has is not counted.
        retry_errors: As in `generate`.
        on_progress: Called at every step: weights fetched, dialogues looked up and measured.
        **settings: Settings of `RunConfig`.

    Raises:
        LocalempError: Something is missing or invalid.
    """
    from localemp.bench.roofline.hardware import measure_hardware

    pipeline = Pipeline(RunConfig.of(settings, config), on_progress)
    batch = Batch(pipeline, split, limit, folder=out)
    planning = estimate_batches([batch], retry_errors=retry_errors, hardware=measure_hardware, on_progress=on_progress)
    return run_here(planning, "await estimate_batches(...) there")

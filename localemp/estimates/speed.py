"""How fast a model answers on this machine: as `localemp bench engine` measured it, else from the roofline.

A run's time is the time of its prompt tokens that are not in the prefix cache, at the rate of prefill, and of its
decode steps. A step's time grows with its batch: a + b x batch, fitted to the measured batch sizes. What both leave out
(scheduling, batches that run out, prefill and decode in one step) is in a factor: the time that the bench's dialogues
took as a whole, over the time that this model gives for them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from localemp.bench.result import Point, Result
from localemp.bench.roofline.flops import ModelShape, read_shape
from localemp.bench.roofline.roofline import devices_used
from localemp.errors import LocalempError
from localemp.estimates.bench_results import RESULTS, is_of_engine, numeric, results_of_this_machine
from localemp.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from localemp.bench.roofline.hardware import Hardware

# The share of the device's peaks that is assumed without a measurement of the engine.
ATTAINED = 0.5


@dataclass(frozen=True, slots=True)
class Work:
    """What an engine has to do.

    Attributes:
        prompt_tokens: Prompt tokens that are not in the prefix cache.
        reply_tokens: Tokens of completions.
        at_once: Requests in a batch.
    """

    prompt_tokens: float
    reply_tokens: float
    at_once: float


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of a model's engine on this machine.

    Attributes:
        prefill: Prompt tokens a second.
        step: Seconds of a decode step: a constant, and for each request in the batch.
        factor: Measured time over what the other two give.
        how: Where it comes from.
        start_seconds: Until the engine is ready; None if it was not measured.
    """

    prefill: float
    step: tuple[float, float]
    factor: float
    how: str
    start_seconds: float | None = None

    def seconds(self, work: Work) -> float:
        """Return the time that this work takes."""
        batch = max(work.at_once, 1)
        steps = work.reply_tokens / batch
        return self.factor * (work.prompt_tokens / self.prefill + steps * (self.step[0] + self.step[1] * batch))


def find_speed(
    pipeline: Pipeline, hardware: "Callable[[], Hardware] | None" = None, results: Path = RESULTS
) -> tuple[Speed | None, str]:
    """Return the speed of a model that runs here, and how it is known, or why it is not.

    Args:
        pipeline: The model, its engine arguments and the strategy.
        hardware: Measures the peak of this device, for the roofline; None to take only one that a result has.
        results: The folder with results of `localemp bench`.
    """
    if pipeline.profile.engine != "vllm":
        return None, f"unknown for the engine {pipeline.profile.engine}"
    if pipeline.config.deterministic:
        return None, "unknown with --deterministic, which `localemp bench engine` does not measure"
    folder, options = pipeline.weights.folder, numeric(pipeline.config.engine_args)
    shape = read_shape(folder, options)
    peaks: tuple[float, float] | None = None
    other: Speed | None = None
    for path, result in results_of_this_machine(results):
        peaks = peaks or _peaks(result)
        if is_of_engine(result, pipeline) and (speed := _measured(result, str(path))):
            # Longer prompts make steps slower, so a result of the same strategy counts before a newer one.
            if result.settings.get("strategy") == pipeline.strategy.name:
                return speed, speed.how
            other = other or speed
    if other is not None:
        return other, other.how
    hint = f"`localemp bench engine --model {pipeline.profile.reference}` measures it"
    if shape is None:
        return None, f"unknown: this model's arithmetic cannot be counted; {hint}"
    if peaks is None and hardware is not None:
        try:
            found = hardware()
        except LocalempError as error:
            return None, f"unknown: {error.message}; {hint}"
        peaks = median(found.copy_gb_per_s), median(found.matrix_tflops)
    if peaks is None:
        return None, f"unknown: no result of this machine is in {results}/; {hint}"
    return _roofline(shape, peaks, options, hint)


def _peaks(result: Result) -> tuple[float, float] | None:
    for point in result.parts.get("hardware", []):
        copied, computed = point.median("copy_gb_per_s"), point.median("matrix_tflops")
        if copied and computed:
            return copied, computed
    return None


def _measured(result: Result, where: str) -> Speed | None:
    """Return the speed that a result of `bench engine` has; None if it lacks a part."""
    points = result.parts.get("batch size", [])
    prefills = [rate for point in points if (rate := point.median("prefill_tokens_per_s"))]
    steps = [
        (float(batch), ms / 1000)
        for point in points
        if (ms := point.median("step_ms")) and isinstance(batch := point.labels.get("concurrency"), int)
    ]
    whole = next(iter(result.parts.get("throughput", [])), None)
    if not prefills or not steps or whole is None or not whole.median("seconds"):
        return None
    rough = Speed(max(prefills), _line(steps), 1.0, "")
    work, seconds = _work(whole, result.settings)
    factor = seconds / rough.seconds(work)
    strategy = result.settings.get("strategy", "unknown")
    how = f"from `bench engine` of {strategy} on this machine ({where}, {result.created})"
    return Speed(rough.prefill, rough.step, factor, how, whole.median("start_s"))


def _work(whole: Point, settings: Mapping[str, Any]) -> tuple[Work, float]:
    """Return what the throughput's dialogues took: their work, and its seconds."""
    seconds = whole.median("seconds") or 0.0
    prompt, reply, hits = (
        whole.median(name) or 0.0 for name in ("prompt_tokens_per_s", "reply_tokens_per_s", "prefix_hits")
    )
    engine = settings.get("engine") or {}
    most = (engine.get("configured") or {}).get("max_num_seqs") or 256
    dialogues = (whole.median("replies_per_s") or 0.0) * seconds
    return Work(seconds * prompt * (1 - hits), seconds * reply, min(most, dialogues)), seconds


def _line(steps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return constant and slope of the line through the points with the smallest squared distance, neither negative."""
    batch, seconds = fmean(at for at, _ in steps), fmean(each for _, each in steps)
    spread = sum((at - batch) ** 2 for at, _ in steps)
    slope = sum((at - batch) * (each - seconds) for at, each in steps) / spread if spread else 0.0
    slope = max(slope, 0.0)
    constant = seconds - slope * batch
    return (constant, slope) if constant > 0 else (0.0, seconds / batch)


def _roofline(
    shape: ModelShape, peaks: tuple[float, float], options: Mapping[str, Any], hint: str
) -> tuple[Speed, str]:
    """Return the speed at a share of the device's peak."""
    devices = max(1, devices_used(options))
    copied, computed = (ATTAINED * devices * peak for peak in (peaks[0] * 1e9, peaks[1] * 1e12))
    # The constant is the reading of all weights; each request adds its computing, and its keys and values.
    context = 512.0
    weights = shape.bytes_per_step(1, 0) / copied
    each = shape.flops_per_token(context) / computed + shape.kv_bytes_of(context) / copied
    how = (
        f"from the roofline, at {ATTAINED:.0%} of this device's {peaks[0]:.1f} GB/s and {peaks[1]:.3g} TFLOP/s: "
        f"a rough figure; {hint}"
    )
    return Speed(computed / shape.flops_per_token(context / 2, logits=False), (weights, each), 1.0, how), how

"""The cost of each strategy, and its time by component.

One engine, whose context fits the longest prompt, answers all strategies. A repeat is:

    looking up   exemplars and inferences of all dialogues, timed, with an empty COMET cache
    answering    as `generate` does it, from an empty prefix cache, timed
    prefill      the same prompts of all stages again, each for one token, from an empty prefix cache
    own code     the strategy again with an engine that replays its answers immediately: rendering prompts, cleaning
                 replies, writing the run

The first two make up the time of a strategy. Encoder and COMET report their computing time; the rest of looking up
(searching, choosing) is our own code; decode is the rest of answering, without prefill and our own code. Own code
partly overlaps with the engine, so its share is an upper bound. If a repeat leaves nothing for decode, prefill and
decode are given as one.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.bench.engine import check_fits, is_dummy
from localemp.bench.offline import Batch, OfflineEngine, Workload, look_up
from localemp.bench.result import Recording, gather
from localemp.bench.roofline.roofline import devices_used
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion, Engine
from localemp.errors import OptionError
from localemp.pipeline.generate import answer_all
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import Run
from localemp.sampling import Sampling
from localemp.utils.progress import OnProgress, Progress, silent

NOTES = (
    "Embedding the pool and loading encoder and COMET are not counted.",
    "decode is the rest of the total time: prefill and our own code are measured separately, see docs/benchmarks.md.",
)


@dataclass(frozen=True, slots=True)
class Price:
    """Prices in US dollars; None is unknown.

    Attributes:
        per_hour: The machine with all its devices.
        prompt, reply: A million tokens.
    """

    per_hour: float | None = None
    prompt: float | None = None
    reply: float | None = None


async def measure_strategies(
    pipelines: Sequence[tuple[str, Pipeline]],
    dialogues: Sequence[Dialogue],
    recording: Recording,
    *,
    repeats: int = 3,
    tokens: int | None = None,
    price: Price | None = None,
    on_progress: OnProgress = silent,
) -> None:
    """Measure strategies on these dialogues; every point is recorded immediately.

    Args:
        pipelines: Names and strategies, all for the same model.
        dialogues: The dialogues to answer.
        recording: Receives the points.
        repeats: The number of repeats, after a warm-up.
        tokens: The length of every text; None lets the model end its replies, which dummy weights cannot.
        price: Prices.
        on_progress: Called with what is being measured.

    Raises:
        OptionError: The model does not fit, or dummy weights have no `tokens`.
        LocalempError: Something is missing, or the engine cannot start or cannot answer.
    """
    first = pipelines[0][1]
    if is_dummy(first) and tokens is None:
        raise OptionError("dummy weights never end a reply by themselves", "give --reply-tokens, such as 64")
    recording.result.notes += NOTES
    workloads: dict[str, list[Workload]] = {}
    for name, pipeline in pipelines:
        for repeat in range(repeats):
            on_progress(Progress(f"{name}: looking up, repeat {repeat + 1} of {repeats}"))
            workloads.setdefault(name, []).append(await look_up(pipeline, dialogues, remember=False))
    longest = [each[0] for each in workloads.values()]
    engine = OfflineEngine(longest, tokens=tokens or 0)
    check_fits(longest, engine)
    on_progress(Progress(f"starting vLLM ({first.profile.name})"))
    async with engine:
        recording.result.settings["engine"] = engine.describe()
        bench = _Bench(engine, recording, tokens, price or Price(), devices_used(engine.engine.engine_args))
        for name, each in workloads.items():
            await bench.strategy(name, each, on_progress)


@dataclass(frozen=True, slots=True)
class _Bench:
    """One engine, on which strategies are measured."""

    engine: OfflineEngine
    recording: Recording
    tokens: int | None
    price: Price
    devices: int

    async def strategy(self, name: str, workloads: Sequence[Workload], on_progress: OnProgress) -> None:
        """Measure every repeat of one strategy, each with its own lookup."""
        on_progress(Progress(f"{name}: warm-up"))
        await self.engine.answer(workloads[0], tokens=self.tokens)
        costs, times, notes = [], [], list[str]()
        for number, workload in enumerate(workloads, 1):
            on_progress(Progress(f"{name}: repeat {number} of {len(workloads)}"))
            batch = await self.engine.answer(workload, tokens=self.tokens)
            costs.append(self._costs(workload, batch))
            prefill = (await self.engine.replay(batch.prompts, 1)).seconds
            time_of, note = split_seconds(workload, batch.tally.seconds, prefill, await own_seconds(workload, batch))
            times.append(time_of)
            if note and note not in notes:
                notes.append(note)
        if any(each["decode_s"] <= 0 for each in times):
            times = [merge_engine_seconds(each) for each in times]
            notes.append("prefill and decode are given as one: one token each took as long as the whole")
        exactly = "" if self.tokens is None else f"every text has exactly {self.tokens} tokens"
        self.recording.add(gather("strategies", {"strategy": name}, costs, exactly))
        self.recording.add(gather("time", {"strategy": name}, times, "; ".join(notes)))

    def _costs(self, workload: Workload, batch: Batch) -> dict[str, float]:
        tally, price = batch.tally, self.price
        seconds = workload.seconds + tally.seconds
        each = 1000 / tally.done
        costs = {
            "replies_per_s": tally.done / seconds,
            "reply_tokens_per_s": tally.completion_tokens / seconds,
            "seconds_per_1000": each * seconds,
            **{name: batch.values[name] for name in ("tokens_per_reply", "prompt_tokens_per_reply", "prefix_hits")},
        }
        if self.devices:
            costs["gpu_seconds_per_1000"] = each * seconds * self.devices
        if price.per_hour is not None:
            costs["usd_per_1000"] = each * seconds / 3600 * price.per_hour
        elif price.prompt is not None and price.reply is not None:
            cost = tally.prompt_tokens * price.prompt + tally.completion_tokens * price.reply
            costs["usd_per_1000"] = each * cost / 1e6
        return costs


def split_seconds(workload: Workload, answering: float, prefill: float, own: float) -> tuple[dict[str, float], str]:
    """Split the total time into parts that add up to it, only decode may be negative; and return a note on adjustments.

    Args:
        workload: The lookups.
        answering: Seconds of the batch.
        prefill: Seconds of the same prompts for one token each.
        own: Seconds of our own code in the batch.
    """
    encoder, comet, notes = workload.encoder_seconds, workload.comet_seconds, []
    if (both := encoder + comet) > workload.seconds:
        encoder, comet = encoder * workload.seconds / both, comet * workload.seconds / both
        notes.append(f"encoder and COMET computed at the same time for {both - workload.seconds:.2f} s, shared out")
    own = min(own, answering)
    parts = {
        "encoder_s": encoder,
        "comet_s": comet,
        "prefill_s": prefill,
        "decode_s": answering - prefill - own,
        "own_s": workload.seconds - encoder - comet + own,
    }
    return {"seconds": workload.seconds + answering, **parts}, "; ".join(notes)


def merge_engine_seconds(parts: dict[str, float]) -> dict[str, float]:
    """Return the same parts with prefill and decode as one."""
    both = parts["prefill_s"] + parts["decode_s"]
    others = {name: seconds for name, seconds in parts.items() if name not in ("prefill_s", "decode_s")}
    return others | {"engine_s": both}


async def own_seconds(workload: Workload, batch: Batch) -> float:
    """Return the time of a batch with an engine that answers immediately: our own code."""
    engine = _Repeating(batch)
    with tempfile.TemporaryDirectory() as folder, Run.open(Path(folder), {}) as run:
        started = time.perf_counter()
        await answer_all(workload.pipeline.strategy, workload.drafts, engine, run)
        return time.perf_counter() - started


class _Repeating(Engine):
    """An engine that replays the answers of a batch."""

    name = "repeating"

    def __init__(self, batch: Batch) -> None:
        known = Completion.__dataclass_fields__
        self._answers: dict[Any, Completion] = {}
        for stage in (stage for record in batch.records for stage in record["stages"]):
            key = tuple(Message(**message) for message in stage["messages"])
            self._answers[key] = Completion(**{name: stage[name] for name in known if name in stage})

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        return self._answers[tuple(messages)]

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name}

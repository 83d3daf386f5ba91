"""The speed of the engine: replies a second, by batch size, against the roofline.

    throughput   the dialogues as `generate` answers them, from an empty prefix cache
    batch size   the same prompts in batches: prefill and decode separately, as shares of the hardware's peak
    roofline     both in the roofline of the hardware
    self-check   the same prompts with a fixed number of tokens, by localemp and by vLLM's own benchmark

To keep a batch at its size, a round sends all its prompts at the same moment, and each gets exactly T tokens, so that
all are in flight from start to end. Every round is sent twice from an empty prefix cache, for one token and for T. The
first is the prefill. The second spends the same on its prompts, so the difference is T - 1 decode steps of the whole
batch. If sending and prefill take longer than these steps, some texts end before others start, and both values are
rough: a note says so.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from localemp.bench.monitor import ResourceMonitor
from localemp.bench.offline import OfflineEngine, Replay, Workload, look_up
from localemp.bench.peers.vllm_throughput import LONGEST_PROMPT, PeerResult, prompt_text, run_throughput
from localemp.bench.result import Label, Point, Recording, gather
from localemp.bench.roofline.flops import ModelShape, read_shape
from localemp.bench.roofline.memory import free_memory, require_memory
from localemp.bench.roofline.roofline import Roofline, hardware_point, unlike_threads
from localemp.dialogue import Dialogue, Message
from localemp.errors import LocalempError, OptionError
from localemp.pipeline.pipeline import Pipeline
from localemp.utils.machine import gpu
from localemp.utils.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from localemp.bench.roofline.hardware import Hardware

Prompts = Sequence[Sequence[Message]]

BATCH_SIZES = (1, 4, 16, 64)
# The fewest prompts of a repeat: one short prompt alone says nothing.
_ENOUGH = 8
# Ratios to vLLM's own benchmark that need no explanation.
_NEAR = (0.9, 1.1)


def is_dummy(pipeline: Pipeline) -> bool:
    """Return whether the weights are made up; replies then never end by themselves."""
    return pipeline.config.engine_args.get("load_format") == "dummy"


def check_fits(workloads: Sequence[Workload], engine: OfflineEngine) -> None:
    """Check before the engine starts that the model fits into memory, if its shape can be counted.

    Raises:
        OptionError: It does not fit; the message says how much is missing, the hint what would fit.
    """
    options = engine.engine.engine_args
    shape = read_shape(workloads[0].pipeline.weights.folder, options)
    if shape is not None and (free := free_memory(options)) is not None:
        require_memory(shape, engine.engine.max_model_len, free)


async def measure_engine(
    pipeline: Pipeline,
    dialogues: Sequence[Dialogue],
    recording: Recording,
    *,
    batch_sizes: Sequence[int] | None = None,
    repeats: int = 3,
    tokens: int = 64,
    hardware: "Callable[[], Hardware] | None" = None,
    peer: bool = True,
    on_progress: OnProgress = silent,
) -> None:
    """Measure a model's engine on these dialogues; every point is recorded immediately.

    Args:
        pipeline: Model and strategy.
        dialogues: The dialogues to answer.
        recording: Receives the points.
        batch_sizes: Sizes to try; by default those of `BATCH_SIZES` for which there are enough dialogues.
        repeats: The number of repeats of each measurement, after a warm-up.
        tokens: T, the exact length of texts in "batch size" and "self-check", and with dummy weights everywhere.
        hardware: Measures the peak of this device; without it there are no shares of the peak.
        peer: Whether to run vLLM's own benchmark, too.
        on_progress: Called with what is being measured.

    Raises:
        OptionError: The model does not fit, or a batch size has too few dialogues.
        LocalempError: The engine cannot start, or cannot answer.
    """
    sizes = _sizes(batch_sizes, len(dialogues))
    workload = await look_up(pipeline, dialogues)
    engine = OfflineEngine([workload], tokens=tokens)
    check_fits([workload], engine)
    bench = _Bench(workload, engine, recording, repeats, tokens, on_progress)
    most = None
    if hardware is not None:
        on_progress(Progress("measuring the peak of this device"))
        try:
            most = await asyncio.to_thread(hardware)
            recording.result.settings["hardware"] = most.settings
            recording.add(hardware_point(most))
        except LocalempError as error:
            recording.result.notes.append(error.message)
    roofline = Roofline.of(pipeline.weights.folder, engine.engine.engine_args, most)
    on_progress(Progress(f"starting vLLM ({pipeline.profile.name})"))
    async with engine:
        recording.result.settings["engine"] = engine.describe()
        recording.result.notes += unlike_threads(most, engine.threads)
        prompts = await bench.throughput(roofline.shape)
        for size in sizes:
            await bench.batch_size(size, prompts, roofline)
        checked = await bench.own_side() if peer else None
    if checked is not None:
        await bench.self_check(*checked)


@dataclass(frozen=True, slots=True)
class _Bench:
    """One engine and its measurements."""

    workload: Workload
    engine: OfflineEngine
    recording: Recording
    repeats: int
    tokens: int
    on_progress: OnProgress

    @property
    def labels(self) -> dict[str, Label]:
        return {"strategy": self.workload.pipeline.strategy.name}

    async def throughput(self, shape: ModelShape | None) -> list[list[Message]]:
        """Answer all dialogues as `generate` does; return every prompt that was sent."""
        dummy = is_dummy(self.workload.pipeline)
        exactly = self.tokens if dummy else None
        self.on_progress(Progress("throughput, warm-up"))
        batch = await self.engine.answer(self.workload, tokens=exactly)
        prompts, values = batch.prompts, []
        with ResourceMonitor() as watch:
            for repeat in range(self.repeats):
                self.on_progress(Progress(f"throughput, repeat {repeat + 1} of {self.repeats}"))
                values.append((await self.engine.answer(self.workload, tokens=exactly)).values)
        note = f"every text has exactly {self.tokens} tokens: dummy weights never end one" if dummy else ""
        point = gather("throughput", self.labels, values, note)
        once = {"start_s": self.engine.start_seconds, **watch.values()}
        if shape is not None:
            once["weights_gib"] = shape.weight_bytes / 2**30
        point.values.update({name: (value,) for name, value in once.items()})
        self.recording.result.series += watch.series()
        if watch.no_gpu and gpu() != "none":
            self.recording.result.notes.append(
                f"memory and utilisation are of the machine, not of its GPU: {watch.no_gpu}"
            )
        self.recording.add(point)
        return prompts

    async def batch_size(self, size: int, prompts: Prompts, roofline: Roofline) -> None:
        """Measure rounds of a fixed number of prompts; see the module's docstring."""
        labels, most = {**self.labels, "concurrency": size}, self.engine.engine.max_num_seqs
        if size > most:
            note = f"vLLM's limit is {most} sequences: raise it by --engine-arg max_num_seqs={size}"
            self.recording.add(Point(part="batch size", labels=labels, note=note))
            return
        number = min(math.ceil(_ENOUGH / size), len(prompts) // size)
        rounds = [prompts[start * size : (start + 1) * size] for start in range(number)]
        stages = len(prompts) / len(self.workload.drafts)
        values, prefills, decodes, rushed = [], [], [], False
        await self.engine.replay(rounds[0], min(8, self.tokens), concurrency=size)  # warm-up
        for repeat in range(self.repeats):
            self.on_progress(Progress(f"batches of {size}, repeat {repeat + 1} of {self.repeats}"))
            first = [await self.engine.replay(each, 1, concurrency=size) for each in rounds]
            whole = [await self.engine.replay(each, self.tokens, concurrency=size) for each in rounds]
            prefill = roofline.prefill(first)
            found = _rates(whole, stages) | _prefill_rate(first) | roofline.mfu(prefill)
            prefills.append(roofline.place(prefill))
            rushed |= _seconds(whole) < 2 * _seconds(first)
            step = (_seconds(whole) - _seconds(first)) / number / (self.tokens - 1)
            if step > 0:
                prompt = sum(replay.prompt_tokens for replay in whole) / number / size
                decode = roofline.decode(size, prompt + self.tokens / 2, step)
                found |= {"decode_tokens_per_s": size / step, "step_ms": 1000 * step, **roofline.mbu(decode)}
                decodes.append(roofline.place(decode))
            values.append(found)
        slow = "prompts took longer to send and read than to answer: decode is probably slower than given here"
        lost = "decode was too short to separate from prefill: take more --reply-tokens"
        notes = [
            roofline.note,
            slow if rushed else "",
            lost if len(decodes) < self.repeats else "",
            *roofline.between(values),
        ]
        note = "; ".join(filter(None, notes))
        self.recording.add(gather("batch size", labels, values, note))
        for phase, places in (("prefill", prefills), ("decode", decodes)):
            if any(places):
                self.recording.add(gather("roofline", {"phase": phase, **labels}, places))

    async def own_side(self) -> tuple[list[str], int, list[dict[str, float]]]:
        """Return the prompts that vLLM's benchmark accepts, their tokens, and localemp's values on the same prompts."""
        self.on_progress(Progress("self-check, localemp's side"))
        workload, tokenizer = self.workload, self.workload.pipeline.tokenizer
        batch = await self.engine.answer(workload, tokens=self.tokens)
        short = [
            draft
            for draft, record in zip(workload.drafts, batch.records, strict=True)
            if all(stage["prompt_tokens"] <= LONGEST_PROMPT for stage in record["stages"])
        ]
        if not short:
            return [], 0, []
        workload, values = replace(workload, drafts=short), []
        for _ in range(self.repeats):
            batch = await self.engine.answer(workload, tokens=self.tokens)
            values.append({name: batch.values[name] for name in ("reply_tokens_per_s", "tokens_per_s", "seconds")})
        return [prompt_text(tokenizer, each) for each in batch.prompts], batch.tally.prompt_tokens, values

    async def self_check(self, prompts: list[str], prompt_tokens: int, ours: list[dict[str, float]]) -> None:
        """Run the peer on the same prompts; a failure becomes a note."""
        if not prompts:
            reason = f"vLLM's benchmark takes prompts of up to {LONGEST_PROMPT:,} tokens, all of these are longer"
            self.recording.add(Point(part="self-check", labels=self.labels, note=reason))
            return
        self.on_progress(Progress("self-check, vLLM's own benchmark"))
        # Its start may take longer than ours: what ours compiled is kept, but it also measures twice.
        limit = 300 + 5 * self.engine.start_seconds + 10 * sum(each["seconds"] for each in ours)
        engine, folder = self.engine.engine, self.workload.pipeline.weights.folder
        drawn = self.workload.pipeline.strategy.sampling
        point = gather("self-check", {**self.labels, "prompts": len(prompts), "tokens": self.tokens}, ours)
        try:
            theirs = await run_throughput(
                folder, prompts, self.tokens, engine_args=engine.engine_args, sampling=drawn, limit=limit
            )
        except LocalempError as error:
            point = point.model_copy(
                update={"note": f"{error.message} ({error.hint})" if error.hint else error.message}
            )
        else:
            point.values["vllm_tokens_per_s"] = (theirs.tokens_per_s,)
            point.values["of_vllm"] = tuple(each["tokens_per_s"] / theirs.tokens_per_s for each in ours)
            notes = [self._difference(theirs, prompts, prompt_tokens)]
            if not _NEAR[0] <= (point.median("of_vllm") or 0) <= _NEAR[1]:
                notes.append(
                    "further apart than 10 %: the machine may have been busy, and vLLM's side was measured once; run "
                    "again on a quiet machine"
                )
            if len(prompts) > len(self.workload.drafts):
                notes.append("vLLM's benchmark sends all prompts at once, localemp the second stage after the first")
            point = point.model_copy(update={"note": "; ".join(filter(None, notes))})
        self.recording.add(point)

    def _difference(self, theirs: PeerResult, prompts: list[str], prompt_tokens: int) -> str:
        ours = prompt_tokens + len(prompts) * self.tokens
        if (theirs.requests, theirs.tokens) == (len(prompts), ours):
            return ""
        return (
            f"not the same work: vLLM's benchmark had {theirs.requests} prompts and {theirs.tokens:,} tokens, "
            f"localemp {len(prompts)} and {ours:,}"
        )


def _rates(whole: Sequence[Replay], stages: float) -> dict[str, float]:
    seconds = _seconds(whole)
    prompt, reply = (sum(getattr(replay, name) for replay in whole) for name in ("prompt_tokens", "completion_tokens"))
    return {
        "replies_per_s": sum(len(replay.completions) for replay in whole) / stages / seconds,
        "reply_tokens_per_s": reply / seconds,
        "tokens_per_s": (prompt + reply) / seconds,
        "prefix_hits": sum(replay.cached_tokens for replay in whole) / prompt,
    }


def _prefill_rate(first: Sequence[Replay]) -> dict[str, float]:
    computed = sum(replay.prompt_tokens - replay.cached_tokens for replay in first)
    return {"prefill_tokens_per_s": computed / _seconds(first)}


def _seconds(replays: Sequence[Replay]) -> float:
    return sum(replay.seconds for replay in replays)


def _sizes(asked: Sequence[int] | None, dialogues: int) -> Sequence[int]:
    if asked is None:
        return [size for size in BATCH_SIZES if size <= dialogues]
    if asked and max(asked) > dialogues:
        raise OptionError(
            f"--batch-sizes {max(asked)}: a batch needs as many dialogues, there are {dialogues}",
            "take more --dialogues, or smaller batches",
        )
    return asked

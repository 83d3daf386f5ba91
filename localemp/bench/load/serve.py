"""`bench serve`: latency and throughput of an OpenAI-compatible server under load.

Requests are dialogues with all their turns, streamed, and different ones as long as the data has some. The quantities:

    ttft    from sending a request to the first chunk with text
    itl     between two chunks with text; where chunks do not hold one token each, the point's note says how many
    tpot    from the first chunk with text to the last, divided by the tokens after the first
    e2e     from sending a request to the end of its answer
    goodput requests a second that meet all limits; `in_time` is their share of all that were sent

Times cover answered requests only: if some fail, the others may look fast, and `failed` says how many failed.

Tokens are the server's own counts. If it sends none, quantities that need them are left out; so is tpot for strategies
that ask the model twice, since their counts include the hidden stage.

Why our own client: that of vLLM (`vllm bench serve`, version 0.32) sends custom data as single messages, waits up to 6
hours for an answer, keeps nothing of an unfinished point, counts every chunk as one token in its itl, and needs vLLM
installed even for a hosted server. guidellm 0.8 and aiperf 0.13 need other versions of packages than localemp and vLLM
(aiperf pins older rich, pandas and huggingface-hub). `bench/peers/vllm_serve.py` checks ours against vLLM's.
"""

import asyncio
import math
import resource
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from random import Random
from typing import Any

from localemp.bench.load.client import Answer, Client, percentile
from localemp.bench.load.schedule import Load, arrivals
from localemp.bench.load.target import LoadTarget
from localemp.bench.result import Point, Recording
from localemp.dialogue import Dialogue
from localemp.engines.openai.target import shown_url
from localemp.errors import FatalEngineError
from localemp.utils.progress import OnProgress, Progress, silent
from localemp.utils.redaction import mask_key
from localemp.utils.text import one_line

BY_RATE, BY_CONCURRENCY = "by rate", "by concurrency"
LIMITED = ("ttft", "tpot", "e2e")
PARTS = (50, 90, 99)
BUSY = 0.7  # of a core: from here on the client may be what is slow
_PAUSE = 0.5  # seconds after a load, in which the server gives up what was cancelled
_WARM_UP = 4  # requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The loads to measure.

    Attributes:
        rates: Requests a second, ascending; infinite for all at once.
        concurrency: Requests in flight, ascending.
        requests: The number of requests of each load.
        repeats: The number of repeats of each load.
        reply_tokens: The longest reply.
        fixed_length: Whether every reply has exactly that length, by vLLM's field `ignore_eos`; other stages do not.
        limits: Latency limits of a good answer, in ms, by the names in `LIMITED`.
        time_limit: Seconds for a load.
        seed: The seed of arrivals and of the order of the dialogues.
    """

    rates: tuple[float, ...]
    concurrency: tuple[int, ...]
    requests: int
    repeats: int
    reply_tokens: int
    fixed_length: bool
    limits: Mapping[str, float]
    time_limit: float
    seed: int


def shuffled_dialogues(dialogues: Sequence[Dialogue], seed: int) -> Iterator[Dialogue]:
    """Yield dialogues in an order that depends on the seed, repeated without end."""
    return cycle(Random(seed).sample(dialogues, len(dialogues)))


async def measure(
    targets: Sequence[LoadTarget],
    dialogues: Iterator[Dialogue],
    plan: Plan,
    recording: Recording,
    on_progress: OnProgress = silent,
) -> None:
    """Load the models of one server, one after the other, lightest load first; each load becomes a point.

    Args:
        targets: The models.
        dialogues: Each request takes the next one.
        plan: The loads.
        recording: Receives the points, including that of a cancelled load.
        on_progress: Called with the current load.

    Raises:
        FatalEngineError: The server answers none of the first few requests.
    """
    first = targets[0]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file, and often 1,024 are allowed
    # The load's own time limit comes first.
    async with Client(first.url, first.key, 2 * plan.time_limit) as client:
        for target in targets:
            await _warm_up(client, target, dialogues, plan)
        for part, levels in ((BY_RATE, plan.rates), (BY_CONCURRENCY, plan.concurrency)):
            for target in targets:
                sweep = _Sweep(client, target, dialogues, plan, recording, on_progress)
                await sweep.run(part, levels)


async def _warm_up(client: Client, target: LoadTarget, dialogues: Iterator[Dialogue], plan: Plan) -> None:
    load = Load[Dialogue](lambda one: client.chat(target.body(one.turns)), plan.time_limit)
    await load.closed_loop(islice(dialogues, _WARM_UP), _WARM_UP)
    if not any(answer.good for answer in load.answers):
        where = f"{shown_url(target.url)} gives no streamed answer for {target.model}"
        raise FatalEngineError(f"{where}: {_errors([load], target.key)}", "nothing was measured")


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Loads of one model, each heavier than the one before."""

    client: Client
    target: LoadTarget
    dialogues: Iterator[Dialogue]
    plan: Plan
    recording: Recording
    on_progress: OnProgress

    async def run(self, part: str, levels: Sequence[float]) -> None:
        """Run all loads, or as many as the server can handle."""
        lost = ""
        for level in levels:
            name, shown = ("rate", _shown(level)) if part == BY_RATE else ("concurrency", int(level))
            labels = {"model": self.target.label, name: shown}
            if lost:
                self.recording.add(
                    Point(part=part, labels=labels, note=f"skipped: more than half failed before ({lost})")
                )
                continue
            loads: list[Load[Dialogue]] = []
            try:
                for repeat in range(self.plan.repeats):
                    self.on_progress(
                        Progress(f"{self.target.label}, {name} {shown}, {repeat + 1} of {self.plan.repeats}")
                    )
                    loads.append(Load(self._ask, self.plan.time_limit))
                    await self._send(loads[-1], part, level, repeat)
                    if loads[-1].failed > loads[-1].sent / 2:
                        lost = f"{name} {shown}"
                        break
                    await asyncio.sleep(_PAUSE)
            finally:
                if kept := [load for load in loads if load.answers or load.timed_out]:
                    self.recording.add(point_of(part, labels, kept, self.target, self.plan))

    async def _ask(self, dialogue: Dialogue) -> Answer:
        return await self.client.chat(self.target.body(dialogue.turns))

    async def _send(self, load: Load[Dialogue], part: str, level: float, repeat: int) -> None:
        jobs = list(islice(self.dialogues, self.plan.requests))
        if part == BY_RATE:
            # The same arrivals for whatever is measured at this rate.
            await load.open_loop(jobs, arrivals(level, len(jobs), (self.plan.seed, level, repeat)))
        else:
            await load.closed_loop(jobs, int(level))


def _shown(rate: float) -> int | float | str:
    if math.isinf(rate):
        return "inf"
    return int(rate) if rate.is_integer() else rate


def point_of(
    part: str, labels: Mapping[str, str | int | float], loads: Sequence[Load[Any]], target: LoadTarget, plan: Plan
) -> Point:
    """Return the point of a load from its repeats, with notes."""
    repeats = [values_of(load, plan.limits, target.counts_unseen) for load in loads]
    return Point(
        part=part,
        labels=dict(labels),
        values={
            name: tuple(values[name] for values in repeats if name in values)
            for name in dict.fromkeys(name for values in repeats for name in values)
        },
        note="; ".join(dict.fromkeys(_notes(loads, target, plan))),
    )


def values_of(load: Load[Any], limits: Mapping[str, float], counts_unseen: bool = False) -> dict[str, float]:
    """Return the values of a load, by the names of `localemp.bench.quantities`.

    Args:
        load: A finished load.
        limits: Latency limits of a good answer, in ms.
        counts_unseen: Whether the server's counts include tokens that were not streamed.
    """
    good = [answer for answer in load.answers if answer.good]
    values = {
        "requests_per_s": len(good) / load.seconds,
        "errors": float(load.failed),
        "failed": load.failed / max(load.sent, 1),
    }
    tokens = _tokens(good)
    if tokens is not None and good:
        values |= {"reply_tokens_per_s": tokens / load.seconds, "tokens_per_reply": tokens / len(good)}
    times = [_times(answer, counts_unseen) for answer in good]
    waits = {name: [one[name] for one in times if name in one] for name in LIMITED}
    waits["itl"] = [1000 * (late - early) for answer in good for early, late in pairwise(answer.texts)]
    values |= {
        f"{name}_p{part}_ms": percentile(some, part / 100) for name, some in waits.items() if some for part in PARTS
    }
    if limits and ("tpot" not in limits or (tokens is not None and not counts_unseen)):
        # An answer of one token has no time per token; one without a text never had its first.
        unknown = {"ttft": math.inf}
        in_time = sum(
            all(one.get(name, unknown.get(name, 0.0)) <= limit for name, limit in limits.items()) for one in times
        )
        values |= {"goodput_per_s": in_time / load.seconds, "in_time": in_time / max(load.sent, 1)}
    return values


def _tokens(answers: Sequence[Answer]) -> int | None:
    """Tokens of all replies; None if the server does not count them."""
    counts = [answer.tokens for answer in answers if answer.tokens is not None]
    return sum(counts) if len(counts) == len(answers) else None


def _times(answer: Answer, counts_unseen: bool) -> dict[str, float]:
    """The latencies of one answer, in ms; unknown ones are left out."""
    times = {"e2e": 1000 * (answer.ended - answer.started)}
    if answer.first is not None:
        times["ttft"] = 1000 * (answer.first - answer.started)
        if answer.tokens is not None and answer.tokens > 1 and len(answer.texts) > 1 and not counts_unseen:
            times["tpot"] = 1000 * (answer.texts[-1] - answer.first) / (answer.tokens - 1)
    return times


def _notes(loads: Sequence[Load[Any]], target: LoadTarget, plan: Plan) -> Iterator[str]:
    """Notes on the repeats of a load."""
    for number, load in enumerate(loads, 1):
        if load.stopped:
            yield f"repeat {number} of {plan.repeats} was stopped after {len(load.answers)} of {plan.requests} requests"
        elif load.sent < plan.requests:
            yield f"{plan.requests - load.sent} of {plan.requests} requests were not sent within {plan.time_limit:g} s"
    if errors := _errors(loads, target.key):
        yield f"errors: {errors}; times cover answered requests only"
    if len(loads) < plan.repeats and not loads[-1].stopped:
        yield f"{len(loads)} of {plan.repeats} repeats: more than half of the requests failed"
    good = [answer for load in loads for answer in load.answers if answer.good]
    tokens, chunks = _tokens(good), sum(len(answer.texts) for answer in good)
    if tokens is None:
        yield "the server does not count tokens: quantities that need them are left out"
    elif target.counts_unseen:
        yield "tokens include all stages; time per output token is left out"
    elif chunks and abs(tokens / chunks - 1) > 0.02:
        yield f"between chunks: a chunk with text holds {tokens / chunks:.2f} tokens"
    if silent := sum(answer.tokens is not None and answer.tokens > 0 and not answer.texts for answer in good):
        yield f"{silent} of {len(good)} replies have tokens but no text: the server streams something else"
    if plan.fixed_length and not target.counts_unseen:
        lengths = [answer.tokens for answer in good if answer.tokens not in (None, plan.reply_tokens)]
        if lengths:
            yield (
                f"--fixed-length was ignored: {len(lengths)} of {len(good)} replies do not have "
                f"{plan.reply_tokens} tokens"
            )
    if (share := max(load.own_share for load in loads)) > BUSY:
        yield f"the client computed for {share:.0%} of a core: it may be the bottleneck"


def _errors(loads: Sequence[Load[Any]], key: str) -> str:
    """The most frequent errors in a line, without the key; empty if there are none."""
    said: Counter[str] = Counter()
    for load in loads:
        said["time limit"] += load.timed_out
        said.update(f"{one.status or ''} {one.error or 'no answer'}".strip() for one in load.answers if not one.good)
    return ", ".join(f"{count} x {one_line(mask_key(text, key), 160)}" for text, count in said.most_common(2) if count)

"""The overhead of `localemp serve` over bare `vllm serve`, in one run, alternating, with the same engine settings.

    plain       the bare model: requests/s, time to the first token, chunks of a reply, errors
    strategies  few-shot and two-stage, against a client that builds the same prompts itself and asks the bare server
    loop        how long the server's event loop was blocked while similar and knowledge looked things up
    check       one point of "plain" again, by vLLM's own `bench serve`

Two servers run at once, the bare one and ours, and only one of them is loaded at any moment. An idle engine of vLLM
waits on a queue and computes nothing; how much the two idle servers take is measured first and printed. The turns are
thus seconds apart, and both sides meet the same moments of a machine that others use too, which start, measure, stop,
start the other would not give: a start takes longer than all turns of a point. Who goes first alternates. Every turn is
a closed loop, and both sides get the same prompts in the same order, so that their prefix caches know the same.
`--null` compares two bare servers: what it prints is what this machine's noise makes of a cost of nothing.

"loop" needs no engine and is told of in `serve_loop.py`.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import psutil
import two_stage_by_hand
from rich.console import Console
from rich.table import Table
from script import Script, out_option, write_result
from serve_loop import print_loop, watch_loop

from localemp.bench.load.client import Answer, Client, percentile
from localemp.bench.load.schedule import Load
from localemp.bench.peers.vllm_serve import vllm_bench
from localemp.bench.servers import vllm_server
from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue, Message
from localemp.errors import EngineError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.render import NOTHING_MORE
from localemp.serving.settings import ServeSettings
from localemp.utils.machine import machine, versions

PARTS = ("plain", "strategies", "loop", "check")
STRATEGIES = ("few-shot", "two-stage")
SIDES = ("localemp", "bare")
PAUSE = 0.3  # seconds after a turn: threads of the engine go on spinning for a while
AIMS = {"plain": 0.98, "strategies": 0.95, "first_ms": 1.0}

# How much is measured: on a small machine in some ten minutes, and with `--gpu`. Options that are given win.
SMALL: dict[str, Any] = {"points": (1, 16, 64), "requests": 600, "tokens": 8, "company": 16, "lookups": 48}
LARGE: dict[str, Any] = {"points": (1, 16, 64, 256), "requests": 8000, "tokens": 64, "company": 64, "lookups": 400}
# Both engines are loaded at once.
CPU_OPTIONS = ("--kv-cache-memory-bytes", str(2**30))
GPU_OPTIONS = ("--gpu-memory-utilization", "0.4")

Do = Callable[[int], Awaitable[Answer]]


@dataclass(frozen=True)
class Turn:
    """What one side did in one round.

    Attributes:
        per_s: Requests per second.
        first_ms: Time to the first token of every request.
        gaps_ms: Between the chunks of all replies.
        chunks: Of every reply, in the order of the requests.
        tokens: Of all last stages.
        errors: What was said in place of replies.
    """

    per_s: float
    first_ms: list[float]
    gaps_ms: list[float]
    chunks: list[int]
    tokens: int
    errors: list[str]


async def turn(do: Do, jobs: Sequence[int], count: int) -> Turn:
    """Have all jobs done, so many at once."""
    chunks = dict[int, int]()

    async def one(job: int) -> Answer:
        answer = await do(job)
        chunks[job] = len(answer.chunks)
        return answer

    load = await Load(one).closed_loop(jobs, count)
    await asyncio.sleep(PAUSE)
    good = [answer for answer in load.answers if answer.good]
    gaps = [1000 * (late - early) for a in good for early, late in zip(a.chunks, a.chunks[1:], strict=False)]
    return Turn(
        len(good) / load.seconds,
        [1000 * (answer.first - answer.started) for answer in good if answer.first is not None],
        gaps,
        [chunks[job] for job in jobs],
        sum(answer.tokens or 0 for answer in good),
        [f"{answer.status} {answer.error[:300]}" for answer in load.answers if not answer.good],
    )


async def compare(ours: Do, theirs: Do, jobs: Sequence[Sequence[int]], count: int) -> dict[str, Any]:
    """A turn for each side and round; what came of them."""
    turns: dict[str, list[Turn]] = {side: [] for side in SIDES}
    does = dict(zip(SIDES, (ours, theirs), strict=True))
    for number, share in enumerate(jobs):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            turns[side].append(await turn(does[side], share, count))
    pairs = list(zip(turns["localemp"], turns["bare"], strict=True))
    replies = [two for a, b in pairs for two in zip(a.chunks, b.chunks, strict=True)]
    return {
        "at_once": count,
        "requests": sum(map(len, jobs)),
        **{side: _summary(some) for side, some in turns.items()},
        "ratios": [a.per_s / b.per_s if b.per_s else 0.0 for a, b in pairs],
        "ratio": statistics.median(a.per_s / b.per_s if b.per_s else 0.0 for a, b in pairs),
        "first_ms_more": statistics.median(percentile(a.first_ms, 0.5) - percentile(b.first_ms, 0.5) for a, b in pairs),
        "same_chunks": sum(a == b for a, b in replies) / len(replies),
    }


def _summary(turns: Sequence[Turn]) -> dict[str, Any]:
    first, gaps, chunks = (
        [value for one in turns for value in getattr(one, name)] for name in ("first_ms", "gaps_ms", "chunks")
    )
    return {
        "requests_per_s": [one.per_s for one in turns],
        "first_ms": {"p50": percentile(first, 0.5), "p99": percentile(first, 0.99)},
        "gap_ms": {"p50": percentile(gaps, 0.5), "p99": percentile(gaps, 0.99)},
        "chunks_per_reply": statistics.mean(chunks),
        "tokens": sum(one.tokens for one in turns),
        "errors": [said for one in turns for said in one.errors],
    }


class Asked:
    """The same requests in three ways: of the bare model, of a strategy by its name, and of a strategy by hand.

    Args:
        pipeline: Of the model, with the settings that the server has, too.
        tokens: Of a reply.
    """

    def __init__(self, pipeline: Pipeline, tokens: int) -> None:
        self.pipeline, self.model = pipeline, pipeline.profile.name
        self._samples = load_dialogues("samples")
        self._last = {
            "max_tokens": tokens,
            "temperature": 0.0,
            "ignore_eos": True,  # all replies have one length
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def dialogue(self, job: int) -> Dialogue:
        """What a speaker says, in one turn that no other job has."""
        sample = self._samples[job % len(self._samples)]
        return replace(sample, turns=(f"{sample.turns[0]} ({job})",))

    def by_name(self, client: Client, strategy: str = "") -> Do:
        """Of a model's name: that of the bare model, or of a strategy."""
        model = f"{self.model}:{strategy}" if strategy else self.model

        async def do(job: int) -> Answer:
            messages = [{"role": "user", "content": self.dialogue(job).turns[0]}]
            return await client.chat({"model": model, "messages": messages, **self._last})

        return do

    async def by_hand(self, client: Client, name: str, jobs: Sequence[Sequence[int]]) -> Do:
        """As a client does it that has localemp's prompts: a request of the bare model for each stage.

        The first stage of every job is written now, before time is taken.
        """
        strategy = self.pipeline.vary(name).strategy
        prompts, template = strategy.prompts, strategy.prompts.template
        two_stages = "two-stage" in name
        begin = two_stage_by_hand.feeling(template) if two_stages else NOTHING_MORE
        stop = {"stop": list(strategy.sampling.stop)} if strategy.sampling.stop else {}
        first = {"max_tokens": strategy.sampling.max_tokens, "temperature": strategy.sampling.temperature, **stop}
        last = self._last | stop
        shown = [exemplar.dialogue for exemplar in (await strategy.draft(self.dialogue(0))).exemplars]
        written = {
            job: _plain(prompts.messages(self.dialogue(job), shown, asked=begin))
            for job in (job for share in jobs for job in share)
        }

        async def do(job: int) -> Answer:
            body = {"model": self.model, "messages": written[job]}
            if not two_stages:
                return await client.chat(body | last)
            feeling = await client.chat(body | first)
            asked = two_stage_by_hand.reply(template, feeling.text)
            body["messages"] = _plain(prompts.messages(self.dialogue(job), shown, asked=asked))
            answer = await client.chat(body | last)
            answer.started = feeling.started
            return answer

        return do


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [asdict(message) for message in messages]


class Jobs:
    """Numbers of requests; none comes twice."""

    def __init__(self, rounds: int) -> None:
        self._rounds, self._next = rounds, 0

    def take(self, requests: int, count: int) -> list[range]:
        """So many requests or a few more, split into rounds; in each every connection has at least two."""
        each = max(-(-requests // self._rounds), 2 * count)
        self._next += each * self._rounds
        return [range(self._next - each * (left + 1), self._next - each * left) for left in range(self._rounds)]


async def measure(ours: str, bare: str, pipeline: Pipeline, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that need both servers."""
    asked, jobs = Asked(pipeline, chosen["tokens"]), Jobs(chosen["rounds"])
    result: dict[str, Any] = {"idle_cores": await asyncio.to_thread(idle_cores)}
    points = chosen["points"]
    async with Client(ours) as own, Client(bare) as other:
        plain = asked.by_name(own), asked.by_name(other)
        for do in plain:
            await turn(do, jobs.take(0, max(points))[0], max(points))  # warm-up
        if "plain" in chosen["parts"]:
            # One request at a time takes longest.
            shares = [chosen["requests"] // (10 if count == 1 else len(points)) for count in points]
            result["plain"] = [
                await compare(*plain, jobs.take(share, count), count)
                for share, count in zip(shares, points, strict=True)
            ]
        if "strategies" in chosen["parts"]:
            count, result["strategies"] = chosen["company"], {}
            for name in STRATEGIES:
                shares = jobs.take(chosen["requests"] // 4, count)
                by_hand = await asked.by_hand(other, name, shares)
                result["strategies"][name] = await compare(asked.by_name(own, name), by_hand, shares, count)
    if "check" in chosen["parts"]:
        texts = [asked.dialogue(job).turns[0] for job in jobs.take(chosen["requests"] // 3, chosen["company"])[0]]
        result["check"] = check({"localemp": ours, "bare": bare}, pipeline, texts, chosen)
    return result


def idle_cores(seconds: float = 3.0) -> float:
    """The cores used by the idle servers, all processes together."""

    def taken() -> float:
        times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
        return float(sum(each.user + each.system for each in times))

    before = taken()
    time.sleep(seconds)
    return (taken() - before) / seconds


def check(
    urls: Mapping[str, str], pipeline: Pipeline, texts: Sequence[str], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """One point by vLLM's own benchmark; each side twice, in the order A, B, B, A."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for side in (*SIDES, *SIDES[::-1]):
        try:
            said = vllm_bench(
                urls[side], pipeline.profile.name, pipeline.weights.folder, texts, chosen["company"],
                tokens=chosen["tokens"], fixed_length=True,
            )  # fmt: skip
        except EngineError as error:
            raise click.ClickException(error.message) from error
        names = ("request_throughput", "median_ttft_ms", "p99_ttft_ms", "completed", "failed")
        found[side].append({name: said[name] for name in names})
    rates = {side: statistics.mean(one["request_throughput"] for one in some) for side, some in found.items()}
    return {"at_once": chosen["company"], "runs": found, "ratio": rates["localemp"] / rates["bare"]}


@contextmanager
def servers(pipeline: Pipeline, null: bool, options: Sequence[str], console: Console) -> Iterator[tuple[str, str]]:
    """Ours and the bare one, or two bare ones; the second starts when the first is ready."""
    config = pipeline.config
    settings = None if null else ServeSettings.of(pipeline.profile.name, config, strategies=STRATEGIES)
    with ExitStack() as stack, console.status("starting two servers") as status:
        urls = []
        for given in (settings, None):
            # One after the other: two engines that measure a GPU's free memory at once disturb each other.
            server = stack.enter_context(vllm_server(pipeline, given, options))
            server.wait_until_ready(lambda doing: status.update(f"starting two servers: {doing}"))
            urls.append(server.url)
        status.update("measuring")
        yield urls[0], urls[1]


@click.command(cls=Script)
@click.option("--model", default="smollm2", show_default=True)
@click.option("--gpu", is_flag=True, help="More of everything, and 256 at once.")
@click.option("--parts", default=",".join(PARTS), show_default=True)
@click.option("--null", is_flag=True, help="Compare two bare servers: the noise.")
@click.option("--requests", type=click.IntRange(min=1), help="Of `plain`, for each side; 600, or 8,000 with --gpu.")
@click.option("--at-once", "points", type=click.IntRange(min=1), multiple=True, help="May be repeated; 1, 16, 64.")
@click.option("--company", type=click.IntRange(min=1), help="At once in all other parts; 16, or 64 with --gpu.")
@click.option("--tokens", type=click.IntRange(min=2), help="Of a reply; 8, or 64 with --gpu.")
@click.option("--lookups", type=click.IntRange(min=1), help="Of each kind in `loop`; 48, or 400 with --gpu.")
@click.option("--rounds", type=click.IntRange(min=1), default=4, show_default=True)
@out_option
@click.argument("engine_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- VLLM OPTIONS]")
def main(
    model: str, gpu: bool, parts: str, null: bool, out: Path | None, engine_options: tuple[str, ...], **given: Any
) -> None:
    """Measure the overhead of `localemp serve` over bare vLLM."""
    chosen = {**(LARGE if gpu else SMALL), **{name: value for name, value in given.items() if value}}
    chosen |= {"parts": ("plain",) if null else tuple(parts.split(",")), "null": null, "model": model}
    if unknown := set(chosen["parts"]) - set(PARTS):
        raise click.BadParameter(f"{', '.join(unknown)}; there are {', '.join(PARTS)}", param_hint="--parts")
    options = [*(GPU_OPTIONS if gpu else CPU_OPTIONS), *engine_options]
    # Into a file the tables go as wide as they are.
    console, before = Console(width=None if sys.stdout.isatty() else 170), os.getloadavg()
    result: dict[str, Any] = {}
    if "loop" in chosen["parts"]:
        with console.status("watching the loop"):
            result["loop"] = asyncio.run(watch_loop(chosen["lookups"], chosen["company"]))
    if set(chosen["parts"]) - {"loop"}:
        pipeline = Pipeline(RunConfig(model=model, max_tokens=2 * chosen["tokens"]))
        with servers(pipeline, null, options, console) as (ours, bare):
            result |= asyncio.run(measure(ours, bare, pipeline, chosen))
    result["machine"] = machine() | versions() | {"load_before": before, "date": time.strftime("%Y-%m-%d")}
    result["settings"] = {**chosen, "engine_options": options}
    write_result(out, result)
    print_result(result, console)


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """All tables, with the aims."""
    if "idle_cores" in result:
        console.print(f"both servers, idle: {result['idle_cores']:.2f} cores")
    for title, aim, rows in (
        ("the bare model", "plain", {f"{row['at_once']} at once": row for row in result.get("plain", ())}),
        ("strategies, against a client that does the same by hand", "strategies", result.get("strategies", {})),
    ):
        if rows:
            _print_rates(title, AIMS[aim], rows, console)
            _print_times(title, f"<= {AIMS['first_ms']:g}" if aim == "plain" else "", rows, console)
    if "loop" in result:
        print_loop(result["loop"], console)
    if "check" in result:
        _print_check(result["check"], console)
    console.print(json.dumps(result["machine"]), json.dumps(result["settings"]), sep="\n", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    return table


def _print_rates(title: str, aim: float, rows: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    table = _table(title, "localemp, requests/s", "bare", "ratio (median; min to max)", "aim", "errors", "aim")
    for name, row in rows.items():
        ours, theirs = (statistics.median(row[side]["requests_per_s"]) for side in SIDES)
        spread = f"{row['ratio']:.3f}; {min(row['ratios']):.3f} to {max(row['ratios']):.3f}"
        errors = f"{len(row['localemp']['errors'])} of {row['requests']:,} (bare {len(row['bare']['errors'])})"
        table.add_row(name, f"{ours:.2f}", f"{theirs:.2f}", spread, f">= {aim}", errors, "0")
    console.print(table)
    for name, row in rows.items():
        for said in (*row["localemp"]["errors"], *row["bare"]["errors"])[:3]:
            console.print(f"{name}: {said}", markup=False)


def _print_times(title: str, aim: str, rows: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    columns = ("first token p50/p99, ms", "bare", "p50 more", "aim", "between chunks p50/p99", "bare", "chunks", "bare")
    table = _table(f"{title}: times", *columns, "same number")
    for name, row in rows.items():
        cells = []
        for key in ("first_ms", "gap_ms"):
            cells += [f"{row[side][key]['p50']:.1f} / {row[side][key]['p99']:.1f}" for side in SIDES]
            if key == "first_ms":
                cells += [f"{row['first_ms_more']:+.2f}", aim]
        cells += [f"{row[side]['chunks_per_reply']:.2f}" for side in SIDES]
        table.add_row(name, *cells, f"{row['same_chunks']:.1%}")
    console.print(table)


def _print_check(found: Mapping[str, Any], console: Console) -> None:
    columns = ("localemp, requests/s", "bare", "ratio", "first token p50, ms", "bare", "failed")
    table = _table(f"by vllm bench serve, {found['at_once']} at once", *columns)
    runs = found["runs"]

    def each(side: str, name: str) -> str:
        return " ".join(f"{run[name]:.2f}" for run in runs[side])

    failed = sum(run["failed"] for side in SIDES for run in runs[side])
    rates = [each(side, "request_throughput") for side in SIDES]
    times = [each(side, "median_ttft_ms") for side in SIDES]
    table.add_row("both runs", *rates, f"{found['ratio']:.3f}", *times, f"{failed:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()

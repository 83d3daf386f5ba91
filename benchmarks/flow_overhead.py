"""What it costs that `two-stage` is a file: against the same two stages written out in Python, in one run, alternating.

    own code   processor time for a dialogue with an engine that answers at once: rendering prompts, reading answers
    batch      the same difference as a share of a whole batch that a real engine answers, and the batch's wall clock
    at once    seconds of three stages that do not depend on one another, with an engine that delays each call

The peer is what the class of `two-stage` did before strategies were files. Both ways must send the same prompts.
"""

import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import two_stage_by_hand
from rich.console import Console
from rich.table import Table
from script import Script, data_option, engine_args_option, out_option, write_result

from localemp.cli.options import parse_engine_args
from localemp.data.sources import load_dialogues
from localemp.dialogue import Message
from localemp.engines.base import Completion, Engine
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import answer_all, draft_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.prompting.flow_files import parse_flow
from localemp.runs.run import Run, read_records
from localemp.sampling import Sampling
from localemp.strategies.base import Draft, Exchange, Flow
from localemp.strategies.flows import StagedFlow
from localemp.strategies.strategy import Strategy
from localemp.utils.machine import machine

WAYS = ("by hand", "file")
ANSWER = "The speaker feels disappointed because the exam went badly after weeks of work."
THREE_AT_ONCE = """
about = "three stages that do not depend on one another"
[[stages]]
name = "feeling"
ask = "What does the speaker feel?"
[[stages]]
name = "cause"
ask = "What is the cause?"
[[stages]]
name = "need"
ask = "What does the speaker need?"
[[stages]]
name = "reply"
ask = "{feeling} {cause} {need} Reply."
"""


class ByHand(Flow):
    """`two-stage`, written out."""

    async def run(self, exchange: Exchange) -> None:
        """Ask for feeling and situation, then for the reply that uses the answer."""
        template = exchange.prompts.template
        question = two_stage_by_hand.question(template)
        found = await exchange.ask("feeling", question)
        await exchange.ask("reply", question, turns=[(found.strip(), template.two_stage.reply)])


class Instant(Engine):
    """Answers every request with one text, after a delay if it has one."""

    name = "instant"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer."""
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return Completion(ANSWER, "stop", 300, 16)

    def describe(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


async def own_code(ways: dict[str, Strategy], drafts: Sequence[Draft], repeats: int) -> dict[str, list[float]]:
    """Microseconds of processor time for a dialogue, of every repeat."""
    engine = Instant()

    async def once(strategy: Strategy) -> float:
        gc.collect()
        began = time.process_time()
        for draft in drafts:
            await strategy.respond(draft, engine)
        return (time.process_time() - began) / len(drafts) * 1e6

    for draft in drafts:
        first, second = [await strategy.respond(draft, engine) for strategy in ways.values()]
        if [stage.messages for stage in first.stages] != [stage.messages for stage in second.stages]:
            raise click.ClickException(f"the prompts for {draft.dialogue.id} differ; the ratio would mean nothing")
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    gc.disable()
    try:
        for repeat in range(repeats):
            for way in WAYS if repeat % 2 == 0 else reversed(WAYS):
                found[way].append(await once(ways[way]))
    finally:
        gc.enable()
    return found


async def batch(
    pipeline: Pipeline, ways: dict[str, Strategy], drafts: list[Draft], repeats: int
) -> dict[str, list[dict[str, float]]]:
    """Wall clock and this process's processor time of whole batches, in seconds."""
    engine = pipeline.engine(await plan(pipeline.strategy, drafts, pipeline.planner()))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}

    async def once(way: str) -> dict[str, float]:
        await engine.reset_prefix_cache()
        with tempfile.TemporaryDirectory() as folder:
            began, busy = time.perf_counter(), time.process_time()
            with Run.open(Path(folder), {}) as run:
                tally = await answer_all(ways[way], drafts, engine, run)
            spent = {"wall": time.perf_counter() - began, "own": time.process_time() - busy}
            if tally.failed or len(read_records(Path(folder))) != len(drafts):
                raise click.ClickException(f"{tally.failed} dialogues failed; the ratio would mean nothing")
        return spent

    async with engine:
        for way in WAYS:  # a warm-up, whole
            await once(way)
        for repeat in range(repeats):
            for way in WAYS if repeat % 2 == 0 else reversed(WAYS):
                found[way].append(await once(way))
    return found


async def at_once(pipeline: Pipeline, draft: Draft, seconds: float = 0.2) -> dict[str, float]:
    """Seconds of a flow with three independent stages and a reply, and of one call."""
    flow = StagedFlow(parse_flow(THREE_AT_ONCE.encode(), "three", "three.toml"), pipeline.context.template)
    strategy = Strategy("three", pipeline.prompts, pipeline.sampling, (), flow)
    began = time.perf_counter()
    response = await strategy.respond(draft, Instant(seconds))
    spent = time.perf_counter() - began
    return {"call": seconds, "flow": spent, "calls": len(response.stages), "first three": spent - seconds}


async def measure(config: RunConfig, split: str, count: int, batch_count: int, repeats: int) -> dict[str, Any]:
    """All three."""
    pipeline = Pipeline(config)
    dialogues = load_dialogues(config.data, split, config.instances, count)
    drafts = await draft_all(pipeline.strategy, dialogues)
    by_hand = Strategy("two-stage", pipeline.prompts, pipeline.sampling, (), ByHand())
    ways = dict(zip(WAYS, (by_hand, pipeline.strategy), strict=True))
    result = {
        "own": await own_code(ways, drafts, repeats),
        "at_once": await at_once(pipeline, drafts[0]),
        "batch": await batch(pipeline, ways, drafts[:batch_count], 3) if batch_count else {},
    }
    return {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[1]},
        "settings": pipeline.settings(dialogues, split) | {"dialogues": len(dialogues), "batch": batch_count},
        **result,
    }


@click.command(cls=Script)
@data_option
@click.option("--split", default="test", show_default=True)
@click.option("--dialogues", "count", default=256, show_default=True)
@click.option(
    "--batch", "batch_count", default=64, show_default=True, help="Dialogues for the real engine; 0 for none."
)
@click.option("--model", default="smollm2", show_default=True)
@click.option("--max-tokens", default=64, show_default=True)
@click.option("--repeats", default=40, show_default=True)
@engine_args_option
@out_option
def main(
    data: str,
    split: str,
    count: int,
    batch_count: int,
    model: str,
    max_tokens: int,
    repeats: int,
    engine_args: tuple[str, ...],
    out: Path | None,
) -> None:
    """Measure what a flow's file costs."""
    options = parse_engine_args(engine_args)
    config = RunConfig(model=model, data=data, strategy="two-stage", max_tokens=max_tokens, engine_args=options)
    result = asyncio.run(measure(config, split, count, batch_count, repeats))
    write_result(out, result)
    table = Table("", *WAYS, "ratio: median (quartiles)", title=f"two-stage, load {result['machine']['load']:.1f}")
    own = result["own"]
    table.add_row("own code, us of processor time a dialogue", *_medians(own, "{:.1f}"), _ratio(own))
    for key, what in (("wall", "batch, s"), ("own", "of it this process, s of processor time")):
        if result["batch"]:
            values = {way: [one[key] for one in result["batch"][way]] for way in WAYS}
            table.add_row(what, *_medians(values, "{:.2f}"), _ratio(values))
    Console().print(table)
    more = statistics.median(own["file"]) - statistics.median(own["by hand"])
    if result["batch"]:
        wall = statistics.median(one["wall"] for one in result["batch"]["file"])
        click.echo(f"{more:.1f} us more a dialogue are {more * batch_count / wall / 1e4:.1g} % of the batch")
    told = result["at_once"]
    click.echo(f"three stages at once: {told['first three']:.3f} s, one call {told['call']:.3f} s")


def _medians(values: dict[str, list[float]], form: str) -> list[str]:
    return [form.format(statistics.median(values[way])) for way in WAYS]


def _ratio(values: dict[str, list[float]]) -> str:
    ratios = [after / before for before, after in zip(*(values[way] for way in WAYS), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


# vLLM's processes import this module again when they are spawned.
if __name__ == "__main__":
    main()

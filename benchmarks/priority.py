"""Second stages before first ones: a two-stage batch with vLLM's request priority, and in the order of arrival.

    wall        seconds of the whole batch
    median, 95  seconds from a dialogue's first request to its last reply, median and 95th percentile

One engine answers the same dialogues both ways, one after the other; which way comes first alternates, and the prefix
cache is emptied before each. vLLM's queue has the same policy in both: equal priorities leave the order of arrival.
"""

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from script import Script, data_option, engine_args_option, out_option, write_result

from localemp.cli.options import parse_engine_args
from localemp.data.sources import load_dialogues
from localemp.engines.base import TURN
from localemp.engines.vllm.engine import VLLMEngine
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import answer_one, draft_all, for_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.strategies.base import Draft
from localemp.strategies.strategy import Strategy
from localemp.utils.machine import machine

WAYS = ("priority", "arrival")


async def answered(strategy: Strategy, drafts: Sequence[Draft], engine: VLLMEngine, way: str) -> dict[str, float]:
    """Answer all dialogues, as many at once as a batch does; return the seconds."""
    spans: list[float] = []
    turns = itertools.count(1)

    async def answer(draft: Draft) -> None:
        TURN.set(next(turns) if way == "priority" else 0)
        began = time.perf_counter()
        record = await answer_one(strategy, draft, engine)
        spans.append(time.perf_counter() - began)
        if "error" in record:
            raise click.ClickException(f"a dialogue failed: {record['error']}")

    await engine.reset_prefix_cache()
    began = time.perf_counter()
    await for_all(drafts, answer, engine.concurrency)
    wall = time.perf_counter() - began
    parts = statistics.quantiles(spans, n=20, method="inclusive")
    return {"wall": wall, "median": statistics.median(spans), "95": parts[-1]}


async def measure(config: RunConfig, split: str, count: int, repeats: int) -> dict[str, Any]:
    """Both ways, alternating."""
    pipeline = Pipeline(config)
    dialogues = load_dialogues(config.data, split, config.instances, count)
    drafts = await draft_all(pipeline.strategy, dialogues)
    context = await plan(pipeline.strategy, drafts, pipeline.planner())
    engine = VLLMEngine(pipeline.tokenizer, context, config.engine_args, seed=config.seed)
    await engine.start()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    try:
        for way in WAYS:  # a warm-up, whole: the first pass compiles kernels for every shape of a batch
            await answered(pipeline.strategy, drafts, engine, way)
        for repeat in range(repeats):
            for way in WAYS if repeat % 2 == 0 else reversed(WAYS):
                found[way].append(await answered(pipeline.strategy, drafts, engine, way))
        about = engine.describe() | {"max_num_seqs": engine.max_num_seqs, "in flight": engine.concurrency}
    finally:
        await engine.close()
    return {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[1]},
        "engine": about,
        "settings": pipeline.settings(dialogues, split) | {"dialogues": len(dialogues), "repeats": repeats},
        "seconds": found,
    }


@click.command(cls=Script)
@data_option
@click.option("--split", default="test", show_default=True)
@click.option("--dialogues", "count", default=128, show_default=True)
@click.option("--model", default="smollm2", show_default=True)
@click.option("--strategy", default="two-stage", show_default=True)
@click.option("--max-tokens", default=64, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@engine_args_option
@out_option
def main(
    data: str,
    split: str,
    count: int,
    model: str,
    strategy: str,
    max_tokens: int,
    repeats: int,
    engine_args: tuple[str, ...],
    out: Path | None,
) -> None:
    """Measure what the priority of second stages gives."""
    options = parse_engine_args(engine_args)
    config = RunConfig(model=model, data=data, strategy=strategy, max_tokens=max_tokens, engine_args=options)
    result = asyncio.run(measure(config, split, count, repeats))
    write_result(out, result)
    table = Table(title=f"{count} dialogues, {strategy}, load {result['machine']['load']:.1f}")
    for name in ("", *WAYS, "ratio: median (min to max)"):
        table.add_column(name)
    first, second = (result["seconds"][way] for way in WAYS)
    for name in first[0]:
        values = [[one[name] for one in some] for some in (first, second)]
        ratios = [one / other for one, other in zip(*values, strict=True)]
        shown = [f"{statistics.median(some):.1f}" for some in values]
        table.add_row(name, *shown, f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    Console().print(table)


# vLLM's processes import this module again when they are spawned.
if __name__ == "__main__":
    main()

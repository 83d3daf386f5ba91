"""The overhead of localemp over bare vLLM: the same prompts and engine settings, in one run, alternating.

    one stage   tokens/s of localemp's batch over those of one `vllm.LLM.chat` call with all prompts
    two stages  seconds of localemp's two-stage batch over those of two whole `LLM.chat` passes, one after the other
    released    the speedup over the released code's method, one request at a time

Both engines stay loaded and take turns; prefix caches are emptied before every turn. localemp's side includes
strategy, prompts, requests, and writing every reply into a run folder.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import two_stage_by_hand
from rich.console import Console
from rich.table import Table
from script import Script, data_option, engine_args_option, out_option, write_result

from localemp.bench.dummy import dummy_config
from localemp.cli.options import parse_engine_args
from localemp.data.sources import load_dialogues
from localemp.engines.vllm.engine import VLLMEngine
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import answer_all, draft_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import Run, read_records
from localemp.sampling import Sampling
from localemp.strategies.base import Draft
from localemp.strategies.strategy import Strategy
from localemp.utils.machine import machine

# Both engines are loaded at once.
SHARE: dict[str, Any] = {"gpu_memory_utilization": 0.45}


class Bare:
    """`vllm.LLM` as its documentation shows it."""

    def __init__(self, model: Path, options: dict[str, Any]) -> None:
        from localemp.engines.vllm.names import LLM

        self.llm = LLM(model=str(model), **options)

    def chat(self, prompts: Sequence[list[dict[str, str]]], sampling: Sampling) -> tuple[list[str], int, float]:
        """All replies, their tokens, and the seconds it took."""
        from localemp.engines.vllm.names import SamplingParams

        params = SamplingParams(max_tokens=sampling.max_tokens, temperature=sampling.temperature)
        started = time.perf_counter()
        outputs = self.llm.chat(list(prompts), params, use_tqdm=False)
        seconds = time.perf_counter() - started
        return [o.outputs[0].text for o in outputs], sum(len(o.outputs[0].token_ids) for o in outputs), seconds


class Timed:
    """localemp's batch: every call is a run of its own in a folder that goes away."""

    def __init__(self, engine: VLLMEngine) -> None:
        self.engine = engine

    async def answer(self, strategy: Strategy, drafts: list[Draft]) -> tuple[list[dict[str, Any]], int, float]:
        """The lines of the run, the tokens of all stages, and the seconds it took."""
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            with Run.open(Path(folder), {}) as run:
                tally = await answer_all(strategy, drafts, self.engine, run)
            seconds = time.perf_counter() - started
            if tally.failed:
                raise click.ClickException(f"{tally.failed} dialogues failed; the ratio would mean nothing")
            return read_records(Path(folder)), tally.completion_tokens, seconds


@click.command(cls=Script)
@data_option
@click.option("--split", default="test", show_default=True)
@click.option("--dialogues", "count", default=256, show_default=True)
@click.option("--model", default="smollm2", show_default=True)
@click.option("--max-tokens", default=64, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--one-at-a-time", "single", default=16, show_default=True, help="Dialogues for the released code's way.")
@engine_args_option
@click.option("--load-format", type=click.Choice(["auto", "dummy"]), default="auto", show_default=True)
@out_option
def main(
    data: str,
    split: str,
    count: int,
    model: str,
    max_tokens: int,
    repeats: int,
    single: int,
    engine_args: tuple[str, ...],
    load_format: str,
    out: Path | None,
) -> None:
    """Measure the overhead of localemp over bare vLLM."""
    options = parse_engine_args(engine_args)
    config = RunConfig(model=model, data=data, max_tokens=max_tokens, engine_args=options)
    with tempfile.TemporaryDirectory() as folder:
        config = dummy_config(config, Path(folder)) if load_format == "dummy" else config
        result = asyncio.run(measure(config, split, count, repeats, single))
    write_result(out, result)
    print_result(result)


async def measure(config: RunConfig, split: str, count: int, repeats: int, single: int) -> dict[str, Any]:
    """Both sides on the same dialogues; see the module's docstring for the values."""
    one, two = Pipeline(config), Pipeline(replace(config, strategy="two-stage"))
    dialogues = load_dialogues(config.data, split, config.instances, count)
    drafts = await draft_all(one.strategy, dialogues)
    context = max([await plan(each.strategy, drafts, each.planner()) for each in (one, two)])
    engine = VLLMEngine(one.tokenizer, context, {**SHARE, **config.engine_args}, seed=config.seed)
    await engine.start()
    bare = Bare(one.weights.folder, engine.engine_args)
    timed = Timed(engine)
    try:
        figures: dict[str, list[float]] = {}
        await _turn(one, two, drafts[:16], timed, bare, ours_first=True)  # warm-up
        for repeat in range(repeats):
            for name, value in (await _turn(one, two, drafts, timed, bare, ours_first=repeat % 2 == 0)).items():
                figures.setdefault(name, []).append(value)
        bare.llm.reset_prefix_cache()
        prompts = _prompts(one, drafts[:single])
        lone = [bare.chat([prompt], one.sampling) for prompt in prompts]
        lone_rate = single / sum(seconds for _, _, seconds in lone)
    finally:
        await engine.close()
    return {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d")},
        "engine": engine.describe(),
        "settings": one.settings(dialogues, split) | {"dialogues": count, "repeats": repeats},
        "figures": figures,
        "one_stage_ratio": statistics.median(figures["one_stage_ratio"]),
        "two_stage_ratio": statistics.median(figures["two_stage_ratio"]),
        "one_at_a_time_dialogues_per_s": lone_rate,
        "times_faster_than_one_at_a_time": statistics.median(figures["dialogues_per_s"]) / lone_rate,
    }


async def _turn(
    one: Pipeline, two: Pipeline, drafts: list[Draft], timed: Timed, bare: Bare, ours_first: bool
) -> dict[str, float]:
    """Each side once, for one stage and for two; who goes first alternates."""

    async def ours(pipeline: Pipeline) -> tuple[int, float]:
        await timed.engine.reset_prefix_cache()
        _, tokens, seconds = await timed.answer(pipeline.strategy, drafts)
        return tokens, seconds

    async def theirs(stages: int) -> tuple[int, float]:
        bare.llm.reset_prefix_cache()
        return await asyncio.to_thread(_bare_pass, bare, one if stages == 1 else two, drafts)

    results = {}
    for stages, pipeline in ((1, one), (2, two)):
        if ours_first:
            results[stages] = (await ours(pipeline), await theirs(stages))
        else:
            peer = await theirs(stages)
            results[stages] = (await ours(pipeline), peer)
    (tokens, seconds), (peer_tokens, peer_seconds) = results[1]
    (tokens_2, seconds_2), (peer_tokens_2, peer_seconds_2) = results[2]
    return {
        "tokens_per_s": tokens / seconds,
        "bare_tokens_per_s": peer_tokens / peer_seconds,
        "one_stage_ratio": (tokens / seconds) / (peer_tokens / peer_seconds),
        "dialogues_per_s": len(drafts) / seconds,
        "two_stage_seconds": seconds_2,
        "bare_two_stage_seconds": peer_seconds_2,
        "two_stage_tokens": tokens_2,
        "bare_two_stage_tokens": peer_tokens_2,
        "two_stage_ratio": seconds_2 / peer_seconds_2,
    }


def _bare_pass(bare: Bare, pipeline: Pipeline, drafts: list[Draft]) -> tuple[int, float]:
    """One pass for one stage; for two, a whole pass of questions and then a whole pass of replies."""
    prompts, strategy = pipeline.prompts, pipeline.strategy
    if strategy.name == "zero-shot":
        _, tokens, seconds = bare.chat(_prompts(pipeline, drafts), strategy.sampling)
        return tokens, seconds
    template = prompts.template
    asked = [prompts.messages(draft.dialogue, asked=two_stage_by_hand.feeling(template)) for draft in drafts]
    thoughts, tokens, seconds = bare.chat([_plain(messages) for messages in asked], strategy.sampling)
    started = time.perf_counter()
    again = [
        _plain(prompts.messages(draft.dialogue, asked=two_stage_by_hand.reply(template, thought)))
        for draft, thought in zip(drafts, thoughts, strict=True)
    ]
    between = time.perf_counter() - started
    _, more, longer = bare.chat(again, strategy.sampling)
    return tokens + more, seconds + between + longer


def _prompts(pipeline: Pipeline, drafts: Sequence[Draft]) -> list[list[dict[str, str]]]:
    return [_plain(pipeline.prompts.messages(draft.dialogue)) for draft in drafts]


def _plain(messages: Sequence[Any]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def print_result(result: dict[str, Any]) -> None:
    """The table that matters."""
    figures, settings = result["figures"], result["settings"]
    table = Table(title=f"{settings['model']}, {settings['dialogues']} dialogues, {settings['repeats']} repeats")
    for column in ("", "localemp", "bare vLLM", "ratio (median; min to max)"):
        table.add_column(column)

    def row(name: str, ours: str, theirs: str, ratio: str) -> None:
        values = figures[ratio]
        spread = f"{statistics.median(values):.3f}; {min(values):.3f} to {max(values):.3f}"
        table.add_row(
            name, f"{statistics.median(figures[ours]):.1f}", f"{statistics.median(figures[theirs]):.1f}", spread
        )

    row("one stage, tokens/s", "tokens_per_s", "bare_tokens_per_s", "one_stage_ratio")
    row("two stages, seconds", "two_stage_seconds", "bare_two_stage_seconds", "two_stage_ratio")
    console = Console()
    console.print(table)
    console.print(
        f"one request at a time: {result['one_at_a_time_dialogues_per_s']:.2f} dialogues/s; "
        f"localemp is {result['times_faster_than_one_at_a_time']:.1f} times faster"
    )
    console.print(json.dumps(result["engine"]), soft_wrap=True)


if __name__ == "__main__":
    main()

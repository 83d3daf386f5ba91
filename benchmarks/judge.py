"""Compare the throughput of judging with that of `generate`: both on one engine, alternating, in one run.

    generate   zero-shot replies to as many dialogues as the judge gives answers, as `localemp generate` makes them
    judge      pairs x aspects x both orders, as `localemp study judge` does it: prompts, requests, reading the answers,
               and every answer written into a folder
    straight   the judge's requests once more, sent to the engine and nothing else: what localemp costs on top of it

The ratio is judge's tokens a second over generate's, prompts and texts together. An engine computes no token that its
prefix cache holds, and aspects share most of their prompts, so tokens from the cache count for neither side. Both sides
send the same number of requests, have as many in flight, and start from an empty prefix cache. They are not the same
work: a judge reads much and writes little, and reading is what an engine does faster. So a ratio above 1 is no feat;
one below 0.95, or a judge that is slower than the same requests sent straight, is a fault.

A pair is the reply that a person gave and one that another dialogue got: long enough, and no model is needed for it.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from script import Script, data_option, engine_args_option, out_option, write_result

from localemp.bench.offline import OfflineEngine, Workload, look_up
from localemp.cli.options import parse_engine_args
from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue
from localemp.engines.vllm.engine import VLLMEngine
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import Tally, for_all
from localemp.pipeline.pipeline import Pipeline
from localemp.studies.judging.judge import Judge, JudgeLog, Question, questions
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.schema import Item, Key, Reply
from localemp.studies.study import Study
from localemp.utils.machine import machine


@click.command(cls=Script)
@data_option
@click.option("--pairs", default=100, show_default=True, help="Each is judged by three aspects in both orders.")
@click.option("--model", default="smollm2", show_default=True)
@click.option("--max-tokens", default=64, show_default=True, help="Of the replies of generate.")
@click.option("--repeats", default=3, show_default=True)
@engine_args_option
@out_option
def main(
    data: str, pairs: int, model: str, max_tokens: int, repeats: int, engine_args: tuple[str, ...], out: Path | None
) -> None:
    """Measure the speed of judging a study against that of generating replies."""
    config = RunConfig(model=model, data=data, max_tokens=max_tokens, engine_args=parse_engine_args(engine_args))
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(config, pairs, repeats, Path(folder)))
    write_result(out, result)
    print_result(result)


async def measure(config: RunConfig, pairs: int, repeats: int, folder: Path) -> dict[str, Any]:
    """All three on one engine; see the module's docstring for the values."""
    pipeline = Pipeline(config)
    dialogues = load_dialogues(config.data, "test")
    study = make_study(folder / "study", [each for each in dialogues if each.reference][:pairs])
    judge = Judge(study, JudgePrompts.read(), pipeline.sampling)
    asked = questions(study)
    if len(dialogues) < len(asked):
        raise click.ClickException(
            f"{len(dialogues)} dialogues are too few: {len(asked)} are needed; name other --data"
        )
    workload = await look_up(pipeline, dialogues[: len(asked)])
    context = max(workload.context, await judge.plan(asked, pipeline.planner()))
    runs: dict[str, list[dict[str, float]]] = {"generate": [], "judge": [], "straight": []}
    async with OfflineEngine([workload], options={"max_model_len": context, **config.engine_args}) as offline:
        engine = offline.engine

        async def turn(order: Sequence[str]) -> dict[str, dict[str, float]]:
            sides = {
                "generate": lambda: generate(offline, workload),
                "judge": lambda: judge_all(judge, asked, engine),
                "straight": lambda: send_straight(judge, asked, engine),
            }
            return {side: await sides[side]() for side in order}

        await turn(list(runs))  # warm-up
        for repeat in range(repeats):
            for side, figures in (await turn(list(runs) if repeat % 2 == 0 else list(runs)[::-1])).items():
                runs[side].append(figures)
        described = engine.describe()
    generated, judged, straight = runs.values()
    return {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d")},
        "engine": described,
        "settings": {"model": config.model, "pairs": pairs, "requests": len(asked), "repeats": repeats}
        | {"max_tokens": config.max_tokens},
        "runs": runs,
        "ratio": [b["computed_per_s"] / a["computed_per_s"] for a, b in zip(generated, judged, strict=True)],
        "overhead": [b["seconds"] / a["seconds"] for a, b in zip(straight, judged, strict=True)],
    }


def make_study(folder: Path, dialogues: Sequence[Dialogue], pairs: Sequence[tuple[str, str]] | None = None) -> Study:
    """Two replies to each dialogue; by default its own against that of the next one."""
    pairs = pairs or [
        (str(dialogue.reference), str(dialogues[(number + 1) % len(dialogues)].reference))
        for number, dialogue in enumerate(dialogues)
    ]
    items: list[Item] = []
    names: dict[str, str] = {}
    for number, dialogue in enumerate(dialogues):
        replies = tuple(
            Reply(key=f"{number}{letter}", text=text) for letter, text in zip("ab", pairs[number], strict=True)
        )
        items.append(Item(id=str(number), turns=dialogue.turns, replies=replies))
        names |= {f"{number}a": "own", f"{number}b": "other"}
    asked = load_questionnaire()
    key = Key(systems=names, dialogues={item.id: item.id for item in items}, sources={"own": {}, "other": {}})
    return Study.write(
        folder,
        items,
        key,
        kind="ab",
        title="Benchmark",
        instructions=asked.instructions,
        question=asked.question("ab"),
        aspects=asked.aspects("ab"),
        seed=0,
        created="",
        versions={},
    )


async def generate(offline: OfflineEngine, workload: Workload) -> dict[str, float]:
    """Replies, as `localemp generate` makes them."""
    batch = await offline.answer(workload)
    return figures(batch.tally)


async def judge_all(judge: Judge, asked: Sequence[Question], engine: VLLMEngine) -> dict[str, float]:
    """Answers, as `localemp study judge` gets them."""
    await engine.reset_prefix_cache()
    with tempfile.TemporaryDirectory() as folder, JudgeLog.open(Path(folder), {}) as answers:
        tally = await judge.ask_all(asked, engine, answers)
    if tally.failed:
        raise click.ClickException(f"{tally.failed} questions failed; the ratio would mean nothing")
    return figures(tally)


async def send_straight(judge: Judge, asked: Sequence[Question], engine: VLLMEngine) -> dict[str, float]:
    """The judge's requests, and nothing else."""
    await engine.reset_prefix_cache()
    prompts = [judge.messages(question) for question in asked]
    tally = Tally(len(prompts))

    async def send(prompt: Any) -> None:
        tally.add((await engine.chat(prompt, judge.sampling)).record())

    await for_all(prompts, send, engine.concurrency)
    tally.ended = time.perf_counter()
    return figures(tally)


def figures(tally: Tally) -> dict[str, float]:
    """The values of one side."""
    cached = tally.cached_tokens or 0
    tokens = tally.prompt_tokens + tally.completion_tokens
    return {
        "seconds": tally.seconds,
        "requests_per_s": tally.done / tally.seconds,
        "prompt_tokens": tally.prompt_tokens,
        "reply_tokens": tally.completion_tokens,
        "prefix_hits": cached / tally.prompt_tokens,
        "tokens_per_s": tokens / tally.seconds,
        "computed_per_s": (tokens - cached) / tally.seconds,
    }


def print_result(result: dict[str, Any]) -> None:
    """The table that matters: medians."""
    settings = result["settings"]
    table = Table(
        title=f"{settings['model']}, {settings['requests']} requests a side ({settings['pairs']} pairs), "
        f"medians of {settings['repeats']}"
    )
    for column in ("", "seconds", "requests/s", "tokens/s", "computed tokens/s", "prefix cache"):
        table.add_column(column)
    for side, repeats in result["runs"].items():
        median = {name: statistics.median(each[name] for each in repeats) for name in repeats[0]}
        rates = (median[name] for name in ("seconds", "requests_per_s", "tokens_per_s", "computed_per_s"))
        table.add_row(side, *(f"{value:.1f}" for value in rates), f"{median['prefix_hits']:.1%}")
    console = Console()
    console.print(table)
    for name, meaning in (("ratio", "judge / generate, computed tokens/s"), ("overhead", "judge / straight, seconds")):
        values = result[name]
        console.print(f"{meaning}: {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
    console.print(json.dumps(result["engine"]), soft_wrap=True)


if __name__ == "__main__":
    main()

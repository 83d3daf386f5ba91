"""LoRA adapters: the speed of requests that have one, as a ratio to the same requests without, on the same engine.

    python benchmarks/adapters.py --data samples                                # SmolLM2; on a CPU, vLLM's own way, too
    python benchmarks/adapters.py --data FOLDER --model llama --load-format dummy   # an 8B's shape, on a GPU

    none   no request has an adapter, though the engine can apply two
    one    all requests have the same
    two    every other request has the other

The adapters are random, of one rank, on all seven projections of every layer. The ways alternate; the prefix cache is
emptied before each, and every reply has the same number of tokens. `plain` is an engine that can apply none, and says
what that ability costs. On GPUs an engine multiplies with vLLM's Punica kernels. On CPUs there are two engines: `ours`
(localemp/engines/vllm/cpu_lora.py) and `vLLM's`. Engines run one after the other, so ratios between them are rougher.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import click
import numpy
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file
from script import Script, data_option, engine_args_option, out_option, write_result

from localemp.bench.dummy import dummy_config
from localemp.cli.options import parse_engine_args
from localemp.data.sources import load_dialogues
from localemp.engines.base import Engine
from localemp.engines.vllm.engine import VLLMEngine
from localemp.models.adapters import Adapter, find_adapter
from localemp.models.peft import CONFIG, WEIGHTS
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import answer_one, draft_all, for_all, plan
from localemp.pipeline.pipeline import Pipeline
from localemp.strategies.base import Draft
from localemp.strategies.strategy import Strategy
from localemp.utils.json_reader import load_object
from localemp.utils.machine import gpu, machine

WAYS = ("none", "one", "two")
# The worker's extension is our way of multiplying; without one, vLLM's own is left.
VLLM_OWN = {"worker_extension_cls": ""}


def projections(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return inputs and outputs of the projections in a layer of Llama's kind."""
    hidden, inner, heads = (int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    head = int(config.get("head_dim") or hidden // heads)
    queries, keys = heads * head, int(config.get("num_key_value_heads") or heads) * head
    return {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }


def save_random_adapter(folder: Path, config: Mapping[str, Any], rank: int, seed: int) -> Adapter:
    """Write an adapter with random matrices on all projections of a model of Llama's kind.

    Args:
        folder: Is written to; its name is the adapter's.
        config: The model's configuration.
        rank: Of all matrices.
        seed: Of their values.
    """
    folder.mkdir(parents=True)
    draw, sizes, tensors = numpy.random.default_rng(seed), projections(config), {}
    for layer in range(int(config["num_hidden_layers"])):
        for name, (inputs, outputs) in sizes.items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            for part, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                values = 0.01 * draw.standard_normal(shape, dtype=numpy.float32)
                tensors[f"{module}.lora_{part}.weight"] = values.astype(numpy.float16)
    save_file(tensors, folder / WEIGHTS)
    targets = sorted(name.rsplit(".", 1)[-1] for name in sizes)
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": targets}
    (folder / CONFIG).write_text(json.dumps(told), "utf-8")
    return find_adapter(str(folder))


async def answered(strategy: Strategy, drafts: Sequence[Draft], engine: VLLMEngine, views: Sequence[Engine]) -> float:
    """Answer all dialogues, each through the next view of the engine; return the seconds."""

    async def answer(item: tuple[Draft, Engine]) -> None:
        record = await answer_one(strategy, item[0], item[1])
        if "error" in record:
            raise click.ClickException(f"a dialogue failed: {record['error']}")

    await engine.reset_prefix_cache()
    began = time.perf_counter()
    await for_all(list(zip(drafts, cycle(views), strict=False)), answer, engine.concurrency)
    return time.perf_counter() - began


async def measure(
    pipeline: Pipeline,
    drafts: Sequence[Draft],
    adapters: Sequence[Adapter],
    own: Mapping[str, Any],
    tokens: int,
    repeats: int,
) -> dict[str, Any]:
    """Measure one engine; return its description and the seconds of every way, one for each repeat.

    Args:
        pipeline: Strategy and model.
        drafts: The dialogues.
        adapters: Two, or none for an engine that can apply none.
        own: Engine arguments besides the config's.
        tokens: Of every reply.
        repeats: Of every way.
    """
    context = await plan(pipeline.strategy, drafts, pipeline.planner()) + tokens
    engine = VLLMEngine(pipeline.tokenizer, context, {**own, **pipeline.config.engine_args}, adapters=adapters)
    views: dict[str, Sequence[Engine]] = {"none": [engine]}
    if adapters:
        one, two = (engine.adapted(adapter) for adapter in adapters)
        views |= {"one": [one], "two": [one, two]}
    seconds: dict[str, list[float]] = {way: [] for way in views}
    await engine.start()
    try:
        engine.fixed_length = min(8, tokens)
        for way in views:  # a warm-up: adapters are loaded, kernels compiled
            await answered(pipeline.strategy, drafts, engine, views[way])
        engine.fixed_length = tokens
        for repeat in range(repeats):
            for way in views if repeat % 2 == 0 else reversed(views):
                seconds[way].append(await answered(pipeline.strategy, drafts, engine, views[way]))
        return {"engine": engine.describe() | {"max_num_seqs": engine.max_num_seqs}, "seconds": seconds}
    finally:
        await engine.close()


async def measure_all(
    pipeline: Pipeline, split: str, count: int, rank: int, tokens: int, repeats: int
) -> dict[str, Any]:
    """Measure every engine."""
    dialogues = load_dialogues(pipeline.config.data, split, pipeline.config.instances, count)
    drafts = await draft_all(pipeline.strategy, dialogues)
    with tempfile.TemporaryDirectory() as folder:
        shape = load_object(pipeline.weights.folder / "config.json")
        adapters = [save_random_adapter(Path(folder, name), shape, rank, seed) for seed, name in enumerate("ab")]
        engines: dict[str, tuple[Sequence[Adapter], Mapping[str, Any]]] = {"plain": ([], {})}
        if gpu() == "none":
            engines |= {"ours": (adapters, {}), "vLLM's": (adapters, VLLM_OWN)}
        else:
            engines["Punica"] = (adapters, {})
        found = {}
        for name, (applied, own) in engines.items():
            found[name] = await measure(pipeline, drafts, applied, own, tokens, repeats)
    settings = pipeline.settings(dialogues, split)
    return {
        "machine": machine() | {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[1]},
        "settings": settings | {"dialogues": len(dialogues), "repeats": repeats, "rank": rank, "reply_tokens": tokens},
        "engines": found,
    }


def ratios(engine: Mapping[str, Any], way: str) -> list[float]:
    """Return the speed of a way on an engine, as a ratio to that of `none`, for each repeat."""
    seconds = engine["seconds"]
    return [without / taken for without, taken in zip(seconds["none"], seconds[way], strict=True)]


@click.command(cls=Script)
@data_option
@click.option("--split", default="test", show_default=True)
@click.option("--dialogues", "count", type=click.IntRange(min=2), default=64, show_default=True)
@click.option("--model", default="smollm2-plain", show_default=True)
@click.option("--load-format", type=click.Choice(["auto", "dummy"]), default="auto", show_default=True)
@click.option("--rank", type=click.IntRange(1, 512), default=16, show_default=True)
@click.option("--reply-tokens", "tokens", type=click.IntRange(min=1), default=48, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@engine_args_option
@out_option
def main(
    data: str,
    split: str,
    count: int,
    model: str,
    load_format: str,
    rank: int,
    tokens: int,
    repeats: int,
    engine_args: tuple[str, ...],
    out: Path | None,
) -> None:
    """Measure what adapters cost."""
    config = RunConfig(model=model, data=data, engine_args=parse_engine_args(engine_args))
    with tempfile.TemporaryDirectory() as folder:
        config = dummy_config(config, Path(folder)) if load_format == "dummy" else config
        result = asyncio.run(measure_all(Pipeline(config), split, count, rank, tokens, repeats))
    write_result(out, result)
    settings, load = result["settings"], result["machine"]["load"]
    table = Table(title=f"{settings['dialogues']} dialogues x {tokens} tokens, rank {rank}, load {load:.1f}")
    for column in ("engine", "adapter", "replies/s", "of the speed without: median (min to max)"):
        table.add_column(column)
    for name, engine in result["engines"].items():
        for way, seconds in engine["seconds"].items():
            shares = ratios(engine, way)
            told = f"{statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})" if way != "none" else ""
            table.add_row(name, way, f"{settings['dialogues'] / statistics.median(seconds):.1f}", told)
    Console().print(table)


# vLLM's processes import this module again when they are spawned.
if __name__ == "__main__":
    main()

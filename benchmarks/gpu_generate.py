"""All of `generate` on one GPU with one command: overhead against bare vLLM, and every strategy's throughput.

    python benchmarks/gpu_generate.py --data FOLDER --out results/

Two models: SmolLM2 with its weights, and the shape of Llama 3.1 8B with dummy weights (its configuration, SmolLM2's
tokenizer), whose replies mean nothing and whose speed is that of the real one. A CPU does it too, with fewer dialogues:

    python benchmarks/gpu_generate.py --data FOLDER --dialogues 16 --models smollm2
"""

import asyncio
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from generate_overhead import Timed, measure, print_result
from rich.console import Console
from rich.table import Table

from localemp.assembly import Assembly
from localemp.data.sources import load_dialogues
from localemp.engines.vllm import VLLMEngine
from localemp.generation import draft_all, plan
from localemp.profiles import load_profile
from localemp.recipe import Recipe
from localemp.weights import resolve

STRATEGIES: dict[str, dict[str, Any]] = {
    "zero-shot": {},
    "few-shot 1": {"strategy": "few-shot", "shots": 1},
    "few-shot 5": {"strategy": "few-shot", "shots": 5},
    "similar 5": {"strategy": "similar", "shots": 5},
    "two-stage": {"strategy": "two-stage"},
    "knowledge": {"strategy": "knowledge"},
    "similar+two-stage": {"strategy": "similar+two-stage", "shots": 5},
}

# The published configuration of Llama 3.1 8B Instruct; figures only, no weights.
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@click.command()
@click.option("--data", required=True, help="A folder with EmpatheticDialogues.")
@click.option(
    "--knowledge", type=click.Path(path_type=Path), help="Inferences for the test set; else no knowledge row."
)
@click.option("--dialogues", "count", default=2048, show_default=True)
@click.option("--models", default="smollm2,llama-8b-dummy", show_default=True)
@click.option("--repeats", default=2, show_default=True)
@click.option("--max-tokens", default=64, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True)
def main(
    data: str,
    knowledge: Path | None,
    count: int,
    models: str,
    repeats: int,
    max_tokens: int,
    out: Path,
) -> None:
    """Measure `generate` on this machine."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for model in models.split(","):
            recipe = Recipe(model=model, data=data, instances="published", max_tokens=max_tokens, knowledge=knowledge)
            if model == "llama-8b-dummy":
                shape = llama_shape(Path(folder))
                recipe = replace(recipe, model=str(shape), engine_args={"load_format": "dummy"})
            overhead = asyncio.run(measure(recipe, "test", count, repeats, single=16))
            print_result(overhead)
            rows = asyncio.run(strategies(recipe, count))
            print_strategies(model, rows)
            result = {"model": model, "overhead": overhead, "strategies": rows}
            (out / f"generate-{model}.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def llama_shape(folder: Path) -> Path:
    """A folder that vLLM takes for Llama 3.1 8B, with SmolLM2's tokenizer (ids below 49,152 are ids of both)."""
    source = resolve(load_profile("smollm2")).folder
    for path in source.iterdir():
        if path.name.startswith(("tokenizer", "special_tokens", "chat_template", "vocab", "merges")):
            shutil.copy(path, folder / path.name)
    (folder / "config.json").write_text(json.dumps(LLAMA_8B), "utf-8")
    return folder


async def strategies(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Every strategy on one engine whose context holds the longest of their prompts; prefixes are forgotten between."""
    dialogues = load_dialogues(recipe.data, "test", recipe.instances, count)
    prepared, context = [], 0
    for name, settings in STRATEGIES.items():
        if "knowledge" in name and recipe.knowledge is None:
            continue
        assembly = Assembly(replace(recipe, **settings))
        started = time.perf_counter()
        drafts = await draft_all(assembly.strategy, dialogues)
        looked_up = time.perf_counter() - started
        context = max(context, await plan(assembly.strategy, drafts, assembly.planner()))
        prepared.append((name, assembly, drafts, looked_up))
    rows = []
    async with VLLMEngine(prepared[0][1].tokenizer, context, recipe.engine_args, recipe.seed) as engine:
        timed = Timed(engine)
        await timed.answer(prepared[0][1].strategy, prepared[0][2][:32])  # warm-up
        for name, assembly, drafts, looked_up in prepared:
            await engine.forget_prefixes()
            lines, tokens, seconds = await timed.answer(assembly.strategy, drafts)
            prompt_tokens = sum(stage["prompt_tokens"] for line in lines for stage in line["stages"])
            cached = sum(stage["cached_tokens"] or 0 for line in lines for stage in line["stages"])
            rows.append(
                {
                    "strategy": name,
                    "dialogues_per_s": len(drafts) / seconds,
                    "reply_tokens_per_s": tokens / seconds,
                    "prompt_tokens_per_s": prompt_tokens / seconds,
                    "prefix_cache_hit_rate": cached / prompt_tokens,
                    "look_up_seconds": looked_up,
                    "settings": assembly.settings(dialogues, "test"),
                    "engine": engine.describe(),
                }
            )
    return rows


def print_strategies(model: str, rows: list[dict[str, Any]]) -> None:
    """The table that matters."""
    table = Table(title=f"{model}: every strategy")
    for column in ("strategy", "dialogues/s", "reply tokens/s", "prompt tokens/s", "prefix hits", "look-up s"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["strategy"],
            f"{row['dialogues_per_s']:.1f}",
            f"{row['reply_tokens_per_s']:.0f}",
            f"{row['prompt_tokens_per_s']:.0f}",
            f"{row['prefix_cache_hit_rate']:.0%}",
            f"{row['look_up_seconds']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()

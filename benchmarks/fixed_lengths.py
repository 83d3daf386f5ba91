"""Output tokens a second at fixed lengths, beside those that NVIDIA published for TensorRT-LLM on the same GPU.

    python benchmarks/fixed_lengths.py --out fixed.json              # Llama 3.1 8B's shape in FP8 with dummy weights
    localemp bench report fixed.json                                 # the result is one of `localemp bench`

Every prompt has exactly N tokens, random words after the chat template's own, and every reply exactly M. All requests
are there from the start, and the engine has as many in flight as `generate` gives it: twice its batch. Nothing comes
from a prefix cache. `published_throughput.toml` has NVIDIA's figures and their source.

    MFU   the seconds that the run's operations take at the data sheet's matrix rates, as a share of its seconds.
          Products with FP8 weights count at the rate of FP8; attention and the output matrix, which stay in 16 bits,
          at that of bfloat16.
    MBU   the bytes that the run's decode steps must read, as a share of what the data sheet's bandwidth allows in its
          seconds: keys and values of every request, and the weights once a step. Steps are counted with the largest
          batch that the engine can hold, so it is a lower bound; what prompts read is not counted.

Both are of the whole run, which computes prompts and replies together: they are not those of `bench engine`.
"""

import asyncio
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from data_sheets import DataSheet, sheet_of
from script import Script

from localemp.bench.dummy import dummy_config, dummy_notes, dummy_origin
from localemp.bench.engine import check_fits
from localemp.bench.offline import OfflineEngine, Replay, Workload
from localemp.bench.result import Label, Point, Recording, gather
from localemp.bench.roofline.flops import ModelShape, read_shape, why_uncounted
from localemp.bench.roofline.roofline import devices_used
from localemp.cli.bench.options import measured
from localemp.cli.options import parse_engine_args
from localemp.dialogue import Message
from localemp.engines.tokens import PromptTokenizer
from localemp.errors import EngineError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline
from localemp.utils.machine import gpu
from localemp.utils.toml_reader import load_toml

PUBLISHED = Path(__file__).with_name("published_throughput.toml")
PUBLISHED_MODEL = "llama"
ENGINE_ARGS = {"quantization": "fp8", "enable_prefix_caching": False}
_FIRST = "a"  # the first word of a prompt; all others begin with a space, and are one token wherever they stand


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of every prompt and every reply, and the number of requests."""

    prompt: int
    reply: int
    requests: int

    @property
    def labels(self) -> dict[str, Label]:
        """As a point has them."""
        return {"prompt tokens": self.prompt, "reply tokens": self.reply}


@dataclass(frozen=True, slots=True)
class Published:
    """A published figure.

    Attributes:
        engine: The engine with its version.
        reply_tokens_per_s: Output tokens a second of one GPU.
        note: Who measured it and when, and what is not the same.
    """

    engine: str
    reply_tokens_per_s: float
    note: str


def parse_lengths(lengths: str, requests: str) -> list[Lengths]:
    """Read "128/128,2048/128" and the requests of each: "8192,1536", or one number for all.

    Raises:
        click.UsageError: They are not so.
    """
    pairs = [re.fullmatch(r"\s*([1-9]\d{0,5})/([1-9]\d{0,5})\s*", part) for part in lengths.split(",")]
    counts = [re.fullmatch(r"\s*([1-9]\d{0,6})\s*", part) for part in requests.split(",")]
    if None in pairs:
        raise click.UsageError(f"--lengths {lengths}: write PROMPT/REPLY in tokens, such as 128/128,2048/128")
    if None in counts or len(counts) not in (1, len(pairs)):
        raise click.UsageError(f"--requests {requests}: write one number, or one for each of --lengths {lengths}")
    numbers = [int(found[1]) for found in counts if found]
    numbers *= len(pairs) if len(numbers) == 1 else 1
    return [
        Lengths(int(found[1]), int(found[2]), number)
        for found, number in zip(pairs, numbers, strict=True)
        if found is not None
    ]


def exact_prompts(tokenizer: PromptTokenizer, tokens: int, count: int, seed: int) -> list[list[Message]]:
    """Return prompts of random words, each of exactly so many tokens with the chat template.

    Raises:
        click.UsageError: The chat template alone is longer, or the tokenizer does not make one token of a word.
    """
    plain = tokenizer.tokenizer
    words = [word for word in plain.batch_decode([[token] for token in range(len(plain))]) if _is_word(word)]
    shortest = len(tokenizer.encode([Message("user", _FIRST)]))
    if tokens < shortest:
        raise click.UsageError(f"prompts of {tokens} tokens: with the chat template, the shortest has {shortest}")
    if not words:
        raise click.UsageError("the model's tokenizer has no words that begin with a space: take another model")
    draw, free = random.Random(seed), tokens - shortest
    prompts = [[Message("user", _FIRST + "".join(draw.choices(words, k=free)))] for _ in range(count)]
    for prompt in prompts[:8]:  # the engine counts all of them
        if (found := len(tokenizer.encode(prompt))) != tokens:
            raise click.UsageError(f"a prompt of {tokens} tokens came to {found}: take another model, or its dummy")
    return prompts


def _is_word(text: str) -> bool:
    return re.fullmatch(r" [a-z]{3,}", text) is not None


def published(lengths: Lengths, sheet: DataSheet) -> Published | None:
    """Return what was published for these lengths on this GPU; None if nothing was."""
    table, _ = load_toml(PUBLISHED)
    for rate in table["rates"]:
        if (rate["prompt"], rate["reply"]) == (lengths.prompt, lengths.reply) and sheet.name in rate:
            note = (
                f"as published by NVIDIA for {table['engine']} and {table['model']}, {rate['requests']:,} requests "
                f"({table['source']}; {table['date']}): another engine version, another day"
            )
            return Published(table["engine"], float(rate[sheet.name]), note)
    return None


def seconds_of_compute(shape: ModelShape, lengths: Lengths, sheet: DataSheet, *, fp8: bool) -> float:
    """Return the seconds that one request's operations take at the data sheet's rates.

    The model is computed for N prompt tokens and all reply tokens but the last; each reply token takes the logits once.

    Args:
        shape: The model.
        lengths: Of prompt and reply.
        sheet: The GPU.
        fp8: Whether the layers' matrices are multiplied in FP8.
    """
    prompt, further = lengths.prompt, lengths.reply - 1
    operations = prompt * shape.flops_per_token((prompt + 1) / 2, logits=False) + 2 * shape.head
    operations += further * shape.flops_per_token(prompt + lengths.reply / 2)
    matrices = 2 * (shape.matrices + shape.experts_per_token * shape.expert) * (prompt + further)
    if not fp8:
        return operations / sheet.bfloat16
    return matrices / sheet.fp8 + (operations - matrices) / sheet.bfloat16


def bytes_of_decode(shape: ModelShape, lengths: Lengths, batch: float) -> float:
    """Return the bytes that decode steps must read for one request, of a batch of this size."""
    return (lengths.reply - 1) * shape.bytes_per_step(batch, lengths.prompt + lengths.reply / 2) / batch


def largest_batch(lengths: Lengths, most: int, settings: Mapping[str, Any]) -> float:
    """Return how many requests an engine can decode together.

    Args:
        lengths: Of all requests.
        most: The engine's limit.
        settings: Of the started engine; they have the blocks of its KV cache.
    """
    found = float(min(lengths.requests, most))
    if blocks := settings.get("num_gpu_blocks"):
        held = int(blocks) * int(settings["block_size"]) / (lengths.prompt + lengths.reply / 2)
        found = max(1.0, min(found, held))
    return found


def shares(
    shape: ModelShape,
    lengths: Lengths,
    requests_per_s: float,
    sheet: DataSheet,
    *,
    fp8: bool,
    batch: float | None = None,
) -> dict[str, float]:
    """Return MFU, and MBU if the batch is known; of several GPUs `requests_per_s` is that of one."""
    found = {"run_mfu": requests_per_s * seconds_of_compute(shape, lengths, sheet, fp8=fp8)}
    if batch is not None:
        found["run_mbu"] = requests_per_s * bytes_of_decode(shape, lengths, batch) / sheet.bandwidth
    return found


def rates(replay: Replay, lengths: Lengths) -> dict[str, float]:
    """Return the rates of a run.

    Raises:
        EngineError: A prompt or a reply had another length.
    """
    wanted = lengths.requests * lengths.prompt, lengths.requests * lengths.reply
    if (replay.prompt_tokens, replay.completion_tokens) != wanted:
        raise EngineError(
            f"{replay.prompt_tokens:,} tokens of prompts and {replay.completion_tokens:,} of replies, "
            f"not {wanted[0]:,} and {wanted[1]:,}"
        )
    return {
        "requests_per_s": lengths.requests / replay.seconds,
        "reply_tokens_per_s": replay.completion_tokens / replay.seconds,
        "prompt_tokens_per_s": replay.prompt_tokens / replay.seconds,
        "prefix_hits": replay.cached_tokens / replay.prompt_tokens,
        "seconds": replay.seconds,
    }


def points_of(
    lengths: Lengths,
    runs: Sequence[dict[str, float]],
    folder: Path,
    engine_args: Mapping[str, Any],
    *,
    batch: float,
    sheet: DataSheet | None,
    compared: bool,
) -> list[Point]:
    """Return the point of what was measured, and that of what was published.

    Args:
        lengths: Of all requests.
        runs: What was measured, one for each repeat.
        folder: The model's.
        engine_args: The engine's.
        batch: As many requests were decoded together, at most.
        sheet: The data sheet of the GPU; None if it is not known.
        compared: Whether published figures are of this model.
    """
    note = f"{lengths.requests:,} requests, at most {batch:,.0f} of them in a batch"
    ours: dict[str, Label] = {"engine": "localemp", **lengths.labels}
    shape = read_shape(folder, engine_args)
    if shape is None or sheet is None:
        why = why_uncounted(folder, engine_args) if shape is None else "the data sheet of this device is not known"
        return [gather("fixed lengths", ours, runs, f"{note}; no MFU and MBU: {why}")]
    fp8, devices = "fp8" in str(engine_args.get("quantization")).split("_"), max(1, devices_used(engine_args))
    known = published(lengths, sheet) if compared else None
    compared_runs = []
    for run in runs:
        rate = run["requests_per_s"] / devices
        found = run | shares(shape, lengths, rate, sheet, fp8=fp8, batch=batch / devices)
        if known is not None:
            found["of_published"] = run["reply_tokens_per_s"] / devices / known.reply_tokens_per_s
        compared_runs.append(found)
    points = [gather("fixed lengths", ours, compared_runs, note)]
    if known is not None:
        rate = known.reply_tokens_per_s / lengths.reply
        their = {"requests_per_s": rate, "reply_tokens_per_s": known.reply_tokens_per_s}
        their |= shares(shape, lengths, rate, sheet, fp8=True)
        labels: dict[str, Label] = {"engine": f"{known.engine}, published", **lengths.labels}
        points.append(gather("fixed lengths", labels, [their], known.note))
    return points


async def measure(
    pipeline: Pipeline,
    recording: Recording,
    chosen: Sequence[Lengths],
    repeats: int,
    sheet: DataSheet | None,
    *,
    compared: bool,
) -> None:
    """Measure all lengths on one engine; every point is recorded immediately."""
    context = max(lengths.prompt + lengths.reply for lengths in chosen)
    workload = Workload(pipeline, [], context, 0, 0, 0)
    engine = OfflineEngine([workload])
    check_fits([workload], engine)
    prompts = [exact_prompts(pipeline.tokenizer, each.prompt, each.requests, pipeline.config.seed) for each in chosen]
    async with engine:
        recording.result.settings["engine"] = engine.describe()
        args, settings = engine.engine.engine_args, engine.engine.effective_settings()
        most = min(engine.engine.concurrency, engine.engine.max_num_seqs)
        for lengths, sent in zip(chosen, prompts, strict=True):
            await engine.replay(sent[: 1 + len(sent) // 8], lengths.reply)  # a warm-up
            runs = [rates(await engine.replay(sent, lengths.reply), lengths) for _ in range(repeats)]
            batch = largest_batch(lengths, most, settings)
            folder = pipeline.weights.folder
            for point in points_of(lengths, runs, folder, args, batch=batch, sheet=sheet, compared=compared):
                recording.add(point)


def settings_of(pipeline: Pipeline, chosen: Sequence[Lengths], repeats: int, sheet: DataSheet | None) -> dict[str, Any]:
    """Return everything that can change the values."""
    config = pipeline.config
    said: Mapping[str, Any] = {} if sheet is None else {"data_sheet": sheet.name}
    return {
        "model": pipeline.profile.name,
        "weights_origin": dummy_origin(config) or pipeline.weights.origin,
        "engine_args": dict(config.engine_args),
        "lengths": [f"{each.prompt}/{each.reply}" for each in chosen],
        "requests": [each.requests for each in chosen],
        "repeats": repeats,
        "seed": config.seed,
        **said,
    }


@click.command(cls=Script)
@click.option(
    "--model", default=PUBLISHED_MODEL, show_default=True, help="A model, or a config.json with dummy weights."
)
@click.option("--load-format", type=click.Choice(["auto", "dummy"]), default="dummy", show_default=True)
@click.option("--lengths", default="128/128,2048/128", show_default=True, help="Tokens of prompts and replies.")
@click.option("--requests", default="8192,1536", show_default=True, help="Of each, or of all.")
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--engine-arg",
    "engine_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="Besides quantization=fp8, or in its place.",
)
@click.option("--out", type=click.Path(path_type=Path), default="bench/fixed-lengths.json", show_default=True)
def main(
    model: str, load_format: str, lengths: str, requests: str, repeats: int, engine_args: tuple[str, ...], out: Path
) -> None:
    """Measure fixed lengths."""
    config = RunConfig(model=model, engine_args={**ENGINE_ARGS, **parse_engine_args(engine_args)})
    with tempfile.TemporaryDirectory() as folder:
        config = dummy_config(config, Path(folder)) if load_format == "dummy" else config
        chosen, pipeline, sheet = parse_lengths(lengths, requests), Pipeline(config), sheet_of(gpu())
        settings = settings_of(pipeline, chosen, repeats, sheet)
        title = f"{pipeline.profile.name}, fixed lengths"
        recording = Recording(out, "engine", title, settings, dummy=load_format == "dummy")
        recording.result.notes += dummy_notes(config)
        with measured(recording):
            asyncio.run(measure(pipeline, recording, chosen, repeats, sheet, compared=model == PUBLISHED_MODEL))


# vLLM's processes import this module again when they are spawned.
if __name__ == "__main__":
    main()

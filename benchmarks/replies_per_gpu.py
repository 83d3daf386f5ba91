"""Replies a second of one GPU, by strategy: computed from a model's sizes and a data sheet's peaks, not measured.

    localemp generate --strategy S ... --estimate --json > S.json        # for each strategy: prompt and cached tokens
    python benchmarks/replies_per_gpu.py *.json --shape models/shapes/llama.json

A dialogue takes the computing of its prompt tokens that are not in the prefix cache, and its part of decode steps. A
step reads the weights once for the batch, and each request's keys and values. One share of the peaks counts for all
strategies: the one that makes zero-shot's reply tokens a second what `--zero-shot-tokens` says.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import click
from data_sheets import SHEETS
from script import Script

from localemp.bench.roofline.flops import ModelShape

LLAMA = Path(__file__).parents[1] / "models" / "shapes" / "llama.json"
AT_ONCE = 1024  # vLLM's batch on GPUs of this size
MEMORY = 0.92  # vLLM's share of the memory, of which activations and graphs take a twentieth


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What one dialogue of a strategy takes on average.

    Attributes:
        strategy: Its name.
        calls: Requests.
        prompt, cached: Prompt tokens of all requests, and how many of them the prefix cache holds.
        reply: Reply tokens of all requests.
    """

    strategy: str
    calls: float
    prompt: float
    cached: float
    reply: float

    @classmethod
    def read(cls, path: Path, reply_tokens: float) -> "Dialogue":
        """Read what `generate --estimate --json` has written; every request is answered by `reply_tokens` tokens."""
        row = json.loads(path.read_text("utf-8"))["total"]
        count, calls = row["dialogues"], row["calls"]
        return cls(
            row["strategy"],
            calls / count,
            row["prompt_tokens"] / count,
            row["cached_tokens"] / count,
            reply_tokens * calls / count,
        )

    def seconds(self, shape: ModelShape, gpu: str, share: float, count: int = 1) -> tuple[float, float]:
        """Seconds for prompts and for replies, at a share of the peaks of so many GPUs, without what they exchange."""
        sheet = SHEETS[gpu]
        computed, copied = share * count * sheet.bfloat16, share * count * sheet.bandwidth
        prompt, cached, reply = (tokens / self.calls for tokens in (self.prompt, self.cached, self.reply))
        free = MEMORY * count * sheet.memory * 0.95 - shape.weight_bytes
        batch = min(AT_ONCE, free / (shape.kv_bytes_per_token * (prompt + reply)))
        context = prompt + reply / 2
        step = shape.bytes_per_step(batch, context) / copied + batch * shape.flops_per_token(context) / computed
        attended = (prompt + cached) / 2
        prefill = (self.prompt - self.cached) * shape.flops_per_token(attended, logits=False) / computed
        return prefill, self.reply * step / batch


def share_of(zero_shot: Dialogue, shape: ModelShape, gpu: str, tokens_per_s: float) -> float:
    """The share of the peaks at which zero-shot makes this many reply tokens a second."""
    return sum(zero_shot.seconds(shape, gpu, 1.0)) * tokens_per_s / zero_shot.reply


@click.command(cls=Script)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--shape", "config", type=click.Path(exists=True, path_type=Path), default=LLAMA)
@click.option("--gpu", type=click.Choice(list(SHEETS)), default="H100", show_default=True)
@click.option("--gpus", default=1, show_default=True, help="That share the model.")
@click.option("--reply-tokens", default=64.0, show_default=True, help="Of every request.")
@click.option("--zero-shot-tokens", default=12_500.0, show_default=True, help="Reply tokens a second on an H100.")
def main(
    files: tuple[Path, ...], config: Path, gpu: str, gpus: int, reply_tokens: float, zero_shot_tokens: float
) -> None:
    """Print a table of Markdown with a row for each estimate; one of them is zero-shot's."""
    shape = ModelShape.from_config(json.loads(config.read_text("utf-8")))
    dialogues = [Dialogue.read(path, reply_tokens) for path in files]
    zero_shot = next((each for each in dialogues if each.strategy == "zero-shot"), None)
    if zero_shot is None:
        raise click.UsageError("one of the files is of zero-shot, from which the share of the peaks comes")
    # Of the 8B model with 64 tokens a reply, whatever is asked for.
    known = Dialogue.read(next(path for path, each in zip(files, dialogues, strict=True) if each is zero_shot), 64)
    share = share_of(known, ModelShape.from_config(json.loads(LLAMA.read_text("utf-8"))), "H100", zero_shot_tokens)
    click.echo(f"{gpus} x {gpu}, at {share:.0%} of the peaks, {reply_tokens:g} tokens a reply\n")
    click.echo(
        "| strategy | requests | prompt tokens | of them cached | prompts' share of the time | r | of zero-shot's |"
    )
    click.echo("|---|---|---|---|---|---|---|")
    base = sum(zero_shot.seconds(shape, gpu, share, gpus))
    for each in dialogues:
        prefill, decode = each.seconds(shape, gpu, share, gpus)
        took = prefill + decode
        click.echo(
            f"| {each.strategy} | {each.calls:.0f} | {each.prompt:,.0f} | {each.cached / each.prompt:.0%} "
            f"| {prefill / took:.0%} | {1 / took:.0f} | {base / took:.2f} |"
        )


if __name__ == "__main__":
    main()

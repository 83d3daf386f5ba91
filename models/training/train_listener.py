"""Trains the listener: a LoRA adapter that makes SmolLM2 135M answer our prompts as a small listener would.

    pip install 'localemp[cpu,listener]'
    python models/training/train_listener.py --work /tmp/listener

It learns from dialogues that were written for localemp (prompts/dialogues/train.jsonl, situations.jsonl), in the
prompts of every strategy. Stopped at any moment, it goes on where it was. `--data empathetic-dialogues` trains on that
data instead; an adapter trained so is not ours to ship.
"""

import csv
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from listener_examples import Example, read_dialogues, run
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import AutoModelForCausalLM

from localemp.models.profiles import Profile
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline

SAVE_EVERY = 120  # seconds
WARM_UP = 10  # steps


def batches(examples: Sequence[Example], tokens: int, rng: random.Random) -> list[list[Example]]:
    """Return batches of like lengths, at most `tokens` with their padding, in random order."""
    found: list[list[Example]] = []
    batch: list[Example] = []
    for example in sorted(examples, key=lambda each: (len(each.ids), rng.random())):
        if batch and len(example.ids) * (len(batch) + 1) > tokens:
            found.append(batch)
            batch = []
        batch.append(example)
    found.append(batch)
    rng.shuffle(found)
    return found


def loss_of(model: Any, batch: Sequence[Example]) -> tuple[torch.Tensor, float]:
    """Return the weighted sum of cross entropies over all answers of a batch, and the sum of the weights."""
    longest = max(len(example.ids) for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    weights, mask = torch.zeros(len(batch), longest), torch.zeros(len(batch), longest, dtype=torch.long)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        weights[row, : len(example.ids)] = torch.tensor(example.weights)
        mask[row, : len(example.ids)] = 1
    inner = model.base_model.model
    hidden = inner.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
    wanted = weights[:, 1:] > 0
    scores = inner.lm_head(hidden[wanted]).float()  # only where an answer is: the vocabulary is a third of the work
    losses = torch.nn.functional.cross_entropy(scores, ids[:, 1:][wanted], reduction="none")
    return (losses * weights[:, 1:][wanted]).sum(), float(weights[:, 1:].sum())


@click.command()
@click.option("--model", default="smollm2-plain", show_default=True, help="The model that is adapted.")
@click.option("--data", default=None, help="Train on this data's training split instead of our dialogues.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Checkpoint, log and result.")
@click.option("--passes", "rounds", default=1, show_default=True)
@click.option("--rank", default=16, show_default=True)
@click.option("--rate", default=5e-4, show_default=True, help="Peak learning rate.")
@click.option("--tokens", default=2048, show_default=True, help="Tokens of a batch, with padding.")
@click.option("--accumulate", default=3, show_default=True, help="Batches of a step.")
@click.option("--label-weight", default=4.0, show_default=True, help="Weight of an emotion's name in stage 1.")
@click.option("--encoder", default="all-minilm-l6-v2", show_default=True, help="Encoder of `similar`.")
@click.option("--seed", default=0, show_default=True)
def main(
    model: str,
    data: str | None,
    work: Path,
    rounds: int,
    rank: int,
    rate: float,
    tokens: int,
    accumulate: int,
    label_weight: float,
    encoder: str,
    seed: int,
) -> None:
    """Train the listener's adapter."""
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline(RunConfig(model=model, data="bundled", encoder=encoder))
    dialogues = read_dialogues(data)
    plan: list[list[Example]] = []
    for number in range(rounds):
        seen = run(pipeline, dialogues, number, seed, label_weight)
        plan += batches(seen, tokens, random.Random(f"{seed}-{number}"))
        click.echo(f"pass {number + 1}: {len(seen)} prompts, {sum(len(each.ids) for each in seen)} tokens")
    steps = -(-len(plan) // accumulate)
    whole = AutoModelForCausalLM.from_pretrained(pipeline.weights.folder, dtype=torch.bfloat16)
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted: Any = get_peft_model(whole, settings)
    learnt = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(0.05, 1 - step / steps))
    )
    begin = _load(work, adapted, optimizer, schedule)
    started = saved = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar, (work / "log.csv").open("a", newline="") as file:
        log, task = csv.writer(file), bar.add_task("training", total=steps, completed=begin)
        for step in range(begin, steps):
            group = plan[step * accumulate : (step + 1) * accumulate]
            weight = sum(sum(example.weights) for batch in group for example in batch)
            total = 0.0
            for batch in group:
                loss, _ = loss_of(adapted, batch)
                (loss / weight).backward()
                total += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            log.writerow([step, f"{total / weight:.4f}", f"{time.monotonic() - started:.0f}"])
            file.flush()
            bar.update(task, advance=1, description=f"loss {total / weight:.3f}")
            if step + 1 == steps or time.monotonic() - saved > SAVE_EVERY:
                saved = time.monotonic()
                _save(work, adapted, optimizer, schedule, step + 1)
    # A folder of this machine means nothing elsewhere.
    adapted.peft_config["default"].base_model_name_or_path = _base(pipeline.profile)
    adapted.to(torch.bfloat16).save_pretrained(work / "adapter")
    click.echo(f"written: {work / 'adapter'}")


def _base(profile: Profile) -> str:
    return profile.hub.id if profile.hub else profile.name


def _save(work: Path, adapted: Any, optimizer: Any, schedule: Any, step: int) -> None:
    state = {"adapter": get_peft_model_state_dict(adapted), "optimizer": optimizer.state_dict()}
    state |= {"schedule": schedule.state_dict(), "step": step}
    torch.save(state, work / "checkpoint.part")
    (work / "checkpoint.part").replace(work / "checkpoint.pt")


def _load(work: Path, adapted: Any, optimizer: Any, schedule: Any) -> int:
    """Load the checkpoint, if there is one; return the number of steps taken."""
    if not (work / "checkpoint.pt").exists():
        return 0
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    set_peft_model_state_dict(adapted, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"])


if __name__ == "__main__":
    main()

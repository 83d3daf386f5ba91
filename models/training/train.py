"""Trains comet-mini, the small COMET that ships with localemp. Stopped at any moment, it goes on where it was.

    python models/training/train.py --data ../shared/data --work /tmp/comet-mini --epochs 4

What makes it fit two CPU cores: the encoder reads an event once for all its tails, the decoder gets tails of like
lengths together, and scores over the vocabulary are computed at target positions alone. A GPU takes minutes.
"""

import csv
import gzip
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from architecture import make_model, make_tokenizer
from events import (
    HELD_OUT_EVENTS,
    PERSONS,
    RELATIONS,
    Tails,
    Visit,
    evaluation_heads,
    first_person,
    read_events,
    visits,
)
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn.utils.rnn import pad_sequence
from transformers import BartForConditionalGeneration, PreTrainedTokenizerFast

from localemp.models.profiles import load_profile
from localemp.models.weights import resolve

LONGEST_TAIL = 16  # tokens
DECODER_GROUPS = 4  # of like lengths in one step
SAVE_EVERY = 300  # seconds
AVERAGE = 0.998  # of the moving average of weights, which is what is kept


class Batches:
    """Visits as tensors."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: random.Random, device: torch.device) -> None:
        self.tokenizer, self.rng, self.device = tokenizer, rng, device
        self.start, self.end = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.tails: dict[str, list[int]] = {}

    def encoder(self, some: Sequence[Visit], first: bool | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, both (visits, tokens); each event in one of its two forms, by chance unless `first` says."""
        told = [
            first_person(visit.event, self.rng)
            if (self.rng.random() < 0.5 if first is None else first)
            else visit.event
            for visit in some
        ]
        rows = [torch.tensor(ids[:64]) for ids in self.tokenizer(told)["input_ids"]]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return ids.to(self.device), (ids != self.tokenizer.pad_token_id).long().to(self.device)

    def decoder(self, some: Sequence[Visit]) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Groups of like lengths: row of each target in the encoder's batch, input ids, and labels (-100: none)."""
        targets = [
            (row, [self.start, self.tokenizer.convert_tokens_to_ids(f"[{relation}]"), *self._tail(tail), self.end])
            for row, visit in enumerate(some)
            for relation, tail in visit.tails
        ]
        targets.sort(key=lambda target: len(target[1]))
        size = -(-len(targets) // DECODER_GROUPS)
        groups = []
        for begin in range(0, len(targets), size):
            group = targets[begin : begin + size]
            ids = pad_sequence([torch.tensor(ids) for _, ids in group], batch_first=True, padding_value=-100)
            labels = ids[:, 1:].clone()
            labels[:, 0] = -100  # the relation is given, not foretold
            inputs = ids[:, :-1].masked_fill(ids[:, :-1] == -100, self.tokenizer.pad_token_id)
            rows = torch.tensor([row for row, _ in group])
            groups.append((rows.to(self.device), inputs.to(self.device), labels.to(self.device)))
        return groups

    def _tail(self, tail: str) -> list[int]:
        if tail not in self.tails:
            self.tails[tail] = self.tokenizer(tail, add_special_tokens=False)["input_ids"][:LONGEST_TAIL]
        return self.tails[tail]


def loss_of(model: BartForConditionalGeneration, batches: Batches, some: Sequence[Visit]) -> tuple[torch.Tensor, int]:
    """Summed cross entropy of all tails of the visits, and the number of tokens that it is over."""
    ids, mask = batches.encoder(some)
    states = model.model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    total, count = torch.zeros((), device=ids.device), 0
    for rows, inputs, labels in batches.decoder(some):
        hidden = model.model.decoder(
            input_ids=inputs, encoder_hidden_states=states[rows], encoder_attention_mask=mask[rows], use_cache=False
        ).last_hidden_state
        wanted = labels != -100
        scores = torch.nn.functional.linear(hidden[wanted], model.model.shared.weight)
        total = total + torch.nn.functional.cross_entropy(scores.float(), labels[wanted], reduction="sum")
        count += int(wanted.sum())
    return total, count


def steps(events: dict[str, Tails], epochs: int, targets: int, seed: int) -> list[list[Visit]]:
    """All batches of the training, the same for the same seed: each of about `targets` tails."""
    rng, found = random.Random(seed), []
    for _ in range(epochs):
        batch: list[Visit] = []
        size = 0
        for visit in visits(events, rng):
            batch.append(visit)
            size += len(visit.tails)
            if size >= targets:
                found.append(batch)
                batch, size = [], 0
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with atomic/ and comet_bart/.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Checkpoint, log and result.")
@click.option("--encoder", default="all-minilm-l6-v2", show_default=True, help="What the encoder begins as.")
@click.option("--epochs", default=4, show_default=True)
@click.option("--targets", default=512, show_default=True, help="Tails in a step.")
@click.option(
    "--rate", default=5e-4, show_default=True, help="Peak learning rate of the decoder; the encoder has a fifth."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--minutes", default=0.0, help="Stop after so many, to go on later.")
def main(
    data: Path, work: Path, encoder: str, epochs: int, targets: int, rate: float, seed: int, minutes: float
) -> None:
    """Train comet-mini from ATOMIC v4 and Event2Mind."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work.mkdir(parents=True, exist_ok=True)
    events = read_events(data / "atomic", evaluation_heads(data))
    held_out = set(random.Random(seed).sample(sorted(events), HELD_OUT_EVENTS))
    learnt = {event: tails for event, tails in events.items() if event not in held_out}
    check = visits({event: events[event] for event in sorted(held_out)}, random.Random(seed))
    minilm = resolve(load_profile(encoder, "encoder")).folder
    tokenizer = make_tokenizer(minilm, _learnt_texts(events), _talk(data), PERSONS, RELATIONS)
    model = make_model(minilm, tokenizer).to(device)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    known, rest = _split(model)
    optimizer = torch.optim.AdamW(
        [{"params": known, "lr": rate / 5}, {"params": rest, "lr": rate}],
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    plan = steps(learnt, epochs, targets, seed)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 200, max(0.02, 1 - step / len(plan)))
    )
    begin = _load(work, model, average, optimizer, schedule)
    tails = sum(len(texts) for found in learnt.values() for texts in found.values())
    click.echo(
        f"{len(learnt)} events, {tails} tails, {len(tokenizer)} tokens, "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {len(plan)} steps, from step {begin}"
    )
    started = saved = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar, (work / "log.csv").open("a", newline="") as file:
        log, task = csv.writer(file), bar.add_task("training", total=len(plan), completed=begin)
        for number in range(begin, len(plan)):
            batches = Batches(tokenizer, random.Random(f"{seed}-{number}"), device)
            model.train()
            with torch.autocast(device.type, dtype=torch.bfloat16):
                total, count = loss_of(model, batches, plan[number])
            (total / count).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    average[name].lerp_(value, 1 - min(AVERAGE, (number + 1) / (number + 10)))
            log.writerow([number, f"{float(total.detach()) / count:.4f}", f"{time.monotonic() - started:.0f}"])
            bar.update(task, advance=1, description=f"loss {float(total.detach()) / count:.3f}")
            last = number + 1 == len(plan) or (minutes and time.monotonic() - started > 60 * minutes)
            if last or time.monotonic() - saved > SAVE_EVERY:
                _save(work, model, average, optimizer, schedule, number + 1)
                saved = time.monotonic()
                held = _held_out(model, average, tokenizer, check, device)
                bar.console.print(f"step {number + 1}: loss on held-out events {held:.4f}, {saved - started:.0f} s")
                log.writerow([number, "held-out", f"{held:.4f}"])
                file.flush()
            if last:
                break
    _export(model, average, tokenizer, work / "comet-mini")
    click.echo(f"written: {work / 'comet-mini'}")


def _split(model: BartForConditionalGeneration) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """What MiniLM brought, and what must be learnt."""
    encoder = [*model.model.encoder.layers.parameters(), model.model.shared.weight]
    known = {id(parameter) for parameter in encoder}
    return encoder, [parameter for parameter in model.parameters() if id(parameter) not in known]


def _learnt_texts(events: dict[str, Tails]) -> Iterator[str]:
    """Events in both forms, and tails."""
    rng = random.Random(0)
    for event, tails in events.items():
        yield from (event, *(first_person(event, rng) for _ in range(3)))
        yield from (tail for some in tails.values() for tail in some)


def _talk(data: Path) -> Iterator[str]:
    """How people talk, for the vocabulary alone."""
    with gzip.open(data / "empathetic_dialogues" / "train.csv.gz", "rt", encoding="utf-8", newline="") as file:
        yield from (row["utterance"].replace("_comma_", ",") for row in csv.DictReader(file))


def _held_out(
    model: BartForConditionalGeneration,
    average: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerFast,
    check: list[Visit],
    device: torch.device,
) -> float:
    """Loss per token of the averaged weights."""
    current = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average)
    model.eval()
    batches, total, count = Batches(tokenizer, random.Random(0), device), 0.0, 0
    for begin in range(0, len(check), 128):
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            loss, tokens = loss_of(model, batches, check[begin : begin + 128])
        total, count = total + float(loss), count + tokens
    model.load_state_dict(current)
    return total / count


def _save(work: Path, model: Any, average: Any, optimizer: Any, schedule: Any, step: int) -> None:
    state = {"model": model.state_dict(), "average": average, "optimizer": optimizer.state_dict()}
    torch.save(state | {"schedule": schedule.state_dict(), "step": step}, work / "checkpoint.tmp")
    (work / "checkpoint.tmp").replace(work / "checkpoint.pt")


def _load(work: Path, model: Any, average: dict[str, torch.Tensor], optimizer: Any, schedule: Any) -> int:
    if not (work / "checkpoint.pt").exists():
        return 0
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    average.update(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"])


def _export(
    model: BartForConditionalGeneration, average: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerFast, out: Path
) -> None:
    """The averaged weights in float16, as transformers saves a checkpoint."""
    model.load_state_dict(average)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()

"""What the listener learns from: dialogues in the prompts of every strategy, with the answers that a person gives."""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localemp.data.jsonl import read_jsonl
from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue, Message
from localemp.engines.base import Completion, Engine
from localemp.engines.tokens import PromptTokenizer
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import draft_all
from localemp.pipeline.pipeline import Pipeline
from localemp.sampling import Sampling
from localemp.utils.paths import resource

SITUATIONS = Path(__file__).with_name("situations.jsonl")
LONGEST_REPLY = 24  # words; people's replies are short

Choice = tuple[int, str, Mapping[str, Any]]

# The strategies of a pass: each dialogue is seen once by one of either list, chosen by weight.
REPLY: tuple[Choice, ...] = (
    (3, "zero-shot", {}),
    (1, "few-shot", {"shots": 1}),
    (1, "few-shot", {"shots": 2}),
    (1, "few-shot", {"shots": 5}),
    (1, "similar", {"shots": 1}),
    (1, "similar", {"shots": 2}),
    (2, "similar", {"shots": 5}),
    (3, "knowledge", {}),
    (1, "zero-shot", {"variant": "released"}),
    (1, "similar", {"shots": 2, "variant": "released"}),
)
STAGES: tuple[Choice, ...] = (
    (6, "two-stage", {}),
    (2, "two-stage", {"list_labels": True}),
    (1, "two-stage", {"given": ("emotion",)}),
    (1, "two-stage", {"given": ("situation",)}),
    (1, "two-stage", {"variant": "released"}),
    (1, "similar+two-stage", {"shots": 2}),
    (1, "knowledge+two-stage", {}),
)


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with its answers, as token ids.

    Attributes:
        name: Dialogue and strategy, for errors.
        ids: The tokens.
        weights: The weight of predicting each token; 0 for those of the prompt.
    """

    name: str
    ids: tuple[int, ...]
    weights: tuple[float, ...]


class Told(Engine):
    """An engine that gives one answer, and keeps what it was asked."""

    name = "told"

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: Sequence[Message] = ()

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Return the answer."""
        self.asked = messages
        return Completion(self.answer, "stop")

    def describe(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


def feeling(dialogue: Dialogue, given: Sequence[str] = ()) -> str:
    """Return the answer to stage 1, label first; only what is not given."""
    parts = []
    if "emotion" not in given:
        parts.append(f"The user's emotion may be {dialogue.emotion}.")
    if "situation" not in given:
        parts.append(f"The situation may be: {dialogue.situation}")
    return " ".join(parts)


def read_dialogues(source: str | None) -> list[Dialogue]:
    """Return the bundled dialogues and the situations, or those of another source's training split."""
    if source is not None:
        return [each for each in load_dialogues(source, "train", "clean") if each.reference]
    return [*read_jsonl(resource("prompts", "dialogues", "train.jsonl")), *read_jsonl(SITUATIONS)]


def shown(dialogues: Sequence[Dialogue], number: int, seed: int) -> list[tuple[Choice, list[Dialogue]]]:
    """Return the strategies of a pass, each with its dialogues.

    A complete dialogue is shown by a strategy of either list; one of a single turn, which mostly tells feelings apart,
    by one strategy, more often with two stages.
    """
    rng = random.Random(f"{seed}-{number}")
    chosen: dict[int, tuple[Choice, list[Dialogue]]] = {}
    for dialogue in dialogues:
        lists = [REPLY, STAGES]
        if dialogue.id.startswith("situation-"):
            lists = rng.choices(lists, [1, 2])
        for choices in lists:
            choice = rng.choices(choices, [weight for weight, *_ in choices])[0]
            chosen.setdefault(id(choice), (choice, []))[1].append(dialogue)
    return list(chosen.values())


async def examples(
    base: Pipeline, dialogues: Sequence[Dialogue], number: int, seed: int, label_weight: float
) -> list[Example]:
    """Return the examples of a pass, in no particular order.

    Args:
        base: Gives the tokenizer, and whatever strategies share.
        dialogues: The dialogues.
        number: Number of the pass.
        seed: Seed of all choices.
        label_weight: Weight of the tokens of an emotion's name in stage 1.
    """
    found = []
    for (_, strategy, options), some in shown(dialogues, number, seed):
        shared = {"model": base.config.model, "encoder": base.config.encoder, "data": "bundled", "seed": seed + number}
        made = base.sharing(RunConfig(**shared, strategy=strategy, **options)).strategy
        for draft in await draft_all(made, some):
            dialogue = draft.dialogue
            assert dialogue.reference is not None
            first, last = Told(feeling(dialogue, options.get("given", ()))), Told(dialogue.reference)
            await made.respond(draft, first, last)
            replies = [*dialogue.turns[1::2], last.answer]
            learnt = {first.answer, *(text for text in replies if len(text.split()) <= LONGEST_REPLY)}
            asked = [told for told in (first, last) if told.asked]
            if len(asked) == 2 and any(message.content == first.answer for message in last.asked):
                asked = [last]  # its prompt has both answers
            for told in asked:
                messages = [*told.asked, Message("assistant", told.answer)]
                name = f"{dialogue.id}, {strategy}"
                example = tokenized(name, messages, learnt, base.tokenizer, dialogue.emotion, label_weight)
                found += [example] if any(example.weights) else []
    return found


def tokenized(
    name: str,
    messages: Sequence[Message],
    learnt: Collection[str],
    tokenizer: PromptTokenizer,
    emotion: str | None,
    label_weight: float,
) -> Example:
    """Return a conversation as tokens, with weights on the assistant's messages that are to be learnt, and their ends.

    Raises:
        ValueError: The chat template does not render a conversation as a continuation of its beginning.
    """
    ids: list[int] = []
    weights: list[float] = []
    label = tokenizer.tokenizer(f" {emotion}", add_special_tokens=False)["input_ids"] if emotion else []
    for number, message in enumerate(messages):
        if message.role != "assistant" or message.content not in learnt:
            continue
        prompt = tokenizer.ids(tokenizer.render(messages[:number]))
        answer = tokenizer.tokenizer(message.content, add_special_tokens=False)["input_ids"]
        if prompt[: len(ids)] != ids:
            raise ValueError(f"{name}: the chat template changes the beginning of a conversation that goes on")
        weights += [0.0] * (len(prompt) - len(ids))
        marks = [1.0] * len(answer)
        if message.content.startswith("The user's emotion may be "):
            at = next(i for i in range(len(answer)) if answer[i : i + len(label)] == label)
            marks[at : at + len(label)] = [label_weight] * len(label)
        ids = [*prompt, *answer, tokenizer.tokenizer.eos_token_id]
        weights += [*marks, 1.0]
    return Example(name, tuple(ids), tuple(weights))


def run(base: Pipeline, dialogues: Sequence[Dialogue], number: int, seed: int, label_weight: float) -> list[Example]:
    """Return what `examples` returns, from a program without an event loop."""
    return asyncio.run(examples(base, dialogues, number, seed, label_weight))

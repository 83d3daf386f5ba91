"""A small study whose systems are known to the test."""

from pathlib import Path

from localemp.studies.schema import Aspect, Item, Key, Kind, Reply
from localemp.studies.study import Study

ASPECTS = ("Empathy", "Coherence", "Informativity")


def small_study(
    folder: Path,
    kind: Kind = "ab",
    items: int = 6,
    systems: tuple[str, ...] = ("plain", "twostage"),
    seed: int = 0,
    aspects: tuple[str, ...] = ASPECTS,
) -> Study:
    """A study of made-up dialogues; the reply key "k3-1" is that of item 3, system 1."""
    made, names, dialogues = [], {}, {}
    for number in range(items):
        keys = [f"k{number}-{position}" for position in range(len(systems))]
        names |= dict(zip(keys, systems, strict=True))
        item = f"i{number}"
        dialogues[item] = f"d{number}"
        replies = tuple(Reply(key=key, text=f"Reply {place} to {number}.") for place, key in enumerate(keys))
        made.append(Item(id=item, turns=(f"I lost my job, for the {number}th time.",), replies=replies))
    return Study.write(
        folder,
        made,
        Key(systems=names, dialogues=dialogues, sources={system: {"file": "test"} for system in systems}),
        kind=kind,
        title="A small study",
        instructions="Judge the replies.",
        question="Which reply is better?" if kind == "ab" else "How good is the reply?",
        aspects=tuple(Aspect(name=name, about=f"What {name} means.") for name in aspects),
        scale=None if kind == "ab" else (1, 5),
        scale_words=None if kind == "ab" else ("not at all", "fully"),
        seed=seed,
        shuffle=f"shuffle {seed}",
        created="2026-11-23 00:00:00 UTC",
        versions={"localemp": "0.1.0"},
    )

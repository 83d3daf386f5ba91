"""The items of two systems that can be compared: answered by both, and the same dialogue in both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from localemp.errors import OptionError
from localemp.metrics.replies import Replies, Reply

FEW_ITEMS = 30
ONE_DIALOGUE = "one dialogue says nothing about chance"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two systems on the dialogues that both answered, in the order of their ids.

    Attributes:
        a: The first system.
        b: The second.
        notes: What a reader needs to know about the selection.
    """

    a: Replies
    b: Replies
    notes: tuple[str, ...] = ()


def pair(a: Replies, b: Replies) -> Pair:
    """Return the comparable items of two systems: the same id, and the same dialogue as far as both have it.

    Raises:
        OptionError: There is none; the message shows some ids.
    """
    ours, theirs = ({item.id: item for item in system.items} for system in (a, b))
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        seen = "; ".join(f"{system.name} has {sample_ids(system.ids)}" for system in (a, b))
        raise OptionError(f"no dialogue is in both: {seen}", "compare runs of the same data, split and instances")
    kept = [name for name in common if same_dialogue(ours[name], theirs[name])]
    if not kept:
        raise OptionError(
            f"the {len(common):,} ids that {a.name} and {b.name} share belong to different dialogues",
            "compare runs of the same data, split and instances",
        )
    notes = []
    if len(common) < max(len(ours), len(theirs)):
        notes.append(f"on the {len(common):,} dialogues that are in both, of {len(ours):,} and {len(theirs):,}")
    if other := len(common) - len(kept):
        notes.append(f"{other:,} of them left out: the same id, but another dialogue or reference")
    if len(kept) < FEW_ITEMS:
        notes.append(f"fewer than {FEW_ITEMS} dialogues: the intervals are rough, and rather too narrow")
    first, second = (replace(s, items=tuple(of[name] for name in kept)) for s, of in ((a, ours), (b, theirs)))
    if first.texts == second.texts:
        notes.append("both gave the same reply everywhere")
    return Pair(first, second, tuple(notes))


def same_dialogue(one: Reply, other: Reply) -> bool:
    """Return whether known turns and references are equal apart from spacing, case and punctuation."""
    told = ((one.turns, other.turns), ((one.reference or "",), (other.reference or "",)))
    return all(left == right or _bare(left) == _bare(right) for left, right in told if any(left) and any(right))


def _bare(texts: Iterable[str]) -> str:
    return "".join(sign for sign in "".join(texts).casefold() if sign.isalnum())


def sample_ids(ids: Sequence[str]) -> str:
    """Return the number of ids and some of them, for messages."""
    if not ids:
        return "no replies"
    shown = ", ".join(repr(name) for name in ids[:2])
    return f"{len(ids):,} ids such as {shown}" if len(ids) > 2 else shown

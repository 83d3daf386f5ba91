"""Conversations of EmpatheticDialogues, and the instances that are built from them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from localemp.dialogue import Dialogue

Instances = Literal["clean", "published"]
INSTANCES: tuple[Instances, ...] = get_args(Instances)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of the data set, as in the file.

    Attributes:
        id: The `conv_id`.
        emotion: One of the 32 emotions (the column `context`).
        situation: The situation that the speaker was asked to talk about (the column `prompt`).
        turns: Texts of speaker and listener, alternating, speaker first; commas are restored, and turns merged as
            described in `turn_taking.py`.
    """

    id: str
    emotion: str
    situation: str
    turns: tuple[str, ...]


def build_instances(conversations: Sequence[Conversation], instances: Instances) -> list[Dialogue]:
    """Return the instances of a split's conversations, "clean" or "published"."""
    return clean_instances(conversations) if instances == "clean" else published_instances(conversations)


def clean_instances(conversations: Iterable[Conversation]) -> list[Dialogue]:
    """Return one dialogue for every listener turn, conversation by conversation.

    The official splits give 40,254 / 5,738 / 5,259. Texts are stripped but otherwise unchanged, including quotes. A
    speaker's turn after the listener's last one has no reply and gives no instance. An id is the conversation's id,
    `#`, and the number of turns in the context: "hit:0_conv:1#3". A conversation ends before its first empty utterance
    (the official files have none).
    """
    return [
        instance
        for conversation in conversations
        for instance in _instances([conversation], _spoken(conversation.turns, str.strip), str.strip)
    ]


def published_instances(conversations: Sequence[Conversation]) -> list[Dialogue]:
    """Return the instances that the paper and its baselines used: 40,250 / 5,734 / 5,255 in the official splits.

    Their preprocessing loses the last two conversations of a split, and starts a new conversation only when the
    situation changes, so that neighbours with the same situation are merged, with the emotion of the last. Each one is
    first cut to an even number of turns; texts are stripped and lose every `"`. The id of a merged group joins the ids
    of its conversations with "+"; all other ids are those of `clean_instances`.
    """
    instances = []
    for _, neighbours in groupby(conversations[:-2], key=lambda conversation: _without_quotes(conversation.situation)):
        group = list(neighbours)
        turns: list[str] = []
        for conversation in group:
            spoken = _spoken(conversation.turns, _without_quotes)
            turns += spoken[: len(spoken) // 2 * 2]
        instances += _instances(group, turns, _without_quotes)
    return instances


def complete_dialogues(instances: Iterable[Dialogue]) -> list[Dialogue]:
    """Return the last instance of every conversation, whose context and reply are the complete dialogue.

    The paper's exemplars are complete dialogues. The order is that of the conversations.
    """
    last: dict[tuple[str, ...], Dialogue] = {}
    for instance in instances:
        last[instance.conversations or (instance.id,)] = instance
    return list(last.values())


def _without_quotes(text: str) -> str:
    return text.replace('"', "").strip()


def _spoken(turns: Iterable[str], clean: Callable[[str], str]) -> list[str]:
    """Return the cleaned turns before the first empty one, after which it is unknown who speaks."""
    spoken: list[str] = []
    for turn in map(clean, turns):
        if not turn:
            break
        spoken.append(turn)
    return spoken


def _instances(group: list[Conversation], turns: list[str], clean: Callable[[str], str]) -> list[Dialogue]:
    """Return one dialogue for every listener turn of a group of conversations, usually a single one."""
    ids = tuple(conversation.id for conversation in group)
    emotion, situation = group[-1].emotion or None, clean(group[-1].situation) or None
    return [
        Dialogue(f"{'+'.join(ids)}#{end}", tuple(turns[:end]), emotion, situation, turns[end], ids)
        for end in range(1, len(turns), 2)
    ]

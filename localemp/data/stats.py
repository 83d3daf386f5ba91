"""Statistics of a data set."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from localemp.data.conversations import Conversation, complete_dialogues
from localemp.dialogue import Dialogue


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics of one split. Words are separated by white space.

    Attributes:
        conversations: Number of conversations.
        utterances: Number of turns in them, of both speakers.
        instances: Number of dialogues that await a reply.
        turns_per_context: Mean number of turns before the reply.
        words_per_utterance: Mean length of an utterance, in words.
        words_per_reply: Mean length of a reference reply, in words; None if there are none.
        emotions: Number of conversations by emotion, most frequent first, ties by name.
        support_strategies: Number of replies by support strategy, likewise; a reply may have several.
    """

    conversations: int
    utterances: int
    instances: int
    turns_per_context: float
    words_per_utterance: float
    words_per_reply: float | None
    emotions: dict[str, int]
    support_strategies: dict[str, int]

    @classmethod
    def of_conversations(cls, conversations: list[Conversation], instances: list[Dialogue]) -> Self:
        """Count EmpatheticDialogues: the conversations of the file, and the instances built from them."""
        return cls._count(
            [conversation.turns for conversation in conversations],
            [conversation.emotion for conversation in conversations],
            instances,
        )

    @classmethod
    def of_dialogues(cls, dialogues: list[Dialogue]) -> Self:
        """Count dialogues: the last one of each conversation, with its reply, represents the conversation."""
        complete = complete_dialogues(dialogues)
        return cls._count([one.complete_turns for one in complete], [one.emotion for one in complete], dialogues)

    @classmethod
    def _count(cls, spoken: list[tuple[str, ...]], emotions: Iterable[str | None], instances: list[Dialogue]) -> Self:
        words = [len(turn.split()) for turns in spoken for turn in turns]
        reply_words = [len(one.reference.split()) for one in instances if one.reference is not None]
        return cls(
            conversations=len(spoken),
            utterances=len(words),
            instances=len(instances),
            turns_per_context=fmean(len(one.turns) for one in instances) if instances else 0.0,
            words_per_utterance=fmean(words) if words else 0.0,
            words_per_reply=fmean(reply_words) if reply_words else None,
            emotions=_ranked(filter(None, emotions)),
            support_strategies=_ranked(strategy for one in instances for strategy in one.support_strategies),
        )


def _ranked(names: Iterable[str]) -> dict[str, int]:
    """Count names, most frequent first, ties by name."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))

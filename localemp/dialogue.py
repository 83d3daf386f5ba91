"""The two nouns that everything else speaks of: a dialogue, and a message to a chat model."""

from dataclasses import dataclass
from typing import Literal

from localemp.utils.text import is_well_formed, well_formed

Role = Literal["system", "user", "assistant"]

# The 32 emotions of EmpatheticDialogues (Rashkin et al. 2019), in the order of the released stage-1 prompt.
EMOTIONS: tuple[str, ...] = (
    "guilty", "caring", "lonely", "excited", "sad", "hopeful", "angry", "joyful",
    "disappointed", "faithful", "content", "annoyed", "terrified", "nostalgic", "grateful", "trusting",
    "surprised", "ashamed", "impressed", "proud", "furious", "sentimental", "confident", "anxious",
    "jealous", "apprehensive", "embarrassed", "anticipating", "disgusted", "devastated", "prepared", "afraid",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as the OpenAI API has it; its text is well-formed."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if not is_well_formed(self.content):
            object.__setattr__(self, "content", well_formed(self.content))


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation that waits for the listener's next reply; its texts are well-formed.

    Attributes:
        id: Unique within its data set.
        turns: Speaker first, alternating, the speaker last: an odd number of texts, none empty.
        emotion: The speaker's emotion, one of `EMOTIONS`, where it is known.
        situation: What the speaker was told to talk about, where it is known.
        reference: The reply that a person gave, where there is one.
        conversations: Ids of the conversations that the turns come from; exemplars from these are never shown.
    """

    id: str
    turns: tuple[str, ...]
    emotion: str | None = None
    situation: str | None = None
    reference: str | None = None
    conversations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "emotion", "situation", "reference"):
            if not is_well_formed(text := getattr(self, name) or ""):
                object.__setattr__(self, name, well_formed(text))
        if not all(map(is_well_formed, self.turns)):
            object.__setattr__(self, "turns", tuple(map(well_formed, self.turns)))
        if not self.turns:
            raise ValueError("a dialogue needs at least one turn")
        for number, turn in enumerate(self.turns, 1):
            if not turn.strip():
                raise ValueError(f"turn {number} is empty")
        if len(self.turns) % 2 == 0:
            raise ValueError(
                f"it has {len(self.turns)} turns, so the listener spoke last; a dialogue must end with the speaker"
            )

    @property
    def last_utterance(self) -> str:
        """What the speaker said last."""
        return self.turns[-1]

    @property
    def complete_turns(self) -> tuple[str, ...]:
        """The turns and, where there is one, the reference reply: the dialogue as an exemplar shows it."""
        return self.turns if self.reference is None else (*self.turns, self.reference)

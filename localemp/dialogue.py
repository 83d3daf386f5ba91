"""The two basic types: a dialogue, and a message to a chat model."""

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

# The support strategies of ESConv (Liu et al. 2021), as its file names them.
SUPPORT_STRATEGIES: tuple[str, ...] = (
    "Question", "Restatement or Paraphrasing", "Reflection of feelings", "Self-disclosure",
    "Affirmation and Reassurance", "Providing Suggestions", "Information", "Others",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as in the OpenAI API. Its text is made well-formed Unicode."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if not is_well_formed(self.content):
            object.__setattr__(self, "content", well_formed(self.content))


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation that awaits the listener's next reply. Its texts are made well-formed Unicode.

    Attributes:
        id: Unique id within the data set.
        turns: Texts of speaker and listener, alternating; the speaker is first and last. None is empty.
        emotion: The speaker's emotion, in the data's words; None if unknown. EmpatheticDialogues has the 32 of
            `EMOTIONS`.
        situation: The situation that the speaker was asked to talk about; None if unknown.
        reference: The human reply; None if there is none.
        conversations: Ids of the conversations that the turns come from; they are never used as exemplars.
        support_strategies: The support strategies of the reference, such as those of `SUPPORT_STRATEGIES`, in order;
            empty if unknown.
    """

    id: str
    turns: tuple[str, ...]
    emotion: str | None = None
    situation: str | None = None
    reference: str | None = None
    conversations: tuple[str, ...] = ()
    support_strategies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "emotion", "situation", "reference"):
            if not is_well_formed(text := getattr(self, name) or ""):
                object.__setattr__(self, name, well_formed(text))
        for name in ("turns", "support_strategies"):
            if not all(map(is_well_formed, texts := getattr(self, name))):
                object.__setattr__(self, name, tuple(map(well_formed, texts)))
        if not self.turns:
            raise ValueError("a dialogue needs at least one turn")
        for number, turn in enumerate(self.turns, 1):
            if not turn.strip():
                raise ValueError(f"turn {number} is empty")
        if len(self.turns) % 2 == 0:
            raise ValueError(
                f"{len(self.turns)} turns: the listener spoke last, but a dialogue must end with the speaker"
            )

    @property
    def last_utterance(self) -> str:
        """The speaker's last turn."""
        return self.turns[-1]

    @property
    def complete_turns(self) -> tuple[str, ...]:
        """The turns, and the reference reply if there is one: the dialogue as an exemplar shows it."""
        return self.turns if self.reference is None else (*self.turns, self.reference)

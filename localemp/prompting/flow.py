"""The form of a flow, a strategy as a TOML file: named stages, each one call of the model, the reply last.

`flow_files.py` reads such files, `flow_checks.py` checks what must hold between stages, `strategies/flows.py` runs
them, and docs/flows.md describes the format.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from localemp.dialogue import EMOTIONS
from localemp.models.sampling import DrawingSettings
from localemp.prompting.texts import Text
from localemp.utils.toml_lines import Place

FACTS = ("emotion", "situation")
"""What the data may tell of a dialogue, and flows may show."""

GIVEN = (("emotion",), ("situation",), FACTS)
"""The facts that can be given, for each of which a flow may have a form."""

REPLY = "reply"
"""The name of the last stage."""

VARIANT_TEXTS = ("ask_both", "ask_emotion", "ask_situation", "given_emotion", "given_situation", "reply")
"""Texts of a prompt variant's table [two_stage] that a flow can show: `{variant.ask_both}`."""

MOST_STAGES = 32
MOST_CANDIDATES = 16
MOST_LABELS = 64
MOST_PLACEHOLDERS = 200

Sees = Literal["task", "dialogue", "exemplars", "knowledge"]


def _parsed(text: str) -> str:
    Text.parse(text)
    return text


def _form_of(value: object) -> str:
    return "word" if isinstance(value, str) else "spelt out"


Template = Annotated[str, Field(max_length=20_000), AfterValidator(_parsed)]
Label = Annotated[str, Field(min_length=1, max_length=100)]
Labels = Annotated[tuple[Label, ...], Field(min_length=2, max_length=MOST_LABELS)]
Cue = Annotated[str, Field(max_length=200)]
# Either a word or the thing itself; pydantic tells only what is wrong with the one that is meant.
_LabelsOrWord = Annotated[
    Annotated[Labels, Tag("spelt out")] | Annotated[Literal["emotions"], Tag("word")], Discriminator(_form_of)
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Turn(_Strict):
    """A turn after the dialogue: the user's, or the model's as it is quoted.

    Attributes:
        cue: In a transcript, what the model's turn begins with; None for the cue of stage answers.
    """

    user: Template | None = None
    assistant: Template | None = None
    cue: Cue | None = None

    @property
    def text(self) -> str:
        """The text, whoever says it."""
        return (self.assistant if self.user is None else self.user) or ""


class StageSampling(DrawingSettings):
    """Sampling parameters of one stage; those that are None are the run's.

    Attributes:
        seed: Seed of this stage; None for the run's.
    """

    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


JUDGE_TASK = "You compare answers to a conversation between a Speaker and a Listener. You do not answer it yourself."
"""A judge's task if the file has none: the prompt variant's asks for a reply."""


class Judge(_Strict):
    """A prompt that chooses among candidates, by number.

    Attributes:
        ask: What is asked.
        task: Its task; None for `JUDGE_TASK`.
        sees: What the prompt holds.
        sampling: Sampling parameters of its own.
    """

    ask: Template
    task: Template | None = None
    sees: tuple[Sees, ...] = ("task", "dialogue")
    sampling: StageSampling = StageSampling()


_JudgeOrWord = Annotated[
    Annotated[Judge, Tag("spelt out")] | Annotated[Literal["vote"], Tag("word")], Discriminator(_form_of)
]


class Stage(_Strict):
    """One call of the model, as the file has it.

    Attributes:
        name: How later stages quote it.
        task: In place of the prompt variant's task and guideline.
        sees: What the prompt holds.
        ask: What is asked after the dialogue; short for one turn of the user.
        turns: Turns after the dialogue, alternating. The first of the user joins the speaker's last turn.
        cue: In a transcript, what the answer follows; None for the prompt variant's.
        labels: The possible answers, if the answer is one of a list.
        otherwise: The label if the answer is none of them; without it, that is an error.
        json_schema: The schema of the answer, if that is JSON.
        sampling: Sampling parameters of its own.
        n: Number of candidates.
        choose: How one candidate is chosen.
        when: The stage runs only if an earlier stage answered one of these labels.
        branch: A text for each label of one earlier stage.
    """

    name: str
    task: Template | None = None
    sees: tuple[Sees, ...] = ("task", "dialogue", "exemplars", "knowledge")
    ask: Template | None = None
    turns: tuple[Turn, ...] | None = None
    cue: Cue | None = None
    labels: _LabelsOrWord | None = None
    otherwise: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    sampling: StageSampling = StageSampling()
    n: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 1
    choose: _JudgeOrWord | None = None
    when: Annotated[dict[str, tuple[Label, ...]], Field(min_length=1, max_length=1)] | None = None
    branch: Annotated[dict[str, dict[Label, Template]], Field(min_length=1, max_length=1)] | None = None

    @cached_property
    def all_labels(self) -> tuple[str, ...]:
        """The possible answers; empty if the answer is not one of a list."""
        return EMOTIONS if self.labels == "emotions" else self.labels or ()

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The properties of the answer, if that is JSON."""
        return tuple((self.json_schema or {}).get("properties", ()))

    @cached_property
    def shown(self) -> tuple[Turn, ...]:
        """The turns after the dialogue."""
        if self.turns is not None:
            return self.turns
        if self.ask is None and self.branch is None:
            return ()
        return (Turn(user="{branch}" if self.ask is None else self.ask),)

    def texts(self) -> Iterator[tuple[Place, str]]:
        """Yield each text with placeholders, and its place in the stage."""
        if self.task is not None:
            yield ("task",), self.task
        if self.ask is not None:
            yield ("ask",), self.ask
        for at, turn in enumerate(self.turns or ()):
            yield ("turns", at), turn.text
        for by, texts in (self.branch or {}).items():
            for label, text in texts.items():
                yield ("branch", by, label), text
        if isinstance(self.choose, Judge):
            yield ("choose", "ask"), self.choose.ask
            yield ("choose", "task"), self.choose.task or ""

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The placeholders in its texts, each once."""
        return tuple(dict.fromkeys(name for _, text in self.texts() for name in Text.parse(text).names))

    @cached_property
    def quoted(self) -> frozenset[str]:
        """The first words of its placeholders, and the stages that decide whether and how it runs."""
        return frozenset(
            [name.partition(".")[0] for name in self.placeholders] + [*(self.when or ()), *(self.branch or ())]
        )


class FlowForm(_Strict):
    """A flow's file."""

    about: Annotated[str, Field(min_length=1, max_length=200)]
    source: Annotated[str, Field(max_length=2000)] = ""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=MOST_STAGES)]

"""The prompts of a judge, read from `prompts/judge.toml` or another file, and rendered as messages."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from localemp.dialogue import Message
from localemp.prompting.template import Lines, placeholders, read_prompts
from localemp.studies.schema import TIE, Aspect, Item, Manifest
from localemp.utils.paths import resource

ABText = Annotated[str, placeholders("conversation", "a", "b", "aspect", "about", "question")]
RatingText = Annotated[
    str,
    placeholders(
        "conversation",
        "reply",
        "aspect",
        "about",
        "question",
        "low",
        "high",
        optional=("words", "low_words", "high_words"),
    ),
]

Answers = Literal["written", "probabilities"]
"""How a judge's answer is had: from what it writes, or from the probability of each answer."""
FILES: Mapping[Answers, str] = {"written": "judge.toml", "probabilities": "judge-letters.toml"}
"""localemp's own prompts for each."""

_Letter = Annotated[str, StringConstraints(pattern=r"^\S{1,20}$")]
_Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Letters(BaseModel):
    """What stands for each answer of an A/B test where its probability is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    A: _Letter
    B: _Letter
    tie: _Letter

    @model_validator(mode="after")
    def _differ(self) -> Self:
        told = [self.A.casefold(), self.B.casefold(), self.tie.casefold()]
        if any(one != other and one.startswith(other) for one in told for other in told) or len(set(told)) < len(told):
            raise ValueError("one begins like another")
        return self


class JudgePrompts(BaseModel):
    """A file of prompts for judges.

    Attributes:
        constrained: Whether an answer is held to the JSON form, where the engine can.
        lines: How a turn of each person is written.
        ab, rating: The whole question.
        answers: How an answer is had.
        letters: With probabilities: what is answered in an A/B test.
        margin: With probabilities: a reply wins if its probability exceeds the other's by more than this.
        least_mass: With probabilities: how probable at least the answers have to be together.
        sha256: Hash of the file's bytes; a manifest records it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    constrained: bool
    lines: Lines
    ab: ABText
    rating: RatingText
    answers: Answers = "written"
    letters: Letters | None = None
    margin: _Share = 0.0
    least_mass: _Share = 0.0
    sha256: str = ""

    @model_validator(mode="after")
    def _letters_are_told(self) -> Self:
        if (self.letters is not None) != (self.answers == "probabilities"):
            raise ValueError('letters: they belong to answers = "probabilities"')
        return self

    @classmethod
    def read(cls, path: Path | None = None, answers: Answers = "written") -> Self:
        """Read and check a file.

        Args:
            path: The file; None for localemp's own.
            answers: Which of these.

        Raises:
            PromptError: The file is missing or not valid TOML, or a key is unknown, missing or wrong.
        """
        own = resource("prompts", FILES[answers])
        return read_prompts(path or own, cls, own)

    def messages(self, manifest: Manifest, item: Item, aspect: Aspect, shown: Sequence[str]) -> list[Message]:
        """Ask about one aspect.

        Args:
            manifest: Of the study: its question, and its scale.
            item: The conversation and its replies.
            aspect: What to judge by.
            shown: Keys of the two replies in the order in which they are shown, or of the one to be rated.
        """
        texts = {reply.key: reply.text for reply in item.replies}
        asked = {
            "conversation": "\n".join(self.lines.write(item.turns)),
            "aspect": aspect.name,
            "about": aspect.about,
            "question": manifest.question,
        }
        if manifest.scale is None:
            first, second = shown
            return [Message("user", self.ab.strip().format(a=texts[first], b=texts[second], **asked))]
        (only,), (low, high) = shown, manifest.scale
        words = manifest.words or {low: "worst", high: "best"}
        scale = {"low": low, "high": high, "low_words": words[low], "high_words": words[high]}
        scale["words"] = ", ".join(f"{rating}: {word}" for rating, word in words.items())
        return [Message("user", self.rating.strip().format(reply=texts[only], **scale, **asked))]

    def choices(self, manifest: Manifest) -> dict[str, str | int]:
        """The answer that each text stands for, where probabilities are read."""
        if self.letters is None:
            return {}
        if manifest.scale is None:
            return {self.letters.A: "A", self.letters.B: "B", self.letters.tie: TIE}
        low, high = manifest.scale
        return {str(rating): rating for rating in range(low, high + 1)}

    def answer_schema(self, manifest: Manifest) -> str | None:
        """The JSON schema of an answer; None where answers are not constrained."""
        if not self.constrained:
            return None
        values: list[Any]
        if manifest.scale is None:
            name, kind, values = "choice", "string", ["A", "B", TIE]
        else:
            low, high = manifest.scale
            name, kind, values = "rating", "integer", list(range(low, high + 1))
        form = {name: {"type": kind, "enum": values}}
        return json.dumps({"type": "object", "properties": form, "required": [name], "additionalProperties": False})

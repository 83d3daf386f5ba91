"""The prompts of a judge, read from a file in `prompts/` or another one, and rendered as messages."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from localemp.dialogue import Message
from localemp.errors import OptionError
from localemp.prompting.prompt_files import prompt_file, read_prompts
from localemp.prompting.template import Lines, placeholders
from localemp.studies.judging.statements import Value
from localemp.studies.schema import TIE, Aspect, Item, Kind, Manifest
from localemp.utils.paths import StrPath, resource

ABText = Annotated[str, placeholders("conversation", "a", "b", "aspect", "about", optional=("question", "rubric"))]
RatingText = Annotated[
    str,
    placeholders(
        "conversation",
        "reply",
        "aspect",
        "about",
        "low",
        "high",
        optional=("question", "rubric", "words", "low_words", "high_words", "middle"),
    ),
]

Answers = Literal["written", "probabilities"]
"""How a judge's answer is had: from what it writes, or from the probability of each answer."""
FILES: Mapping[Answers, str] = {"written": "judge.toml", "probabilities": "judge-letters.toml"}
"""localemp's own prompts for each."""
ANY_ASPECT = "*"
"""In `rubrics`: every aspect that has none of its own."""

_Letter = Annotated[str, StringConstraints(pattern=r"^\S{1,20}$")]
_Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


def _has_both_ends(form: str) -> str:
    if not all(end.strip() for end in form.split("{answer}")):
        raise ValueError('something has to stand before and after {answer}, as in "[[{answer}]]"')
    return form


VerdictForm = Annotated[str, placeholders("answer"), AfterValidator(_has_both_ends)]


class Letters(BaseModel):
    """What stands for each answer of an A/B test where a letter is asked for."""

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
        ab, rating: The whole question; None where studies of this kind cannot be asked.
        rubrics: What stands for {rubric}, by aspect; "*" is for all that are not named.
        answers: How an answer is had.
        verdict: How a written answer states its verdict; the last one in this form counts, and nothing else does.
        letters: With probabilities or a verdict: what is answered in an A/B test.
        margin: With probabilities: a reply wins if its probability exceeds the other's by more than this.
        least_mass: With probabilities: how probable at least the answers have to be together.
        max_tokens: How long an answer may be, unless the user says so; None for the model's default.
        sha256: Hash of the file's bytes; a manifest records it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    constrained: bool
    lines: Lines
    ab: ABText | None = None
    rating: RatingText | None = None
    rubrics: Mapping[str, str] = {}
    answers: Answers = "written"
    verdict: VerdictForm | None = None
    letters: Letters | None = None
    margin: _Share = 0.0
    least_mass: _Share = 0.0
    max_tokens: Annotated[int, Field(gt=0, le=2**20)] | None = None
    sha256: str = ""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.ab is None and self.rating is None:
            raise ValueError("ab: neither it nor rating is there")
        by_letter = self.answers == "probabilities" or self.verdict is not None
        if self.letters is not None and not by_letter:
            raise ValueError('letters: they belong to answers = "probabilities" or to a verdict')
        if self.letters is None and by_letter and self.ab is not None:
            raise ValueError("letters: an A/B test that asks for a letter needs them")
        if self.verdict is not None and (self.constrained or self.answers == "probabilities"):
            raise ValueError("verdict: it is read of answers that are written, and not held to JSON")
        if bool(self.rubrics) != any("{rubric}" in (text or "") for text in (self.ab, self.rating)):
            raise ValueError("rubrics: they belong to a text with {rubric}")
        return self

    @classmethod
    def read(cls, given: StrPath | None = None, answers: Answers = "written") -> Self:
        """Read and check a file.

        Args:
            given: The name of a bundled one, or a file; None for localemp's own.
            answers: Which of these.

        Raises:
            PromptError: The file is missing or not valid TOML, or a key is unknown, missing or wrong.
            UnknownNameError: There are no such prompts.
        """
        own, bundled, kind = resource("prompts", FILES[answers]), bundled_prompts(), "prompts for a judge"
        path = own if given is None else prompt_file(given, kind, bundled)
        return read_prompts(path, cls, own, kind, bundled)

    def check_asks(self, kind: Kind, aspects: Sequence[Aspect]) -> None:
        """Check that there is a text for a study.

        Raises:
            OptionError: There is none for this kind, or for an aspect.
        """
        texts = {"ab": self.ab, "rating": self.rating}
        if texts[kind] is None:
            (other,) = texts.keys() - {kind}
            raise OptionError(
                f"the prompts {self.name!r} have no text for a study of kind {kind!r}",
                f"take others with --prompts, or judge a study of kind {other!r}",
            )
        if "{rubric}" in str(texts[kind]) and (
            without := [aspect.name for aspect in aspects if not {aspect.name, ANY_ASPECT} & self.rubrics.keys()]
        ):
            raise OptionError(
                f"the prompts {self.name!r} have no rubric for {', '.join(without)}",
                f"they have one for {', '.join(self.rubrics)}; take others with --prompts, or a study of these aspects",
            )

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
            "rubric": self.rubrics.get(aspect.name, self.rubrics.get(ANY_ASPECT, "")).strip(),
        }
        if manifest.scale is None:
            first, second = shown
            return [Message("user", str(self.ab).strip().format(a=texts[first], b=texts[second], **asked))]
        (only,), (low, high) = shown, manifest.scale
        words = manifest.words or {low: "worst", high: "best"}
        scale = {"low": low, "high": high, "low_words": words[low], "high_words": words[high]}
        scale |= {
            "words": ", ".join(f"{rating}: {word}" for rating, word in words.items()),
            "middle": (low + high) // 2,
        }
        return [Message("user", str(self.rating).strip().format(reply=texts[only], **scale, **asked))]

    def choices(self, manifest: Manifest) -> dict[str, Value]:
        """The answer that each text stands for, where probabilities are read."""
        return self.verdicts(manifest) if self.answers == "probabilities" else {}

    def verdicts(self, manifest: Manifest) -> dict[str, Value]:
        """The answer that each letter or number stands for."""
        if manifest.scale is not None:
            low, high = manifest.scale
            return {str(rating): rating for rating in range(low, high + 1)}
        return {} if self.letters is None else {self.letters.A: "A", self.letters.B: "B", self.letters.tie: "tie"}

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


def bundled_prompts() -> dict[str, Path]:
    """Return the prompts for judges that ship with localemp, by name: its own, then those of other protocols."""
    own = {Path(name).stem: resource("prompts", name) for name in FILES.values()}
    return own | {path.stem: path for path in sorted(resource("prompts", "judges").glob("*.toml"))}

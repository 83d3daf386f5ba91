"""Questionnaires and study designs, read from `prompts/study.toml` or a file of your own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from localemp.errors import PromptError, UnknownNameError
from localemp.prompting.prompt_files import prompt_file, read_prompts
from localemp.studies.schema import Aspect, Kind, Point, RatingsBy, Text, scale_labels
from localemp.studies.votes import COLUMNS
from localemp.utils.paths import StrPath, resource


class QuestionnaireAspect(Aspect):
    """An aspect, and the kinds of studies that ask it."""

    kinds: tuple[Kind, ...] = ("ab", "rating")


class Preset(BaseModel):
    """The design of a study.

    Attributes:
        sample: How many dialogues are drawn; a study of fewer is none of this design.
        annotators: How many people rate each item.
        ratings_by: What the raters of a reply say together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample: Annotated[int, Field(ge=1)]
    annotators: Annotated[int, Field(ge=1, le=1000)]
    ratings_by: RatingsBy


class Questionnaire(BaseModel):
    """The questions, instructions and scale of a study.

    Attributes:
        instructions: What raters read first.
        ab, rating: What is asked of every aspect, by the kind of study.
        scale: Lowest and highest rating.
        scale_words: What ratings mean, from the lowest to the highest, as far apart as they are.
        check_ab, check_rating: What stands in the place of a reply to see whether raters read.
        aspect: What replies are judged by.
        preset: Designs by name.
        sha256: Hash of the file's bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instructions: Text
    ab: Text
    rating: Text
    scale: tuple[Point, Point]
    scale_words: Annotated[tuple[Text, ...], Field(min_length=2)]
    check_ab: Text
    check_rating: Text
    aspect: Annotated[tuple[QuestionnaireAspect, ...], Field(min_length=1)]
    preset: Mapping[Text, Preset] = {}
    sha256: str = ""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.scale[0] >= self.scale[1]:
            raise ValueError("scale: the lowest rating comes first")
        scale_labels(self.scale, self.scale_words)  # raises where words and scale do not fit
        names = [aspect.name for aspect in self.aspect]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"aspect: {twice[0]} is there twice")
        if taken := [name for name in names if name.casefold() in COLUMNS]:
            raise ValueError(f"aspect: {taken[0]!r} is a column of files of ratings; give the aspect another name")
        return self

    def question(self, kind: Kind) -> str:
        """Return the question that is asked of every aspect."""
        return self.ab if kind == "ab" else self.rating

    def aspects(self, kind: Kind) -> tuple[Aspect, ...]:
        """Return the aspects of a kind of study."""
        return tuple(Aspect(name=each.name, about=each.about) for each in self.aspect if kind in each.kinds)

    def design(self, name: str) -> Preset:
        """Return the design with this name.

        Raises:
            UnknownNameError: The file has none of this name; those that it has are listed.
        """
        if name not in self.preset:
            raise UnknownNameError(
                "preset", name, self.preset, "A [preset.NAME] table in a file for --aspects adds one"
            )
        return self.preset[name]


def bundled_questionnaires() -> dict[str, Path]:
    """Return the questionnaires that ship with localemp besides the paper's, by name."""
    return {path.stem: path for path in sorted(resource("prompts", "questionnaires").glob("*.toml"))}


def load_questionnaire(given: StrPath | None = None, kind: Kind | None = None) -> Questionnaire:
    """Read a questionnaire.

    Args:
        given: The name of a bundled one, or a file; None is the paper's aspects.
        kind: Of the study that asks; None is any.

    Raises:
        PromptError: The file cannot be read, breaks a rule, or has no aspect for this kind; file and key are named.
        UnknownNameError: There is no such questionnaire.
    """
    own, bundled = resource("prompts", "study.toml"), bundled_questionnaires()
    path = own if given is None else prompt_file(given, "questionnaire", bundled)
    asked = read_prompts(path, Questionnaire, own, "questionnaire", {"study": own, **bundled})
    if kind and not asked.aspects(kind):
        raise PromptError(
            f"{path}: no aspect is asked in studies of kind {kind!r}", f'give one kinds = ["{kind}"], or no kinds'
        )
    return asked


def aspect_named(name: str | None = None) -> tuple[str, Aspect]:
    """Return the question of the paper's A/B tests, and one of the aspects that it is asked of.

    Args:
        name: The aspect's; None for the first.

    Raises:
        UnknownNameError: There is no such aspect.
    """
    asked = load_questionnaire(kind="ab")
    aspects = {each.name: each for each in asked.aspects("ab")}
    name = name or next(iter(aspects))
    if name not in aspects:
        raise UnknownNameError("aspect", name, aspects)
    return asked.question("ab"), aspects[name]

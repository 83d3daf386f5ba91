"""What raters are asked, as data: `prompts/study.toml`, or a file of one's own."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from localemp.errors import PromptError
from localemp.paths import resource
from localemp.studies.study import Aspect, Kind, Point, Text
from localemp.studies.votes import COLUMNS
from localemp.template import read_prompts


class AskedAspect(Aspect):
    """An aspect, and the kinds of studies that ask it."""

    kinds: tuple[Kind, ...] = ("ab", "rating")


class Asked(BaseModel):
    """The texts and the scale.

    Attributes:
        instructions: What raters read first.
        ab, rating: What is asked of every aspect, by the kind of study.
        scale: Lowest and highest rating.
        scale_words: What the two mean.
        check_ab, check_rating: What stands in the place of a reply to see whether raters read.
        aspect: What replies are judged by.
        sha256: Hash of the file's bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instructions: Text
    ab: Text
    rating: Text
    scale: tuple[Point, Point]
    scale_words: tuple[Text, Text]
    check_ab: Text
    check_rating: Text
    aspect: Annotated[tuple[AskedAspect, ...], Field(min_length=1)]
    sha256: str = ""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.scale[0] >= self.scale[1]:
            raise ValueError("scale: the lowest rating comes first")
        names = [aspect.name for aspect in self.aspect]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"aspect: {twice[0]} is there twice")
        if taken := [name for name in names if name.casefold() in COLUMNS]:
            raise ValueError(f"aspect: {taken[0]!r} is a column of files of ratings; give the aspect another name")
        return self

    def question(self, kind: Literal["ab", "rating"]) -> str:
        """What is asked of every aspect."""
        return self.ab if kind == "ab" else self.rating

    def aspects(self, kind: Kind) -> tuple[Aspect, ...]:
        """The aspects that a kind of study asks."""
        return tuple(Aspect(name=each.name, about=each.about) for each in self.aspect if kind in each.kinds)


def load_asked(path: Path | None = None, kind: Kind | None = None) -> Asked:
    """Read what raters are asked.

    Args:
        path: A file of one's own; None is the paper's aspects.
        kind: Of the study that asks; None is any.

    Raises:
        PromptError: The file cannot be read, breaks a rule, or has no aspect for this kind; file and key are named.
    """
    own = resource("prompts", "study.toml")
    path = path or own
    asked = read_prompts(path, Asked, own)
    if kind and not asked.aspects(kind):
        raise PromptError(
            f"{path}: no aspect is asked in studies of kind {kind!r}", f'give one kinds = ["{kind}"], or no kinds'
        )
    return asked

"""The contents of a study's files: what raters see, and the key that unblinds it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["ab", "rating"]
RatingsBy = Literal["mean", "majority"]

TIE = "tie"
TIES = frozenset({TIE, "equal", "same", "draw", "both", "neither"})
"""The words for a tie in files of ratings."""

Text = Annotated[str, Field(min_length=1)]
Point = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Aspect(_Strict):
    """An aspect that replies are judged by.

    Attributes:
        name: As in tables.
        about: What it means, as raters read it.
    """

    name: Text
    about: Text


class Reply(_Strict):
    """A blinded reply.

    Attributes:
        key: Stands for it in answers; random, so that it tells nothing.
        text: As it is shown.
    """

    key: Text
    text: str


class Item(_Strict):
    """One item: what a rater sees on one screen.

    Attributes:
        id: Unique in the study; tells nothing of systems.
        turns: The conversation, the speaker first and last.
        replies: In an order that tells nothing; raters see them in an order of their own, see `Study.shown_to`.
    """

    id: Text
    turns: tuple[str, ...]
    replies: tuple[Reply, ...]


class Manifest(_Strict):
    """The public part of a study, without its key.

    Attributes:
        format: Of the folder.
        kind: "ab" or "rating".
        title: For raters; tells no system.
        instructions: What raters read first.
        question: What is asked of every aspect.
        aspects: What replies are judged by.
        scale: Lowest and highest rating; None in an A/B test.
        scale_words: What ratings mean, from the lowest to the highest, as far apart as they are; see `scale_labels`.
        preset: The design that it was made by; empty where there is none.
        annotators: How many people shall rate each item; None is any number.
        ratings_by: What the raters of a reply say together, see `RatingMatrix.combined`.
        seed: Of the sample alone: who knows it knows which dialogues were drawn, and nothing of systems.
        shuffle: Of the orders of raters; drawn for each study, and apart from all that blinds it.
        created: Time, UTC.
        versions: Of localemp.
        items_sha256, key_sha256: Of the two files.
    """

    format: Literal[1] = 1
    kind: Kind
    title: Text
    instructions: str
    question: Text
    aspects: Annotated[tuple[Aspect, ...], Field(min_length=1)]
    scale: tuple[Point, Point] | None = None
    scale_words: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    preset: str = ""
    annotators: Annotated[int, Field(ge=1)] | None = None
    ratings_by: RatingsBy = "mean"
    seed: int
    shuffle: Text
    created: str
    versions: dict[str, str]
    items_sha256: str
    key_sha256: str

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.kind == "rating") != (self.scale is not None) or (self.scale and self.scale[0] >= self.scale[1]):
            raise ValueError("scale: a rating study has one from low to high, an A/B study has none")
        if self.scale and self.scale_words:
            scale_labels(self.scale, self.scale_words)  # raises where words and scale do not fit
        names = [aspect.name for aspect in self.aspects]
        if len(names) > len(set(names)):
            raise ValueError("aspects: two have one name")
        return self

    @property
    def words(self) -> dict[int, str]:
        """The label of each labelled rating; empty without labels."""
        return scale_labels(self.scale, self.scale_words) if self.scale and self.scale_words else {}


def scale_labels(scale: tuple[int, int], words: Sequence[str]) -> dict[int, str]:
    """Return the label of each labelled rating: the lowest, the highest, and those equally spaced between them.

    Raises:
        ValueError: There are no such whole numbers.
    """
    low, high = scale
    step, rest = divmod(high - low, len(words) - 1)
    if rest:
        raise ValueError(f"scale_words: {len(words)} words do not fall on whole numbers from {low} to {high}")
    return {low + place * step: word for place, word in enumerate(words)}


class Key(_Strict):
    """The key that unblinds a study; nothing that serves raters reads it.

    Attributes:
        systems: Reply key -> the system that wrote it.
        dialogues: Item -> the dialogue's id in the runs.
        sources: System -> where its replies come from, such as a run's settings.
        checks: Attention check -> aspect -> the reply key (A/B) or the numbers (rating) that a rater who reads gives.
        secret: Random, so that the key of a small study cannot be guessed from its public hash.
    """

    systems: dict[str, str]
    dialogues: dict[str, str]
    sources: dict[str, dict[str, Any]]
    checks: dict[str, dict[str, str | list[int]]] = Field(default_factory=dict)
    secret: str = ""

    def named(self, *replies: str) -> str:
        """The systems of replies as unblinded files have them, "a vs b"; those of attention checks keep their keys."""
        return " vs ".join(sorted(self.systems.get(reply, reply) for reply in replies))

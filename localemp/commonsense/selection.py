"""Selects the inferences that fit a dialogue: our reading of "dynamically concatenates" (section 3.3.3, Eq. 8).

For each relation:

1. Drop beams that say nothing ("none").
2. Rank the others by a weighted sum of beam probability, cosine similarity to the context and, for reactions, agreement
   with the feeling in the context.
3. From the best on, drop those below the cut-off, reactions that contradict a clear feeling in the context, and near
   duplicates (by words or by cosine similarity), and keep at most a fixed number.

The parameters are data, in `[knowledge.select]` of the prompt template; docs/knowledge.md explains them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from localemp.commonsense.inferences import Beam, Beams, Inferences
from localemp.models.atomic import ATOMIC_2020

if TYPE_CHECKING:
    from localemp.commonsense.feelings import Feelings
    from localemp.retrieval.index import TextEncoder, Vectors

Keep = Literal["relevant", "on-topic", "all"]
"""What is selected; "on-topic" is "relevant" without a look at feelings, which was once the only rule."""

# Digits of a cosine that do not depend on the other texts of a batch.
_DIGITS = 4

# Only it says how the speaker feels. After a sad event one may well want to be happy, and a good day may be tiring.
_REACTION = "xReact"


class Select(BaseModel):
    """Parameters of the selection. The names of version 0.1 are still accepted.

    Attributes:
        keep: "relevant" as above, "on-topic" without a look at feelings, or "all".
        encoder: Name of the sentence encoder that compares texts.
        stopwords: Inferences that say nothing ("none"); compared without case and punctuation.
        duplicate_threshold: Cosine similarity at and above which two inferences count as duplicates.
        beam_weight: Weight of exp(score), the mean token probability; without scores, of 1/2, 1/3, 1/4 ... by rank.
        context_weight: Weight of the cosine similarity between inference and context.
        min_score: Lowest weighted sum that is kept, by relation; "other" applies to relations that are not named.
            Reactions are single words, which are less similar to any context than phrases are.
        max_per_relation: Most inferences kept for one relation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: Keep
    encoder: str
    stopwords: Annotated[tuple[str, ...], Field(validation_alias=AliasChoices("stopwords", "nothing"))]
    duplicate_threshold: Annotated[float, Field(gt=0, validation_alias=AliasChoices("duplicate_threshold", "same"))]
    beam_weight: Annotated[float, Field(ge=0)]
    context_weight: Annotated[float, Field(ge=0)]
    min_score: Annotated[Mapping[str, float], Field(validation_alias=AliasChoices("min_score", "cut_off"))]
    max_per_relation: Annotated[int, Field(gt=0, validation_alias=AliasChoices("max_per_relation", "most"))]

    @field_validator("min_score")
    @classmethod
    def _has_other(cls, min_score: Mapping[str, float]) -> Mapping[str, float]:
        if unknown := sorted(set(min_score) - {*ATOMIC_2020, "other"}):
            raise ValueError(f"unknown relation {unknown[0]!r}")
        if "other" not in min_score:
            raise ValueError('"other" is missing')
        return min_score


@dataclass(frozen=True, slots=True)
class Dropped:
    """An inference that was not selected.

    Attributes:
        text: The inference.
        reason: "says nothing", "contradicts the feeling", "below the cut-off", "like: ..." with the duplicate that was
            kept, or "too many".
        value: The weighted sum; None if the inference says nothing.
    """

    text: str
    reason: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected inferences of one dialogue, best first, and the dropped ones. Empty relations are left out."""

    kept: Inferences
    dropped: Mapping[str, tuple[Dropped, ...]] = field(default_factory=dict)


def select_all(contexts: Sequence[str], found: Sequence[Beams]) -> list[Selection]:
    """Select everything, as the released code does."""
    return [Selection({name: tuple(beam.text for beam in beams) for name, beams in one.items()}) for one in found]


class Selector:
    """Selects inferences by the parameters of a template.

    Args:
        settings: The parameters.
        encoder: Embeds inferences and contexts.
        feelings: Compares reactions with the feeling in the context, in this encoder's space; None to ignore feelings.
    """

    def __init__(self, settings: Select, encoder: "TextEncoder", feelings: "Feelings | None" = None) -> None:
        self.settings, self.encoder, self.feelings = settings, encoder, feelings
        self._stopwords = {_bare(text) for text in settings.stopwords}

    def __call__(self, contexts: Sequence[str], found: Sequence[Beams]) -> list[Selection]:
        """Select for many dialogues at once.

        Args:
            contexts: The context of each dialogue.
            found: The inferences for each dialogue.
        """
        texts = [*contexts, *(beam.text for one in found for beams in one.values() for beam in beams)]
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        vectors = self.encoder.encode(list(row_of))
        return [self._choose(context, one, row_of, vectors) for context, one in zip(contexts, found, strict=True)]

    def _choose(self, context: str, found: Beams, row_of: Mapping[str, int], vectors: "Vectors") -> Selection:
        kept: dict[str, tuple[str, ...]] = {}
        dropped: dict[str, tuple[Dropped, ...]] = {}
        for relation, beams in found.items():
            min_score = self.settings.min_score.get(relation, self.settings.min_score["other"])
            feelings = self.feelings if relation == _REACTION else None
            chosen, rest = self._rank(context, beams, min_score, feelings, row_of, vectors)
            if chosen:
                kept[relation] = tuple(chosen)
            if rest:
                dropped[relation] = tuple(rest)
        return Selection(kept, dropped)

    def _rank(
        self,
        context: str,
        beams: Sequence[Beam],
        min_score: float,
        feelings: "Feelings | None",
        row_of: Mapping[str, int],
        vectors: "Vectors",
    ) -> tuple[list[str], list[Dropped]]:
        settings = self.settings

        def cosine(one: str, other: str) -> float:
            return round(float(vectors[row_of[one]] @ vectors[row_of[other]]), _DIGITS)

        feeling = feelings.of_context(context, vectors[row_of[context]]) if feelings else 0.0
        weight, clear = (feelings.weight, abs(feeling) >= feelings.clear) if feelings else (0.0, False)

        def agreement(text: str) -> float:
            return round(feeling * feelings.named(text), _DIGITS) if feelings else 0.0

        dropped = [Dropped(beam.text, "says nothing") for beam in beams if self._says_nothing(beam.text)]
        values: dict[str, float] = {}
        for rank, beam in enumerate(beams):
            if not self._says_nothing(beam.text):
                certain = 1 / (rank + 2) if beam.score is None else math.exp(min(beam.score, 0.0))
                value = settings.beam_weight * certain + settings.context_weight * cosine(beam.text, context)
                value += weight * agreement(beam.text)
                values.setdefault(beam.text, round(value, _DIGITS))
        kept: list[str] = []
        # Stable: of equal values, the better beam comes first.
        for text, value in sorted(values.items(), key=lambda item: -item[1]):
            same = next(
                (
                    one
                    for one in kept
                    if key_of(one) == key_of(text) or cosine(one, text) >= settings.duplicate_threshold
                ),
                None,
            )
            if clear and agreement(text) < 0:
                dropped.append(Dropped(text, "contradicts the feeling", value))
            elif value < min_score:
                dropped.append(Dropped(text, "below the cut-off", value))
            elif same is not None:
                dropped.append(Dropped(text, f"like: {same}", value))
            elif len(kept) == settings.max_per_relation:
                dropped.append(Dropped(text, "too many", value))
            else:
                kept.append(text)
        return kept, dropped

    def _says_nothing(self, text: str) -> bool:
        return _bare(text) in self._stopwords or not _bare(text)


def key_of(text: str) -> str:
    """Return a key that ignores function words and endings: the same for "to go to the beach" and "goes to beaches"."""
    words = [word for word in _bare(text).split() if word not in _FUNCTION_WORDS]
    return " ".join(_ENDING.sub("", word) for word in words) or _bare(text)


_FUNCTION_WORDS = frozenset(("to", "a", "an", "the", "be", "is", "are", "get", "gets", "feel", "feels", "very", "so"))
_ENDING = re.compile(r"(?<=o)es$|(?<=\w{3})(?:ing|ies|es|ed|s|e|y)$")


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))

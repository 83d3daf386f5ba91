"""A vote: the answer of a person, a judge or a file to one aspect of one item."""

from dataclasses import dataclass
from typing import Literal

from localemp.errors import OptionError, suggestion
from localemp.studies.schema import TIE
from localemp.studies.study import Study
from localemp.utils.text import one_line

RaterKind = Literal["person", "judge", "import"]

COLUMNS = ("rater", "kind", "item", "dialogue", "aspect", "reply", "system", "value", "first", "seconds", "at")
"""The columns of files of votes; no aspect can have such a name."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer.

    Attributes:
        rater: Who gave it: a person's name, or a judge's.
        item: The item's id.
        aspect: The aspect's name.
        value: A/B: the key of the better reply, or "tie". Rating: the number; a whole one, unless it is the mean of a
            judge's probabilities.
        reply: Rating: the key of the reply that is rated. A/B: empty.
        first: The key of the reply that the rater saw first; empty where that is not known.
        kind: Whether a person gave it, a model, or it was imported from a file.
        confidence: The probability of it, or of the likeliest rating, where a judge's probabilities are known.
    """

    rater: str
    item: str
    aspect: str
    value: str | float
    reply: str = ""
    first: str = ""
    kind: RaterKind = "person"
    confidence: float | None = None


def quoted(value: object) -> str:
    """Format untrusted text for a message: quoted, on one line, shortened."""
    return repr(one_line(value, 80)) if isinstance(value, str) else repr(value)


def check_vote(study: Study, vote: Vote) -> None:
    """Check that a vote fits the study.

    Raises:
        OptionError: Unknown item, aspect or reply, or a value out of range; says which, and what there is.
    """
    manifest = study.manifest
    item = study.by_id.get(vote.item)
    if item is None:
        raise OptionError(f"unknown item {quoted(vote.item)}", f"{study.folder / 'items.jsonl'} has the items")
    if vote.aspect not in (names := [aspect.name for aspect in manifest.aspects]):
        raise OptionError(f"item {vote.item}: unknown aspect {quoted(vote.aspect)}", suggestion(vote.aspect, names))
    keys = [reply.key for reply in item.replies]
    if manifest.scale is None:
        if vote.value not in (*keys, TIE):
            raise OptionError(
                f"item {vote.item}, {vote.aspect}: {quoted(vote.value)} is not an answer",
                f"known: {', '.join(keys)}, {TIE}",
            )
        if vote.reply:
            raise OptionError(f"item {vote.item}: a choice does not name a single reply", "leave the reply out")
        return
    if vote.reply not in keys:
        raise OptionError(f"item {vote.item}: unknown reply {quoted(vote.reply)}", f"known: {', '.join(keys)}")
    low, high = manifest.scale
    kinds = int if vote.confidence is None else int | float
    if isinstance(vote.value, bool) or not isinstance(vote.value, kinds) or not low <= vote.value <= high:
        raise OptionError(
            f"item {vote.item}, {vote.aspect}: {quoted(vote.value)} is not a rating",
            f"whole numbers from {low} to {high}; a study has the scale of its questionnaire (--aspects)",
        )

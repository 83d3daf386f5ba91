"""What moves a judge's ratings beside quality: the length of a reply, and whether the judge's own model wrote it.

One linear regression, so that each is measured with the others held equal (ratings are shares of their scale):

    rating = constant + quality * people's mean + length * log2(words) + own * (1 if its own model's, else 0)
             + standing * people's mean of the system

A positive `length` or `own` is what the judge adds for it beyond what people see. `standing` (`standing.py` has
the reason) takes three systems; with two it is left out, and a note says so. What people miss of single replies may be
in `length`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.metrics.pairing import FEW_ITEMS
from localemp.studies.stats.intervals import FEW_DIALOGUES, Bootstrap, Estimate, Numbers
from localemp.studies.stats.judged import JudgedRating
from localemp.studies.stats.leniency import PEOPLE_CONSTANT, Scale, shares_of
from localemp.studies.stats.regression import estimated, fit_linear
from localemp.studies.stats.standing import UNSEEN, hold_standing

SAME_LENGTH = "all replies have the same length"
NO_OWN = "its own model's replies are none of these, or all"


@dataclass(frozen=True, slots=True)
class RatingBias:
    """The bias of one judge, by one aspect, as shares of its scale.

    Attributes:
        aspect: What was rated.
        replies: Rated by the judge and by people.
        dialogues: That they are of.
        length: What it adds for twice as many words.
        own: What it adds for its own model's replies.
        quality: How far its ratings move where people's move over their whole scale, the system's standing held equal.
        standing: Whether what people think of the systems overall is held equal.
    """

    aspect: str
    replies: int
    dialogues: int
    length: Estimate
    own: Estimate
    quality: Estimate
    standing: bool

    @property
    def notes(self) -> list[str]:
        """What makes the figures uncertain beyond their intervals."""
        notes = [FEW_DIALOGUES] if self.dialogues < FEW_ITEMS else []
        return [*notes, UNSEEN] if self.own.value is not None and not self.standing else notes

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("aspect", "replies", "dialogues", "standing", "notes")}
        return {**told, **{name: getattr(self, name).as_dict() for name in ("length", "own", "quality")}}


def rating_bias(
    ratings: Sequence[JudgedRating],
    own_systems: Collection[str],
    judge_scale: Scale,
    people_scale: Scale,
    bootstrap: Bootstrap,
) -> list[RatingBias]:
    """Measure what moves a judge's ratings, for every aspect, in the order of the ratings."""
    found = []
    for aspect in dict.fromkeys(rating.aspect for rating in ratings):
        rated = [rating for rating in ratings if rating.aspect == aspect and rating.people]
        found.append(_rating_bias(aspect, rated, own_systems, judge_scale, people_scale, bootstrap))
    return found


def _rating_bias(
    aspect: str,
    rated: Sequence[JudgedRating],
    own_systems: Collection[str],
    judge_scale: Scale,
    people_scale: Scale,
    bootstrap: Bootstrap,
) -> RatingBias:
    dialogues = [rating.dialogue for rating in rated]
    names = sorted({rating.system for rating in rated})
    systems = np.array([[rating.system == name for name in names] for rating in rated], dtype=float)
    terms, fit, standing = hold_standing(_terms(rated, own_systems, people_scale), fit_linear, systems)
    judge = shares_of([rating.judge for rating in rated], judge_scale)
    effects = estimated(terms, judge, fit, dialogues, bootstrap)
    return RatingBias(
        aspect=aspect,
        replies=len(rated),
        dialogues=len(set(dialogues)),
        length=effects["length"],
        own=effects["own"],
        quality=effects["quality"],
        standing=standing,
    )


def _terms(
    rated: Sequence[JudgedRating], own_systems: Collection[str], people_scale: Scale
) -> dict[str, Numbers | str]:
    """Return the column of each term, or why it has none."""
    people = np.array([shares_of(rating.people, people_scale).mean() for rating in rated])
    length = np.log2(np.maximum([rating.length for rating in rated], 1))
    own = np.array([rating.system in own_systems for rating in rated], dtype=float)
    columns = {"length": (length, SAME_LENGTH), "own": (own, NO_OWN), "quality": (people, PEOPLE_CONSTANT)}
    varied = {name: column if len(rated) and np.ptp(column) else reason for name, (column, reason) in columns.items()}
    return {"constant": np.ones(len(rated)), **varied}

"""What moves a judge's ratings beside quality: the length of a reply, and whether the judge's own model wrote it.

One linear regression, so that each is measured with the others held equal (ratings are shares of their scale):

    rating = constant + quality * people's mean + length * log2(words) + own * (1 if its own model's, else 0)

A positive `length` or `own` is what the judge adds for it beyond what people see. People's answers are few and noisy,
so what they miss of quality remains in `length` and `own`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers
from localemp.studies.stats.judged import JudgedRating
from localemp.studies.stats.leniency import PEOPLE_CONSTANT, Scale, shares_of
from localemp.studies.stats.regression import estimated, fit_linear

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
        quality: How far its ratings move where people's move over their whole scale.
    """

    aspect: str
    replies: int
    dialogues: int
    length: Estimate
    own: Estimate
    quality: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("aspect", "replies", "dialogues")}
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
        dialogues = [rating.dialogue for rating in rated]
        terms = _terms(rated, own_systems, people_scale)
        judge = shares_of([rating.judge for rating in rated], judge_scale)
        effects = estimated(terms, judge, fit_linear, dialogues, bootstrap)
        sizes = len(rated), len(set(dialogues))
        found.append(RatingBias(aspect, *sizes, effects["length"], effects["own"], effects["quality"]))
    return found


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

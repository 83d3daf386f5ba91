"""How a judge uses the scale beside people: leniency, spread, and the share of the top grade.

The judge's scale and people's may differ, so both are shares of their scale: 0 is its lowest grade, 1 its highest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers
from localemp.studies.stats.judged import JudgedRating

NO_RATING = "no reply was rated by the judge and by people"
PEOPLE_CONSTANT = "people's ratings are all the same"

_ROUNDING = 1e-12  # a variance below this is 0

Scale = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Leniency:
    """One judge's use of the scale, by one aspect.

    Attributes:
        aspect: What was rated.
        replies: Rated by the judge and by people.
        dialogues: That they are of.
        judge: Its mean, as a share of its scale.
        people: Theirs (the mean of each reply's mean), as a share of their scale.
        difference: The judge's less theirs: above 0 it is lenient.
        spread: Standard deviation of its ratings over that of single people's: below 1 it uses less of the scale.
        top: Share of its ratings that are the highest grade.
        people_top: The same of single people's.
    """

    aspect: str
    replies: int
    dialogues: int
    judge: Estimate
    people: Estimate
    difference: Estimate
    spread: Estimate
    top: Estimate
    people_top: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("aspect", "replies", "dialogues")}
        figures = ("judge", "people", "difference", "spread", "top", "people_top")
        return {**told, **{name: getattr(self, name).as_dict() for name in figures}}


def leniency(
    ratings: Sequence[JudgedRating], judge_scale: Scale, people_scale: Scale, bootstrap: Bootstrap
) -> list[Leniency]:
    """Measure a judge's use of the scale for every aspect, in the order of the ratings."""
    aspects = dict.fromkeys(rating.aspect for rating in ratings)
    return [
        _leniency(aspect, [each for each in ratings if each.aspect == aspect], judge_scale, people_scale, bootstrap)
        for aspect in aspects
    ]


def _leniency(
    aspect: str, ratings: Sequence[JudgedRating], judge_scale: Scale, people_scale: Scale, bootstrap: Bootstrap
) -> Leniency:
    rated = [rating for rating in ratings if rating.people]
    dialogues = [rating.dialogue for rating in rated]
    if not rated:
        none = Estimate(None, reason=NO_RATING)
        return Leniency(aspect, 0, 0, none, none, none, none, none, none)
    judge = shares_of([rating.judge for rating in rated], judge_scale)
    theirs = [shares_of(rating.people, people_scale) for rating in rated]
    people = np.array([values.mean() for values in theirs])
    raters = np.array([len(values) for values in theirs], dtype=float)
    total, squares = (np.array([(values**power).sum() for values in theirs]) for power in (1, 2))

    def spread(sums: Numbers) -> Numbers:
        replies, ratings, ours, our_squares, theirs, their_squares = sums.T
        our_variance = np.maximum(our_squares / replies - (ours / replies) ** 2, 0)
        their_variance = their_squares / ratings - (theirs / ratings) ** 2
        found = np.sqrt(our_variance / np.where(their_variance > _ROUNDING, their_variance, np.nan))
        return np.asarray(found[:, np.newaxis], dtype=float)

    units = np.column_stack([np.ones_like(judge), raters, judge, judge**2, total, squares])
    (found,) = bootstrap.of_sums(units, spread, dialogues)
    return Leniency(
        aspect=aspect,
        replies=len(rated),
        dialogues=len(set(dialogues)),
        judge=bootstrap.mean(judge, dialogues),
        people=bootstrap.mean(people, dialogues),
        difference=bootstrap.mean(judge - people, dialogues),
        spread=found if found.value is not None else Estimate(None, reason=PEOPLE_CONSTANT),
        top=bootstrap.mean((judge >= 1).astype(float), dialogues),
        people_top=bootstrap.ratio(
            np.array([(values >= 1).sum() for values in theirs], dtype=float), raters, dialogues
        ),
    )


def shares_of(values: Sequence[float], scale: Scale) -> Numbers:
    """Return ratings as shares of their scale."""
    low, high = scale
    return (np.asarray(values, dtype=float) - low) / (high - low)

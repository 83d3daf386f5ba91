"""How a judge uses the scale beside people: leniency, spread, and the share of the top grade.

The judge's scale and people's may differ, so both are shares of their scale: 0 is its lowest grade, 1 its highest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, ratio
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
    one, raters = np.ones(len(rated)), np.array([len(values) for values in theirs], dtype=float)
    total, squares = (np.array([(values**power).sum() for values in theirs]) for power in (1, 2))

    def mean(above: Numbers, below: Numbers = one) -> Estimate:
        return bootstrap.estimate(
            float(above.sum() / below.sum()), lambda weights: ratio(weights, above, below), dialogues
        )

    def spread(weights: Numbers) -> Numbers:
        ours = ratio(weights, judge**2, one) - ratio(weights, judge, one) ** 2
        others = ratio(weights, squares, raters) - ratio(weights, total, raters) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.sqrt(np.maximum(ours, 0) / np.where(others > _ROUNDING, others, np.nan)), dtype=float)

    (spread_of_all,) = spread(np.ones((1, len(rated))))
    return Leniency(
        aspect=aspect,
        replies=len(rated),
        dialogues=len(set(dialogues)),
        judge=mean(judge),
        people=mean(people),
        difference=mean(judge - people),
        spread=bootstrap.estimate(float(spread_of_all), spread, dialogues)
        if np.isfinite(spread_of_all)
        else Estimate(None, reason=PEOPLE_CONSTANT),
        top=mean((judge >= 1).astype(float)),
        people_top=mean(np.array([(values >= 1).sum() for values in theirs], dtype=float), raters),
    )


def shares_of(values: Sequence[float], scale: Scale) -> Numbers:
    """Return ratings as shares of their scale."""
    low, high = scale
    return (np.asarray(values, dtype=float) - low) / (high - low)

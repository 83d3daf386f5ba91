"""Ratings: the mean of every system, and whether two systems differ (the paper's Table 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from localemp.metrics.significance import holm
from localemp.metrics.ttest import TTest, paired_t
from localemp.studies.stats.intervals import Bootstrap, Estimate
from localemp.studies.stats.matrix import RatingMatrix

NO_RATING = "nobody rated it"
NOT_BOTH = "no dialogue of which both were rated"


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean rating of one system.

    Attributes:
        system: Its name.
        aspect: What is rated.
        replies: How many of its replies were rated.
        mean: Over replies, after the raters of each are taken together.
    """

    system: str
    aspect: str
    replies: int
    mean: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {"system": self.system, "aspect": self.aspect, "replies": self.replies, **self.mean.as_dict()}


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two systems: a paired t-test over dialogues, after combining the raters of each reply.

    Attributes:
        first, second: The systems.
        aspect: What is rated.
        dialogues: On which both were rated.
        difference: The first's mean less the second's, on these.
        t_test: Of these dialogues, two-sided.
        p_holm: Its p, corrected for all tests that were made at once.
    """

    first: str
    second: str
    aspect: str
    dialogues: int
    difference: Estimate
    t_test: TTest
    p_holm: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict; t, p and the reason are repeated at the top level, where they used to be."""
        names = ("first", "second", "aspect", "dialogues", "p_holm")
        test = self.t_test.as_dict()
        told = {name: test[name] for name in ("t", "p", "reason") if test[name] or name != "reason"}
        figures = {"difference": self.difference.as_dict(), "t_test": test}
        return {**{name: getattr(self, name) for name in names}, **told, **figures}


def means(matrix: RatingMatrix, aspects: Sequence[str], systems: Sequence[str], bootstrap: Bootstrap) -> list[Mean]:
    """Compute the means of all systems and aspects."""
    found = []
    for aspect in aspects:
        for system in systems:
            rated = matrix.only(aspect, system)
            if not rated.units:
                found.append(Mean(system, aspect, 0, Estimate(None, reason=NO_RATING)))
                continue
            values = rated.combined()
            found.append(Mean(system, aspect, len(values), bootstrap.mean(values, rated.dialogues)))
    return found


def differences(
    matrix: RatingMatrix, aspects: Sequence[str], systems: Sequence[str], bootstrap: Bootstrap
) -> list[Difference]:
    """Compare all pairs of systems on all aspects, with Holm's correction over all of them."""
    found = [
        _difference(matrix, aspect, first, second, bootstrap)
        for first, second in combinations(systems, 2)
        for aspect in aspects
    ]
    corrected = holm([one.t_test.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def _difference(matrix: RatingMatrix, aspect: str, first: str, second: str, bootstrap: Bootstrap) -> Difference:
    one, other = (_by_dialogue(matrix.only(aspect, system)) for system in (first, second))
    both = [dialogue for dialogue in one if dialogue in other]
    if not both:
        return Difference(first, second, aspect, 0, Estimate(None, reason=NOT_BOTH), TTest(0, reason=NOT_BOTH))
    a, b = (np.array([values[dialogue] for dialogue in both]) for values in (one, other))
    return Difference(first, second, aspect, len(both), bootstrap.mean(a - b, both), paired_t(a - b))


def _by_dialogue(matrix: RatingMatrix) -> dict[str, float]:
    told: dict[str, list[float]] = {}
    for unit, value in zip(matrix.units, matrix.combined(), strict=True):
        told.setdefault(unit.dialogue, []).append(float(value))
    return {dialogue: float(np.mean(values)) for dialogue, values in told.items()}

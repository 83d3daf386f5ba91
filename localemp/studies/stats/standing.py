"""What people think of whole systems, held equal where a judge's preference for its own model is measured.

A few people see only roughly how good a single reply is. A judge that sees more would seem to prefer whichever model is
better, its own perhaps. Over all dialogues people's answers tell the systems apart well, so this enters a regression
as a term of its own (Mundlak 1978 does so for groups). It is computed anew in every sample: its noise is part of the
interval.
"""

from functools import partial
from typing import Protocol

import numpy as np

from localemp.studies.stats.intervals import Numbers
from localemp.studies.stats.regression import Fit, identified

UNSEEN = "too few systems to hold their standing with people equal: what people miss of quality is in the own effect"


class MixedFit(Protocol):
    """A regression whose terms may differ between samples, see `fit_logistic`."""

    def __call__(self, design: Numbers, answers: Numbers, weights: Numbers, mix: Numbers | None = None, /) -> Numbers:
        """Fit every sample."""


def hold_standing(
    terms: dict[str, Numbers | str], fit: MixedFit, systems: Numbers
) -> tuple[dict[str, Numbers | str], Fit, bool]:
    """Add the standing of the systems to the terms of a regression, if its effect can be told from theirs.

    Args:
        terms: Name -> column, or why there is none; "quality" is people's answer.
        fit: The regression.
        systems: One row an answer, one column a system: 1 for the system, -1 for the one it is compared with, else 0.

    Returns:
        The terms, the regression of these, and whether the standing is one of them.
    """
    people = terms["quality"]
    if isinstance(people, str):
        return terms, fit, False
    told = terms | {"standing": systems @ _standing(systems, people, np.ones((1, len(people))))[0]}
    columns = np.stack([term for term in told.values() if not isinstance(term, str)], axis=1)
    if not identified(columns)[-1]:
        return terms, fit, False
    return told, partial(_fit, fit, systems, people), True


def _standing(systems: Numbers, people: Numbers, weights: Numbers) -> Numbers:
    """Return people's mean answer for each system in samples; 0 where a sample has none."""
    often = weights @ np.abs(systems)
    return np.asarray(weights @ (systems * people[:, np.newaxis]) / np.maximum(often, 1), dtype=float)


def _fit(
    fit: MixedFit, systems: Numbers, people: Numbers, design: Numbers, answers: Numbers, weights: Numbers
) -> Numbers:
    """Fit a regression whose last column is the standing, with that of each sample in its place."""
    fixed, size = design.shape[1] - 1, systems.shape[1]
    mix = np.zeros((len(weights), fixed + size, fixed + 1))
    mix[:, :fixed, :fixed] = np.eye(fixed)
    mix[:, fixed:, fixed] = _standing(systems, people, weights)
    return fit(np.hstack([design[:, :fixed], systems]), answers, weights, mix)

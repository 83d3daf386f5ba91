"""Agreement between raters: Krippendorff's alpha, Fleiss' kappa, share of equal answers, Spearman between raters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from localemp.studies.stats.correlation import spearman
from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, Statistic
from localemp.studies.stats.matrix import RatingMatrix

NO_TWO = "nothing was answered by two raters"
CONSTANT = "all answers are the same"
_LARGEST = 30_000_000  # numbers that the package may keep


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement between the raters of some units.

    Attributes:
        aspect: The units' aspect; None for all.
        group: Their comparison or system; None for all.
        units: Items (A/B) or replies (rating) that two or more raters answered; each aspect counts as one.
        raters: Fewest and most raters of a unit.
        alpha: Krippendorff's, ordinal. A/B: of lose, tie and win of the first system, in this order.
        kappa: Fleiss', which knows only equal and unequal.
        kappa_units: The units that kappa is of: those that have the usual number of raters.
        equal: Share of equal answers among all pairs of raters of a unit.
        dialogues: That the units are of.
        spearman: Mean over pairs of raters, weighted by the units that both answered; where not all raters answered
            the same units, over the first, second, ... rater of each unit in place of raters.
    """

    aspect: str | None
    group: str | None
    units: int
    raters: tuple[int, int]
    alpha: Estimate
    kappa: Estimate
    kappa_units: int
    equal: Estimate
    dialogues: int
    spearman: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        names = ("aspect", "group", "units", "dialogues", "raters", "kappa_units")
        figures = ("alpha", "kappa", "equal", "spearman")
        told = {name: getattr(self, name) for name in names}
        return {**told, **{name: getattr(self, name).as_dict() for name in figures}}


def agreements(
    matrix: RatingMatrix, aspects: Sequence[str], groups: Sequence[str], bootstrap: Bootstrap
) -> list[Agreement]:
    """Compute agreement for every aspect, for all together, and within each group if there are several."""
    within = groups if len(groups) > 1 else ()
    parts = [*((aspect, None) for aspect in aspects), (None, None), *((None, group) for group in within)]
    return [agreement(matrix, aspect, group, bootstrap) for aspect, group in parts]


def agreement(matrix: RatingMatrix, aspect: str | None, group: str | None, bootstrap: Bootstrap) -> Agreement:
    """Compute agreement for an aspect or a group; over the whole matrix if both are None."""
    matrix = matrix.only(aspect, group)
    told = np.isfinite(matrix.values).sum(axis=0)
    units = tuple(unit for unit, count in zip(matrix.units, told, strict=True) if count > 1)
    shared = replace(matrix, units=units, values=matrix.values[:, told > 1])
    if not shared.units:
        none = Estimate(None, reason=NO_TWO)
        return Agreement(
            aspect=aspect,
            group=group,
            units=0,
            raters=(0, 0),
            alpha=none,
            kappa=none,
            kappa_units=0,
            equal=none,
            dialogues=0,
            spearman=none,
        )
    several = told[told > 1]
    counts = shared.counts(np.unique(shared.values[np.isfinite(shared.values)]).tolist())
    kappa, kappa_units = _kappa(counts)
    return Agreement(
        aspect=aspect,
        group=group,
        units=len(shared.units),
        raters=(int(several.min()), int(several.max())),
        alpha=_alpha(shared, counts, bootstrap),
        kappa=kappa,
        kappa_units=kappa_units,
        equal=Estimate(float((counts * (counts - 1)).sum() / (several * (several - 1)).sum())),
        dialogues=len(set(shared.dialogues)),
        spearman=_between_raters(shared),
    )


def alpha_of(counts: Numbers) -> Statistic:
    """Return ordinal Krippendorff's alpha of samples of units (Krippendorff 2019, chapter 12).

    Args:
        counts: How many raters gave each value, values in their order, one row a unit with two raters or more.
    """
    raters = counts.sum(axis=1)

    def statistic(weights: Numbers) -> Numbers:
        often = weights @ counts
        # The ordinal distance of two values is the difference of their middle ranks.
        ranks = often.cumsum(axis=1) - often / 2
        total = often.sum(axis=1)
        spread = raters * (ranks**2 @ counts.T) - (ranks @ counts.T) ** 2
        observed = (weights * spread / (raters - 1)).sum(axis=1)
        expected = total * (often * ranks**2).sum(axis=1) - (often * ranks).sum(axis=1) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan), dtype=float)

    return statistic


def _alpha(shared: RatingMatrix, counts: Numbers, bootstrap: Bootstrap) -> Estimate:
    import krippendorff

    if counts.shape[1] < 2:
        return Estimate(None, reason=CONSTANT)
    if counts.size * counts.shape[1] <= _LARGEST:
        value = krippendorff.alpha(value_counts=counts.astype(int), level_of_measurement="ordinal")
    else:  # the same figure; the package would keep a table of all pairs of values for every unit
        (value,) = alpha_of(counts)(np.ones((1, len(counts))))
    return bootstrap.estimate(float(value), alpha_of(counts), shared.dialogues)


def _kappa(counts: Numbers) -> tuple[Estimate, int]:
    from statsmodels.stats.inter_rater import fleiss_kappa

    raters = counts.sum(axis=1)
    numbers, often = np.unique(raters, return_counts=True)
    usual = counts[raters == numbers[often.argmax()]]
    if np.count_nonzero(usual.any(axis=0)) < 2:
        return Estimate(None, reason=CONSTANT), len(usual)
    return Estimate(float(fleiss_kappa(usual.astype(int)))), len(usual)


def _between_raters(shared: RatingMatrix) -> Estimate:
    pairs: list[tuple[int, Estimate]] = []
    for one, other in combinations(_places(shared.values), 2):
        both = np.isfinite(one) & np.isfinite(other)
        pairs.append((int(both.sum()), spearman(one[both], other[both])))
    most = max(units for units, _ in pairs)
    if why := next((found.reason for units, found in pairs if units == most and found.value is None), ""):
        return Estimate(None, reason=why)
    # A pair counts as much as it has units: the last raters of units may have one or two in common.
    known = [(found.value, units) for units, found in pairs if found.value is not None]
    values, weights = zip(*known, strict=True)
    return Estimate(float(np.average(values, weights=weights)))


def _places(values: Numbers) -> Numbers:
    """Return the raters; if each unit has its own, its first rater, its second, and so on."""
    if np.isfinite(values).all():
        return values
    most = int(np.isfinite(values).sum(axis=0).max())
    places = np.full((most, values.shape[1]), np.nan)
    for column in range(values.shape[1]):
        told = values[np.isfinite(values[:, column]), column]
        places[: len(told), column] = told
    return places

"""Correlation of a judge with people: Spearman and Kendall's tau-b (the paper's Table 6), and the human ceiling.

Both are of numbers: ratings as they are (people's mean, or majority), choices as 1, 0 and -1 for win, tie and lose of
a comparison's first system (people's majority), as the paper does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, Statistic
from localemp.studies.stats.matrix import RatingMatrix

_AT_ONCE = 250_000  # numbers of a step, which stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The human ceiling: a single person's correlation with the others. No judge can be expected to do much better.

    Attributes:
        value: Mean over raters, each against all others of the units that both sides answered, weighted by these units;
            None where there is none.
        lowest, highest: Of the raters with at least half as many such units as the one with most.
        raters: How many have a value.
    """

    value: float | None
    lowest: float | None = None
    highest: float | None = None
    raters: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {name: getattr(self, name) for name in ("value", "lowest", "highest", "raters")}


@dataclass(frozen=True, slots=True)
class Correlation:
    """Correlation of a judge's answers with people's.

    Attributes:
        aspect: What was asked; None for all aspects together.
        group: The comparison or system; None for all together.
        units: Items (A/B) or replies (rating) that both answered; each aspect counts as one.
        dialogues: That the units are of.
        spearman, tau_b: Of the judge with the people.
        person_spearman, person_tau_b: The same of single people with the others.
    """

    aspect: str | None
    group: str | None
    units: int
    dialogues: int
    spearman: Estimate
    tau_b: Estimate
    person_spearman: Ceiling
    person_tau_b: Ceiling

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        figures = ("spearman", "tau_b", "person_spearman", "person_tau_b")
        told = {name: getattr(self, name) for name in ("aspect", "group", "units", "dialogues")}
        return {**told, **{name: getattr(self, name).as_dict() for name in figures}}


def correlations(
    judge: RatingMatrix, people: RatingMatrix, aspects: Sequence[str], groups: Sequence[str], bootstrap: Bootstrap
) -> list[Correlation]:
    """Correlate over all comparisons (or systems), then within each if several; by aspect, then all together."""
    within: list[str | None] = [None, *(groups if len(groups) > 1 else ())]
    parts: list[str | None] = [*aspects, *([None] if len(aspects) > 1 else [])]
    return [_correlation(judge, people, aspect, group, bootstrap) for group in within for aspect in parts]


def spearman(x: Numbers, y: Numbers) -> Estimate:
    """Return Spearman's rank correlation without an interval; None if one side is constant."""
    from scipy.stats import spearmanr

    reason = undefined(x, y)
    return Estimate(None, reason=reason) if reason else Estimate(float(spearmanr(x, y).statistic))


def kendall(x: Numbers, y: Numbers) -> Estimate:
    """Return Kendall's tau-b without an interval; None if one side is constant."""
    from scipy.stats import kendalltau

    reason = undefined(x, y)
    return Estimate(None, reason=reason) if reason else Estimate(float(kendalltau(x, y).statistic))


def spearman_with_interval(x: Numbers, y: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    """Return Spearman's rank correlation with its interval."""
    return _with_interval(spearman(x, y), spearman_of, x, y, dialogues, bootstrap)


def kendall_with_interval(x: Numbers, y: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    """Return Kendall's tau-b with its interval."""
    return _with_interval(kendall(x, y), kendall_of, x, y, dialogues, bootstrap)


def _with_interval(
    point: Estimate,
    samples: Callable[[Numbers, Numbers], Statistic],
    x: Numbers,
    y: Numbers,
    dialogues: Sequence[str],
    bootstrap: Bootstrap,
) -> Estimate:
    if point.value is None:
        return point
    # Answers that are the same on both sides count as one that was drawn more often: choices have few different ones.
    pairs, of = np.unique(np.column_stack([x, y]), axis=0, return_inverse=True)
    names, place = np.unique(np.asarray(dialogues, dtype=str), return_inverse=True)
    often = np.zeros((len(names), len(pairs)))
    np.add.at(often, (place, of.ravel()), 1)
    statistic, step = samples(*pairs.T), max(1, _AT_ONCE // len(pairs))

    def by_steps(weights: Numbers) -> Numbers:
        starts = range(0, len(weights), step)
        return np.concatenate([statistic(weights[start : start + step] @ often) for start in starts])

    return bootstrap.estimate(point.value, by_steps, names.tolist())


def spearman_of(x: Numbers, y: Numbers) -> Statistic:
    """Return Spearman's correlation of samples, from the mid-ranks of values in each sample."""
    places = [np.unique(values, return_inverse=True)[1] for values in (x, y)]

    def statistic(weights: Numbers) -> Numbers:
        total = weights.sum(axis=1)
        ranks = []
        for of in places:
            often = _sums(weights, of)
            # Less their mean, which is half the number of answers.
            ranks.append((often.cumsum(axis=1) - often / 2)[:, of] - total[:, np.newaxis] / 2)
        first, second = ranks
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.sqrt((weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1))
            return np.asarray((weights * first * second).sum(axis=1) / spread, dtype=float)

    return statistic


def kendall_of(x: Numbers, y: Numbers) -> Statistic:
    """Return Kendall's tau-b of samples, from contingency tables of drawn pairs."""
    first, second = (np.unique(values, return_inverse=True)[1] for values in (x, y))
    if first.max() > second.max():  # long rows are summed faster than long columns
        first, second = second, first
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    cells, cell = np.unique(first * columns + second, return_inverse=True)

    def statistic(weights: Numbers) -> Numbers:
        often = _sums(weights, cell)
        step = max(1, _AT_ONCE // (rows * columns))
        found = [_tau_b(_tables(often[start : start + step])) for start in range(0, len(often), step)]
        return np.concatenate(found)

    def _tables(often: Numbers) -> Numbers:
        tables = np.zeros((len(often), rows * columns))
        tables[:, cells] = often
        return tables.reshape(-1, rows, columns)

    return statistic


def undefined(x: Numbers, y: Numbers, one: str = "one rater's", other: str = "another's") -> str:
    """Return why two raters' answers have no correlation; empty if they have one."""
    if not len(x):
        return "no answer in common"
    if len(x) < 2:
        return "only one answer in common"
    constant = [whose for whose, values in ((one, x), (other, y)) if np.ptp(values) == 0]
    return f"{' and '.join(constant)} answers are all the same" if constant else ""


def _sums(weights: Numbers, of: NDArray[np.intp]) -> Numbers:
    """Return the sum of the weights of each place: `of` has that of every column, and each place has one."""
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(of.max() + 1))
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1), dtype=float)


def _tau_b(tables: Numbers) -> Numbers:
    lower = tables.cumsum(axis=1)
    balance = 2 * lower - tables - lower[:, -1:]  # how many are lower in the first, less how many are higher
    below = balance.cumsum(axis=2) - balance  # of those that are lower in the second
    excess = np.einsum("tij,tij->t", tables, below)
    total = tables.sum(axis=(1, 2))
    untied = [(total**2 - (tables.sum(axis=axis) ** 2).sum(axis=1)) / 2 for axis in (1, 2)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(excess / np.sqrt(untied[0] * untied[1]), dtype=float)


def _correlation(
    judge: RatingMatrix, people: RatingMatrix, aspect: str | None, group: str | None, bootstrap: Bootstrap
) -> Correlation:
    theirs = people.only(aspect, group)
    said = dict(zip(judge.units, judge.combined(), strict=True))
    x, y = np.array([said[unit] for unit in theirs.units], dtype=float), theirs.combined()
    both = np.isfinite(x)
    x, y, dialogues = x[both], y[both], [unit.dialogue for unit in theirs.units if np.isfinite(said[unit])]
    reason = undefined(x, y, "the judge's", "people's")
    none = Estimate(None, reason=reason)
    return Correlation(
        aspect=aspect,
        group=group,
        units=len(x),
        dialogues=len(set(dialogues)),
        spearman=none if reason else spearman_with_interval(x, y, dialogues, bootstrap),
        tau_b=none if reason else kendall_with_interval(x, y, dialogues, bootstrap),
        person_spearman=_ceiling(theirs, spearman),
        person_tau_b=_ceiling(theirs, kendall),
    )


def _ceiling(people: RatingMatrix, measure: Callable[[Numbers, Numbers], Estimate]) -> Ceiling:
    found: list[tuple[float, int]] = []
    for row in range(len(people.raters)):
        told = np.isfinite(people.values[row])
        without = np.delete(people.values[:, told], row, axis=0)
        units = tuple(unit for unit, answered in zip(people.units, told, strict=True) if answered)
        others = replace(people, raters=(), units=units, values=without).combined()
        both = np.isfinite(others)
        value = measure(people.values[row, told][both], others[both]).value
        found += [] if value is None else [(value, int(both.sum()))]
    if not found:
        return Ceiling(None)
    most = max(units for _, units in found)
    ends = [value for value, units in found if 2 * units >= most]
    mean = fmean((value for value, _ in found), (units for _, units in found))
    return Ceiling(mean, min(ends), max(ends), len(found))

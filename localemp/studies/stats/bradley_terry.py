"""Strengths of systems from choices between two (Bradley and Terry 1952): P(i beats j) = logistic(s_i - s_j).

A tie, or a probability, counts as that share of a win. Strengths are log odds around a mean of 0. They are maximum
likelihood without a penalty, which exists where every system has, directly or through others, both won and lost
against every other (Ford 1957). A system for which this does not hold has no strength: it won everything, lost
everything, or was not compared with the rest. The largest group for which it holds is the one that is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers
from localemp.studies.stats.judged import PairChoice
from localemp.studies.stats.regression import fit_logistic, logistic

WON_ALL = "won every choice against the systems with a strength: no finite one fits"
LOST_ALL = "lost every choice against the systems with a strength: no finite one fits"
APART = "not compared with the systems that have a strength"
NO_GROUP = "no two systems have both won and lost against each other"


@dataclass(frozen=True, slots=True)
class Strength:
    """One system among the others.

    Attributes:
        system: Its name.
        choices: That it was one of the two in; each shown order for itself.
        dialogues: That they are of.
        won: Mean share of these choices.
        strength: Log odds against a system of mean strength.
        win: The same as a probability: how often it beats a system of mean strength.
    """

    system: str
    choices: int
    dialogues: int
    won: Estimate
    strength: Estimate
    win: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("system", "choices", "dialogues")}
        return {**told, **{name: getattr(self, name).as_dict() for name in ("won", "strength", "win")}}


def bradley_terry(choices: Sequence[PairChoice], bootstrap: Bootstrap) -> list[Strength]:
    """Measure the strength of every system, strongest first; those without a strength last.

    Args:
        choices: Of one judge, of two or more systems. Show each pair in both orders, or the place enters the strength.
        bootstrap: How the intervals are drawn.
    """
    systems = list(dict.fromkeys(system for choice in choices for system in (choice.first, choice.second)))
    place = {system: number for number, system in enumerate(systems)}
    pairs = np.array([(place[choice.first], place[choice.second]) for choice in choices], dtype=int).reshape(-1, 2)
    shares, dialogues = np.array([choice.share for choice in choices]), [choice.dialogue for choice in choices]
    strengths = _strengths(pairs, shares, len(systems), dialogues, bootstrap)
    found = [
        _strength(system, pairs == number, shares, dialogues, strengths[number], bootstrap)
        for number, system in enumerate(systems)
    ]
    return sorted(found, key=lambda one: -np.inf if one.strength.value is None else one.strength.value, reverse=True)


def strengths_of(wins: Numbers) -> Numbers:
    """Fit the model to tables of wins.

    Args:
        wins: How often each row's system beat each column's, one table a sample.

    Returns:
        One row a sample, one column a system, with a mean of 0; NaN where a sample has no finite estimate.
    """
    size = wins.shape[1]
    one, other = np.nonzero(~np.eye(size, dtype=bool))
    systems = np.eye(size)
    # A logistic regression with one answer, 1, for each cell; the last system is at 0 until all are centred.
    found = fit_logistic((systems[one] - systems[other])[:, :-1], np.ones(len(one)), wins[:, one, other])
    strengths = np.column_stack([found, np.where(np.isfinite(found[:, :1]), 0.0, np.nan)])
    return np.asarray(strengths - strengths.mean(axis=1, keepdims=True), dtype=float)


def _strengths(
    pairs: NDArray[np.intp], shares: Numbers, size: int, dialogues: Sequence[str], bootstrap: Bootstrap
) -> dict[int, Estimate]:
    # A choice adds its share to the cell of its two systems, and the rest of 1 to the cell across the diagonal.
    table = np.zeros((len(pairs), size, size))
    rows, (first, second) = np.arange(len(pairs)), pairs.T
    table[rows, first, second], table[rows, second, first] = shares, 1 - shares
    group, reasons = _comparable(table.sum(axis=0))
    found = {system: Estimate(None, reason=reason) for system, reason in reasons.items()}
    if group:
        inside, side = table[:, group][:, :, group].reshape(len(pairs), -1), len(group)
        each = bootstrap.of_sums(inside, lambda sums: strengths_of(sums.reshape(-1, side, side)), dialogues)
        found |= zip(group, each, strict=True)
    return found


def _strength(
    system: str,
    shown: NDArray[np.bool_],
    shares: Numbers,
    dialogues: Sequence[str],
    strength: Estimate,
    bootstrap: Bootstrap,
) -> Strength:
    among = np.asarray(shown.any(axis=1))
    won, counted = np.where(shown[:, 0], shares, 1 - shares) * among, among.astype(float)
    return Strength(
        system=system,
        choices=int(among.sum()),
        dialogues=len({dialogues[row] for row in np.flatnonzero(among)}),
        won=bootstrap.ratio(won, counted, dialogues),
        strength=strength,
        win=strength.mapped(logistic),
    )


def _comparable(wins: Numbers) -> tuple[list[int], dict[int, str]]:
    """Return the largest group of systems that have strengths, and why each other has none."""
    from scipy.sparse.csgraph import connected_components

    if not len(wins):
        return [], {}
    _, group_of = connected_components(wins > 0, connection="strong")
    largest = int(np.bincount(group_of).argmax())
    group = np.flatnonzero(group_of == largest)
    if len(group) < 2:
        return [], dict.fromkeys(range(len(wins)), NO_GROUP)
    reasons = {}
    for system in np.flatnonzero(group_of != largest):
        reasons[int(system)] = _apart(won=wins[system, group].sum() > 0, lost=wins[group, system].sum() > 0)
    return [int(system) for system in group], reasons


def _apart(*, won: bool, lost: bool) -> str:
    """Say why a system that won, lost or neither against the largest group is not in it."""
    if won and not lost:
        return WON_ALL
    return LOST_ALL if lost else APART

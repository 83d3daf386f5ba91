"""Regression of a judge's answers for many samples at once: logistic, of shares (0 to 1), and linear, of ratings."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers

NO_ANSWER = "it answered nothing"
CONSTANT = "all of its answers are the same"
ENTANGLED = "varies only together with the other terms here, so that its effect cannot be told from theirs"
SEPARATED = "the terms tell its answers without error, so that no finite effect fits"
_STEPS, _TOLERANCE, _LARGEST_STEP = 25, 1e-5, 2.0  # a step below the tolerance leaves an error of its square
_EXTREME = 18.0  # log odds beyond which an estimate is on its way to infinity
_SINGULAR = 1e-10  # least share of the largest eigenvalue: below it a sample lacks what tells two columns apart

# Design (one row an answer, one column a term), answers, weights (one row a sample) -> coefficients (one row a sample).
Fit = Callable[[Numbers, Numbers, Numbers], Numbers]


def estimated(
    terms: Mapping[str, Numbers | str], answers: Numbers, fit: Fit, dialogues: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """Estimate the effect of every term on the answers, with the others held equal.

    Args:
        terms: Name -> its value for every answer, or why the term is not in the model.
        answers: Shares or ratings.
        fit: Which regression.
        dialogues: Of every answer.
        bootstrap: How the intervals are drawn.
    """
    found = {name: Estimate(None, reason=term) for name, term in terms.items() if isinstance(term, str)}
    columns = {name: term for name, term in terms.items() if not isinstance(term, str)}
    if not len(answers) or np.ptp(answers) == 0:
        return dict.fromkeys(columns, Estimate(None, reason=CONSTANT if len(answers) else NO_ANSWER)) | found
    everything = np.stack(list(columns.values()), axis=1)
    kept = independent(everything)
    design = everything[:, kept]
    (point,) = fit(design, answers, np.ones((1, len(answers))))
    if not np.isfinite(point).all():
        return dict.fromkeys(columns, Estimate(None, reason=SEPARATED)) | found
    each = bootstrap.estimates(point.tolist(), lambda weights: fit(design, answers, weights), dialogues)
    names = list(columns)
    found |= {names[column]: estimate for column, estimate in zip(kept, each, strict=True)}
    alone = zip(names, identified(everything), strict=True)
    return found | {name: Estimate(None, reason=ENTANGLED) for name, is_alone in alone if not is_alone}


def logistic(x: Numbers) -> Numbers:
    """Return the probability of log odds."""
    found = np.tanh(x / 2)
    found += 1
    found /= 2
    return np.asarray(found, dtype=float)


def fit_logistic(design: Numbers, shares: Numbers, weights: Numbers, mix: Numbers | None = None) -> Numbers:
    """Fit a binomial model with a logit link to every sample, by Newton's method.

    Args:
        design: One row an answer, one column a term; its columns are independent.
        shares: Of every answer, 0 to 1.
        weights: One row a sample, one column an answer.
        mix: For terms that differ between samples: one matrix a sample, whose columns are the terms as sums of the
            design's columns. Without it these are the terms.

    Returns:
        One row a sample, one column a term: log odds. NaN where the likelihood has no maximum: the answers are
        separated, or the sample lacks what tells two columns apart.
    """
    found, left = climb(design, shares, weights, mix)
    found[left] = np.nan
    found[np.abs(found).max(axis=1) > _EXTREME] = np.nan
    return found


def climb(
    design: Numbers, shares: Numbers, weights: Numbers, mix: Numbers | None = None
) -> tuple[Numbers, NDArray[np.intp]]:
    """Follow the likelihood of `fit_logistic` upwards.

    Returns:
        The coefficients, and the samples in which they grow without end. What these predict has come to its limit.
    """
    columns = design.shape[1]
    mix = np.broadcast_to(np.eye(columns), (len(weights), columns, columns)) if mix is None else mix
    start = np.zeros((1, mix.shape[2]))
    if len(weights) > 1:  # all samples begin where their mean ends
        mean, endless = climb(design, shares, weights.mean(axis=0, keepdims=True), mix.mean(axis=0, keepdims=True))
        start = mean if np.isfinite(mean).all() and not len(endless) else start
    found, outer = start.repeat(len(weights), axis=0), _outer(design)
    left = np.arange(len(weights))  # samples that have not converged
    for _ in range(_STEPS):
        here, mixed, turned = weights[left], mix[left], mix[left].transpose(0, 2, 1)
        expected = logistic((mixed @ found[left][:, :, np.newaxis])[:, :, 0] @ design.T)
        score = turned @ ((here * (shares - expected)) @ design)[:, :, np.newaxis]
        information = _square((here * expected * (1 - expected)) @ outer, columns)
        step = _solved(turned @ information @ mixed, score[:, :, 0])
        largest = np.abs(step).max(axis=1)
        found[left] += step * (_LARGEST_STEP / np.maximum(largest, _LARGEST_STEP))[:, np.newaxis]
        left = left[largest > _TOLERANCE]  # not those without a solution: NaN is not greater
        if not len(left):
            break
    return found, left


def fit_linear(design: Numbers, answers: Numbers, weights: Numbers, mix: Numbers | None = None) -> Numbers:
    """Fit least squares to every sample.

    Args:
        design: One row an answer, one column a term; its columns are independent.
        answers: One number each.
        weights: One row a sample, one column an answer.
        mix: As in `fit_logistic`.

    Returns:
        One row a sample, one column a term; NaN where the sample lacks what tells two columns apart.
    """
    columns = design.shape[1]
    information, score = _square(weights @ _outer(design), columns), (weights * answers) @ design
    if mix is None:
        return _solved(information, score)
    turned = mix.transpose(0, 2, 1)
    return _solved(turned @ information @ mix, (turned @ score[:, :, np.newaxis])[:, :, 0])


def identified(design: Numbers) -> list[bool]:
    """Return which columns no combination of the others gives: only these have a coefficient of their own."""
    rank = _rank(design)
    return [_rank(np.delete(design, column, axis=1)) < rank for column in range(design.shape[1])]


def _rank(design: Numbers) -> int:
    return int(np.linalg.matrix_rank(design)) if design.size else 0  # numpy has none of nothing


def independent(design: Numbers) -> list[int]:
    """Return the columns that no combination of earlier ones gives."""
    kept: list[int] = []
    for column in range(design.shape[1]):
        if _rank(design[:, [*kept, column]]) > len(kept):
            kept.append(column)
    return kept


def _outer(design: Numbers) -> Numbers:
    """Return the products of each two columns, each two once: one row an answer."""
    one, other = np.triu_indices(design.shape[1])
    return np.asarray(design[:, one] * design[:, other], dtype=float)


def _square(products: Numbers, columns: int) -> Numbers:
    """Return sums of `_outer` as symmetric matrices, one a sample."""
    one, other = np.triu_indices(columns)
    found = np.empty((len(products), columns, columns))
    found[:, one, other] = found[:, other, one] = products
    return found


def _solved(information: Numbers, score: Numbers) -> Numbers:
    """Solve one system of equations a sample; NaN where it is singular."""
    spread = np.linalg.eigvalsh(information)
    solvable = spread[:, 0] > _SINGULAR * spread[:, -1]
    found = np.full(score.shape, np.nan)
    found[solvable] = np.linalg.solve(information[solvable], score[solvable][:, :, np.newaxis])[:, :, 0]
    return found

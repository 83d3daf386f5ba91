"""Logistic regression of shares (0 to 1) for many samples at once, by Newton's method.

The coefficients are those of a binomial GLM with a logit link and frequency weights. Where the answers are separated,
that is where some combination of the columns tells them without error, the likelihood has no maximum: NaN.
"""

import numpy as np

from localemp.studies.stats.intervals import Numbers

SEPARATED = "the answers follow from the other columns without error, so the model has no finite estimate"
_STEPS, _TOLERANCE, _LARGEST_STEP = 25, 1e-8, 2.0
_EXTREME = 18.0  # log odds beyond which a coefficient is on its way to infinity
_SINGULAR = 1e-10  # least share of the largest eigenvalue: below it a sample lacks what tells two columns apart


def logistic(x: Numbers) -> Numbers:
    """Return the probability of log odds."""
    return np.asarray(0.5 * (1 + np.tanh(x / 2)), dtype=float)


def fit(design: Numbers, shares: Numbers, weights: Numbers, start: Numbers | None = None) -> Numbers:
    """Fit the model to every sample.

    Args:
        design: One row an answer, one column a coefficient; its columns are independent.
        shares: Of every answer, 0 to 1.
        weights: One row a sample, one column an answer.
        start: Coefficients near the solution, such as those of all answers.

    Returns:
        One row a sample, one column a coefficient; NaN where there is no finite estimate.
    """
    answers, columns = design.shape
    outer = (design[:, :, np.newaxis] * design[:, np.newaxis, :]).reshape(answers, -1)
    found = np.tile(np.zeros(columns) if start is None else start, (len(weights), 1))
    left = np.arange(len(weights))  # samples that have not converged
    for _ in range(_STEPS):
        expected = logistic(found[left] @ design.T)
        information = ((weights[left] * expected * (1 - expected)) @ outer).reshape(-1, columns, columns)
        spread = np.linalg.eigvalsh(information)
        solvable = spread[:, 0] > _SINGULAR * spread[:, -1]
        found[left[~solvable]] = np.nan
        left, expected = left[solvable], expected[solvable]
        score = (weights[left] * (shares - expected)) @ design
        step = np.linalg.solve(information[solvable], score[:, :, np.newaxis])[:, :, 0]
        largest = np.abs(step).max(axis=1)
        found[left] += step * (_LARGEST_STEP / np.maximum(largest, _LARGEST_STEP))[:, np.newaxis]
        left = left[largest > _TOLERANCE]
        if not len(left):
            break
    found[left] = np.nan
    extreme = np.abs(found @ design.T).max(axis=1, initial=0.0) > _EXTREME
    found[extreme] = np.nan
    return found


def identified(design: Numbers) -> list[bool]:
    """Return which columns no combination of the others gives: only these have a coefficient of their own."""
    rank = np.linalg.matrix_rank(design)
    return [np.linalg.matrix_rank(np.delete(design, column, axis=1)) < rank for column in range(design.shape[1])]


def independent(design: Numbers) -> list[int]:
    """Return columns that give all the others, the earliest that do."""
    kept: list[int] = []
    for column in range(design.shape[1]):
        if np.linalg.matrix_rank(design[:, [*kept, column]]) > len(kept):
            kept.append(column)
    return kept

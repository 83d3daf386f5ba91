"""How many independent judges several are worth: n / (1 + (n - 1) * mean correlation of their errors).

This is Kish's effective sample size (Kish 1965), as Kohli (2026, "Nine Judges, Two Effective Votes", arXiv
2605.29800) has it for panels of LLM judges. An error is the judge's answer less people's. Noise in people's answers
is a part of every judge's error, so correlations are rather too high and the number too low. Without people's answers
the correlation is that of the answers: judges who are all right agree too, so that the number is a lower bound.
Correlations are Pearson's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers

ONE_JUDGE = "one judge has no other to compare with"
NO_UNIT = "all judges answered fewer than two of the same questions"
_ROUNDING = 1e-12  # a variance below this is 0


@dataclass(frozen=True, slots=True)
class EffectiveJudges:
    """What several judges are worth together.

    Attributes:
        judges: Their names.
        units: What all of them answered.
        dialogues: That it is of.
        of: What is correlated: their errors (people answered all of it) or their answers.
        correlations: Of each two judges.
        mean: Of these.
        effective: The number of independent judges, from 1 to how many there are.
    """

    judges: tuple[str, ...]
    units: int
    dialogues: int
    of: Literal["errors", "answers"]
    correlations: Mapping[tuple[str, str], Estimate]
    mean: Estimate
    effective: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {"judges": list(self.judges), **{name: getattr(self, name) for name in ("units", "dialogues", "of")}}
        each = [{"judges": list(two), **estimate.as_dict()} for two, estimate in self.correlations.items()]
        return {**told, "correlations": each, "mean": self.mean.as_dict(), "effective": self.effective.as_dict()}


def effective_judges(
    answers: Mapping[str, Numbers], people: Numbers | None, dialogues: Sequence[str], bootstrap: Bootstrap
) -> EffectiveJudges:
    """Measure what several judges are worth together.

    Args:
        answers: Judge -> one number a unit: a share for one of two replies (`both_orders`), or a rating as a share
            of its scale; NaN is no answer.
        people: The same of people; None where they were not asked.
        dialogues: Of every unit.
        bootstrap: How the intervals are drawn.
    """
    judges = tuple(answers)
    values = np.array([answers[judge] for judge in judges], dtype=float).reshape(len(judges), -1)
    told = np.isfinite(values).all(axis=0)
    values, kept = values[:, told], [dialogues[unit] for unit in np.flatnonzero(told)]
    if people is None or not np.isfinite(people[told]).all():
        return _measured(judges, values, kept, "answers", bootstrap)
    return _measured(judges, values - people[told], kept, "errors", bootstrap)


def effective_number(judges: int, correlation: Numbers) -> Numbers:
    """Return Kish's effective number; a negative correlation counts as none."""
    return np.asarray(judges / (1 + (judges - 1) * np.maximum(correlation, 0)), dtype=float)


def _measured(
    judges: tuple[str, ...],
    values: Numbers,
    dialogues: Sequence[str],
    of: Literal["errors", "answers"],
    bootstrap: Bootstrap,
) -> EffectiveJudges:
    pairs = list(combinations(range(len(judges)), 2))
    if reason := _without_value(judges, values, of):
        none = Estimate(None, reason=reason)
        found = [none] * (len(pairs) + 2)
    else:
        one, other = np.array(pairs).T
        centred = values - values.mean(axis=1, keepdims=True)  # what a sum of squares loses to rounding is least so
        products = (centred[:, np.newaxis] * centred).reshape(len(judges) ** 2, -1)

        def figures(sums: Numbers) -> Numbers:
            each = _correlations(sums, len(judges))[:, one, other]
            mean = each.mean(axis=1)
            return np.column_stack([each, mean, effective_number(len(judges), mean)])

        units = np.vstack([np.ones_like(centred[:1]), centred, products]).T
        found = bootstrap.of_sums(units, figures, dialogues)
    return EffectiveJudges(
        judges=judges,
        units=values.shape[1],
        dialogues=len(set(dialogues)),
        of=of,
        correlations={(judges[a], judges[b]): each for (a, b), each in zip(pairs, found, strict=False)},
        mean=found[-2],
        effective=found[-1],
    )


def _without_value(judges: tuple[str, ...], values: Numbers, of: str) -> str:
    """Say why there is no correlation; empty if there is one."""
    if len(judges) < 2:
        return ONE_JUDGE
    if values.shape[1] < 2:
        return NO_UNIT
    constant = [judge for judge, row in zip(judges, values, strict=True) if np.ptp(row) == 0]
    return f"the {of} of {', '.join(constant)} are all the same" if constant else ""


def _correlations(sums: Numbers, judges: int) -> Numbers:
    """Return Pearson's correlations of each two judges: one matrix a sample, NaN for judges who always say the same.

    Args:
        sums: One row a sample: how many units, the sum of each judge's values, and of the products of each two.
        judges: How many.
    """
    means, moments = np.split(sums[:, 1:] / sums[:, :1], [judges], axis=1)
    spread = moments.reshape(-1, judges, judges) - means[:, :, np.newaxis] * means[:, np.newaxis, :]
    variances = np.diagonal(spread, axis1=1, axis2=2)
    deviations = np.sqrt(np.where(variances > _ROUNDING, variances, np.nan))
    return np.asarray(spread / (deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :]), dtype=float)

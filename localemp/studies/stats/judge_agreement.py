"""Agreement of a judge's choices with people's: accuracy, Cohen's kappa, Kendall's tau-b, Spearman.

The orders that a pair was shown in are averaged first. Which system of a pair is named first is arbitrary, so each
pair counts in both directions: the figures do not depend on names, and a judge that always prefers one system gains
nothing from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.studies.stats.correlation import kendall, kendall_of, spearman, spearman_of
from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, Statistic, ratio
from localemp.studies.stats.judged import PairChoice, both_orders

NO_ANSWER = "people answered none of it"
NO_PREFERENCE = "people prefer neither reply of any pair"
ALL_TIES = "one side answers with ties alone"


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """One judge beside people.

    Attributes:
        pairs: Pairs of replies (each aspect counts as one) that both answered.
        dialogues: That they are of.
        accuracy: Share of the pairs with a preference of people in which the judge prefers the same reply; its ties
            count half.
        kappa: Cohen's, of first, second and tie: agreement beyond chance.
        tau_b: Kendall's, of the judge's share with people's.
        spearman: The same by ranks.
    """

    pairs: int
    dialogues: int
    accuracy: Estimate
    kappa: Estimate
    tau_b: Estimate
    spearman: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        figures = ("accuracy", "kappa", "tau_b", "spearman")
        told = {"pairs": self.pairs, "dialogues": self.dialogues}
        return {**told, **{name: getattr(self, name).as_dict() for name in figures}}


def judge_agreement(choices: Sequence[PairChoice], bootstrap: Bootstrap) -> JudgeAgreement:
    """Measure how far a judge's choices are people's; choices that people did not make are left out."""
    known = [choice for choice in both_orders(choices) if choice.people is not None]
    if not known:
        none = Estimate(None, reason=NO_ANSWER)
        return JudgeAgreement(0, 0, none, none, none, none)
    judge = np.array([2 * choice.share - 1 for choice in known])
    people = np.array([2 * (choice.people or 0) - 1 for choice in known])
    dialogues = [choice.dialogue for choice in known]
    x, y, twice = np.concatenate([judge, -judge]), np.concatenate([people, -people]), dialogues * 2

    def correlated(value: float | None, samples: Callable[[Numbers, Numbers], Statistic]) -> Estimate:
        return Estimate(None, reason=ALL_TIES) if value is None else bootstrap.estimate(value, samples(x, y), twice)

    return JudgeAgreement(
        pairs=len(known),
        dialogues=len(set(dialogues)),
        accuracy=_accuracy(judge, people, dialogues, bootstrap),
        kappa=_kappa(np.sign(x), np.sign(y), twice, bootstrap),
        tau_b=correlated(kendall(x, y).value, kendall_of),
        spearman=correlated(spearman(x, y).value, spearman_of),
    )


def _accuracy(judge: Numbers, people: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    decided = (people != 0).astype(float)
    if not decided.any():
        return Estimate(None, reason=NO_PREFERENCE)
    right = decided * (1 + np.sign(judge) * np.sign(people)) / 2
    return bootstrap.estimate(
        float(right.sum() / decided.sum()), lambda weights: ratio(weights, right, decided), dialogues
    )


def _kappa(judge: Numbers, people: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    values = np.array([-1.0, 0.0, 1.0])
    ours, theirs = judge[:, np.newaxis] == values, people[:, np.newaxis] == values

    def statistic(weights: Numbers) -> Numbers:
        total = weights.sum(axis=1)
        equal = weights @ (judge == people) / total
        chance = ((weights @ ours) * (weights @ theirs)).sum(axis=1) / total**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(chance < 1, (equal - chance) / (1 - chance), np.nan), dtype=float)

    (value,) = statistic(np.ones((1, len(judge))))
    return (
        bootstrap.estimate(float(value), statistic, dialogues)
        if np.isfinite(value)
        else Estimate(None, reason=ALL_TIES)
    )

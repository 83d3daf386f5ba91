"""Agreement of a judge's choices with people's: accuracy, Cohen's kappa, Kendall's tau-b, Spearman.

The orders that a pair was shown in are averaged first. Which system of a pair is named first is arbitrary, so each
pair counts in both directions: the figures do not depend on names, and a judge that always prefers one system gains
nothing from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.studies.stats.correlation import kendall_with_interval, spearman_with_interval
from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, ratio
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
    is_tied = not (judge.any() and people.any())
    tied = Estimate(None, reason=ALL_TIES)
    return JudgeAgreement(
        pairs=len(known),
        dialogues=len(set(dialogues)),
        accuracy=_accuracy(judge, people, dialogues, bootstrap),
        kappa=_kappa(np.sign(x), np.sign(y), twice, bootstrap),
        tau_b=tied if is_tied else kendall_with_interval(x, y, twice, bootstrap),
        spearman=tied if is_tied else spearman_with_interval(x, y, twice, bootstrap),
    )


def _accuracy(judge: Numbers, people: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    decided = (people != 0).astype(float)
    if not decided.any():
        return Estimate(None, reason=NO_PREFERENCE)
    right = decided * (1 + np.sign(judge) * np.sign(people)) / 2
    return bootstrap.ratio(right, decided, dialogues)


def _kappa(judge: Numbers, people: Numbers, dialogues: Sequence[str], bootstrap: Bootstrap) -> Estimate:
    answers = np.array([-1.0, 0.0, 1.0])
    ours, theirs = judge[:, np.newaxis] == answers, people[:, np.newaxis] == answers
    units = np.column_stack([np.ones_like(judge), judge == people, ours, theirs])

    def figures(sums: Numbers) -> Numbers:
        shares = sums / sums[:, :1]
        equal, chance = shares[:, 1], (shares[:, 2:5] * shares[:, 5:]).sum(axis=1)
        return ratio(equal - chance, 1 - chance)[:, np.newaxis]

    (found,) = bootstrap.of_sums(units, figures, dialogues)
    return found if found.value is not None else Estimate(None, reason=ALL_TIES)

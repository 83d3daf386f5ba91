"""Win rates corrected by a judge's measured errors (Rogan and Gladen 1978; Lee et al. 2025, arXiv 2511.21140).

A judge prefers one system in a share p of all pairs. Where people answered, its sensitivity q1 is its share for that
system among the pairs in which people prefer that one, its specificity q0 the same for the other. People would prefer
the system in

    (p + q0 - 1) / (q0 + q1 - 1)

of all pairs, cut to 0 to 1. It pays where the judge answered more pairs than people did: on people's own pairs it
only says what they said. These are taken for a random part of all pairs.

Different from Lee et al.: the interval is by bootstrap over dialogues, which draws judge's and people's answers
together; both orders of a pair are averaged first, a judge's ties count half, and pairs in which people see a tie are
no part of q0 and q1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localemp.studies.stats.intervals import Bootstrap, Estimate, Numbers, ratio
from localemp.studies.stats.judged import PairChoice, both_orders

NO_CALIBRATION = "people preferred each of the two in no pair, so the judge's errors are not known"
NO_BETTER = "the judge is no better than chance on people's answers"


@dataclass(frozen=True, slots=True)
class CorrectedWinRate:
    """How often the first of two systems wins.

    Attributes:
        first: One system.
        second: The other.
        pairs: That the judge answered.
        answered: By people, with a preference.
        judged: The judge's share for the first.
        sensitivity: Its share for the first where people prefer the first.
        specificity: Its share for the second where people prefer the second.
        corrected: The share that people would have for the first.
    """

    first: str
    second: str
    pairs: int
    answered: int
    judged: Estimate
    sensitivity: Estimate
    specificity: Estimate
    corrected: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        told = {name: getattr(self, name) for name in ("first", "second", "pairs", "answered")}
        figures = ("judged", "sensitivity", "specificity", "corrected")
        return {**told, **{name: getattr(self, name).as_dict() for name in figures}}


def corrected_win_rates(choices: Sequence[PairChoice], bootstrap: Bootstrap) -> list[CorrectedWinRate]:
    """Correct the win rates of every pair of systems, by the judge's errors on the same pair."""
    pairs: dict[tuple[str, str], list[PairChoice]] = {}
    for choice in both_orders(choices):
        pairs.setdefault((choice.first, choice.second), []).append(choice)
    return [_corrected(first, second, chosen, bootstrap) for (first, second), chosen in pairs.items()]


def _corrected(first: str, second: str, chosen: Sequence[PairChoice], bootstrap: Bootstrap) -> CorrectedWinRate:
    shares = np.array([choice.share for choice in chosen])
    prefer = np.array([0 if each.people is None else np.sign(each.people - 0.5) for each in chosen], dtype=float)
    dialogues = [choice.dialogue for choice in chosen]
    ours, theirs = (prefer > 0).astype(float), (prefer < 0).astype(float)
    units = np.column_stack([np.ones_like(shares), shares, ours, shares * ours, theirs, (1 - shares) * theirs])

    def figures(sums: Numbers) -> Numbers:
        pairs, won, first, hits, second, rejections = sums.T
        judged, sensitivity, specificity = ratio(won, pairs), ratio(hits, first), ratio(rejections, second)
        better = sensitivity + specificity - 1
        corrected = np.where(better > 0, np.clip(ratio(judged + specificity - 1, better), 0, 1), np.nan)
        return np.column_stack([judged, sensitivity, specificity, corrected])

    reasons = ["", *[NO_CALIBRATION] * 2, NO_CALIBRATION if not (ours.any() and theirs.any()) else NO_BETTER]
    found = [
        estimate if estimate.value is not None else Estimate(None, reason=reason)
        for estimate, reason in zip(bootstrap.of_sums(units, figures, dialogues), reasons, strict=True)
    ]
    return CorrectedWinRate(first, second, len(chosen), int((prefer != 0).sum()), *found)
